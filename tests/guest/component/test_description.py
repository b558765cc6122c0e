"""Descriptions of components, and remedies for their toolchains."""

from __future__ import annotations

import pytest

from tests.support.components import COMMAND, HANDLER, component
from wagi.guest.binary import leb
from wagi.guest.component.description import describe_component, to_core_module
from wagi.guest.component.errors import UnsupportedComponentError

pytestmark = pytest.mark.fast


def name(text: str) -> bytes:
    return leb(len(text)) + text.encode()


def producers(*tools: str) -> bytes:
    """A custom section."""
    values = b"".join(name(tool) + name("1.0") for tool in tools)
    content = name("producers") + leb(1) + name("processed-by") + leb(len(tools)) + values
    return b"\0" + leb(len(content)) + content


def test_a_command() -> None:
    found = describe_component(component(COMMAND) + producers("wit-component"))
    assert (found.world, found.problem) == ("wasi:cli/command", "")
    assert found.imports == ("wasi:cli/exit@0.2.0", "wasi:random/random@0.2.3")
    assert found.exports == ("wasi:cli/run@0.2.0",)
    assert found.versions == ["0.2.0", "0.2.3"]
    assert len(found.producers) == 1


def test_a_handler() -> None:
    found = describe_component(component(HANDLER))
    assert (found.world, found.problem) == ("wasi:http/proxy", "")


def test_versions_are_sorted_by_number() -> None:
    text = COMMAND.replace("@0.2.3", "@0.2.10").replace("run@0.2.0", "run@0.2.9")
    assert describe_component(component(text)).versions == ["0.2.0", "0.2.9", "0.2.10"]


def test_components_that_cannot_run_are_described_all_the_same() -> None:
    draft = HANDLER.replace("wasi:http/types@0.2.0", "wasi:http/types@0.2.0-rc-2023-11-10")
    found = describe_component(component(draft))
    assert found.world == "wasi:http/proxy"
    assert found.problem.startswith("this component uses a draft of WASI preview 2")
    library = describe_component(component('(component (import "a:b/c" (instance)))'))
    assert (library.world, library.imports, library.versions) == ("", ("a:b/c",), [])
    assert "imports a:b/c" in library.problem
    composed = "(component (component $c (core module)) (instance (instantiate $c)))"
    assert "is composed of" in describe_component(component(composed)).problem


def test_foreign_imports_are_named_before_resources_of_its_own() -> None:
    text = """(component
      (import "fermyon:spin/llm@2.0.0" (instance))
      (type $own (resource (rep i32)))
      (core func (canon resource.new $own)) (core func (canon resource.rep $own))
      (core func (canon resource.drop $own)))"""
    assert "needs Spin" in describe_component(component(text)).problem


@pytest.mark.parametrize(
    ("tools", "remedy"),
    [
        ((), "build for WASI preview 1 (wasm32-wasip1)"),
        (("clang", "wit-component"), "build for WASI preview 1 (wasm32-wasip1)"),
        (("rustc", "wit-component"), "build it with --target wasm32-wasip1"),
        (("clang", "TinyGo"), "build it with tinygo build -target=wasip1"),
        (("rustc", "ComponentizeJS"), "build it as in `wagi new --lang javascript`"),
    ],
)
def test_the_remedy_is_that_of_the_toolchain(tools: tuple[str, ...], remedy: str) -> None:
    changes = [("wasi:http/types@0.2.3", "wasi:http/types@0.9.0")]
    with pytest.raises(UnsupportedComponentError) as found:
        to_core_module(component(HANDLER, *changes) + producers(*tools))
    assert remedy in str(found.value)
    assert "uses wasi:http/types@0.9.0, which is no version" in str(found.value)
