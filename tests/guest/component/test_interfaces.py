"""What the gateway does not provide is explained."""

from __future__ import annotations

import pytest

from wagi.guest.component.errors import UnsupportedComponentError
from wagi.guest.component.interfaces import check_interfaces, explain_exports

pytestmark = pytest.mark.fast


def test_all_versions_0_2_are_accepted() -> None:
    check_interfaces(["wasi:cli/exit@0.2.0", "wasi:io/streams@0.2.12", "wasi:sockets/tcp@0.2.3"])
    check_interfaces([])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["wasi:cli/exit@0.2.0", "wasi:io/streams@0.2.0-rc-2023-11-10"],
            "uses a draft of WASI preview 2 (wasi:io/streams@0.2.0-rc-2023-11-10): build for WASI"
            " preview 1 (wasm32-wasip1) with current tools",
        ),
        (["wasi:cli/stdout@0.3.0"], "uses WASI preview 3 (wasi:cli/stdout@0.3.0)"),
        (["wasi:cli/stdout@0.3.0-rc-2025-09-16"], "uses WASI preview 3"),
        (["wasi:cli/stdout@1.0.0"], "uses wasi:cli/stdout@1.0.0, which is no version that"),
        (["wasi:cli/stdout"], "uses wasi:cli/stdout, which is no version that the gateway knows"),
        (
            ["fermyon:spin/key-value@2.0.0", "fermyon:spin/sqlite@2.0.0", "wasi:io/poll@0.2.0"],
            "needs Spin, which alone provides fermyon:spin/key-value@2.0.0,"
            " fermyon:spin/sqlite@2.0.0: run it with Spin, or keep state in a volume (volumes)",
        ),
        (
            ["fermyon:spin/llm@2.0.0"],
            "needs Spin, which alone provides fermyon:spin/llm@2.0.0: run it with Spin",
        ),
        (
            ["spin:key-value/key-value@3.0.0", "fermyon:spin/variables@2.0.0"],
            "run it with Spin, or keep state in a volume (volumes), or use environment variables",
        ),
        (
            ["wasi:nn/graph@0.2.0", "wasi:keyvalue/store@0.2.0-draft2", "a:b/c", "d:e/f@1.0.0"],
            "imports wasi:nn/graph@0.2.0, wasi:keyvalue/store@0.2.0-draft2, a:b/c and 1 more, which"
            " the gateway does not provide: import only WASI",
        ),
        (["print"], "imports print, which the gateway does not provide"),
    ],
)
def test_imports_that_are_not_provided(names: list[str], message: str) -> None:
    with pytest.raises(UnsupportedComponentError) as found:
        check_interfaces(names)
    assert message in str(found.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "exports neither wasi:cli/run nor wasi:http/incoming-handler, but nothing: was it"),
        (["a:b/c", "add"], "but a:b/c, add: was it built as a library? Build a program"),
        (["fermyon:spin/inbound-http"], "needs Spin, which alone provides fermyon:spin/inbound"),
        (["wasi:http/handler@0.3.0"], "uses WASI preview 3 (wasi:http/handler@0.3.0)"),
        (["wasi:http/handler@0.2.0-rc-1"], "uses a draft of WASI preview 2"),
    ],
)
def test_components_without_a_known_export(names: list[str], message: str) -> None:
    assert message in str(explain_exports(names))
