"""Components that misuse the host calls of WASI preview 2, beside a route that works."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.components import ALLOCATOR, GREETING, component, native_command
from tests.support.server import Server, manifest_of, serving

_PRINT = "(call $print (call $get) (i32.const 16) (i32.const 49) (i32.const 0)) (i32.const 0)"
_ALLOCATE = '(func (export "allocate") (param i32 i32 i32 i32) (result i32)'
_USE = "(call $environment (i32.const 0)) (i32.const 0)"
HOSTILE = {
    "a string outside of the memory": (
        "(call $print (call $get) (i32.const 131072) (i32.const 1) (i32.const 0)) (i32.const 0)",
        ALLOCATOR,
    ),
    "a length that wraps": (
        "(call $print (call $get) (i32.const -16) (i32.const 32) (i32.const 0)) (i32.const 0)",
        ALLOCATOR,
    ),
    "a result outside of the memory": (
        "(call $arguments (i32.const -4)) (i32.const 0)",
        ALLOCATOR,
    ),
    "a list of handles outside of the memory": (
        "(call $poll (i32.const 131000) (i32.const 1000) (i32.const 0)) (i32.const 0)",
        ALLOCATOR,
    ),
    "an endless list of handles": (
        "(call $poll (i32.const 0) (i32.const -1) (i32.const 0)) (i32.const 0)",
        ALLOCATOR,
    ),
    "a handle that does not exist": (
        "(call $block (i32.const 77)) (i32.const 0)",
        ALLOCATOR,
    ),
    "a handle of another kind": (
        "(call $block (call $get)) (i32.const 0)",
        ALLOCATOR,
    ),
    "handles without end": ("(loop $l (drop (call $get)) (br $l)) (i32.const 0)", ALLOCATOR),
    "pollables without end": (
        "(loop $l (drop (call $after (i64.const 0))) (br $l)) (i32.const 0)",
        ALLOCATOR,
    ),
    "a write that was not granted": (
        "(call $write (call $get) (i32.const 0) (i32.const 1) (i32.const 0)) (i32.const 0)",
        ALLOCATOR,
    ),
    "an allocator that lies": (_USE, f"{_ALLOCATE} (i32.const -8))"),
    "an allocator that is misaligned": (_USE, f"{_ALLOCATE} (i32.const 4097))"),
    "an allocator that traps": (_USE, f"{_ALLOCATE} unreachable)"),
    "an allocator that never returns": (_USE, f"{_ALLOCATE} (loop $l (br $l)) (i32.const 0))"),
    "an allocator that calls the host": (
        _USE,
        f"{_ALLOCATE} (call $arguments (i32.const 0)) (i32.const 4096))",
    ),
    "an allocator that waits": (
        _USE,
        f"{_ALLOCATE} (call $block (call $after (i64.const 1000000000))) (i32.const 4096))",
    ),
    "an allocator that recurses": (
        _USE,
        f"""(func $again {_ALLOCATE[6:]} (call $again (local.get 0) (local.get 1) (local.get 2)
          (local.get 3)))""",
    ),
}
_SPIN = "(loop $l (br $l)) (i32.const 0)"
_SLEEP = f"(call $block (call $after (i64.const 300000000))) {_PRINT}"
_ALLOCATE_FOREVER = """(loop $l (call $environment (i32.const 0))
  (global.set $next (i32.const 4096)) (br $l)) (i32.const 0)"""


def _text(index: int) -> bytes:
    code, allocator = list(HOSTILE.values())[index]
    return component(native_command(code, allocator))


@pytest.fixture(scope="module", name="server", params=["required", "off"])
def _server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    modules: dict[str, str | bytes] = {
        f"hostile-{index}.wasm": _text(index) for index in range(len(HOSTILE))
    }
    modules |= {
        "hello.wasm": component(native_command(_PRINT)),
        "spin.wasm": component(native_command(_SPIN)),
        "allocate.wasm": component(native_command(_ALLOCATE_FOREVER)),
        "sleep.wasm": component(native_command(_SLEEP)),
    }
    manifest = manifest_of(modules).replace("[[module]]", "[[module]]\ntimeout = 5\n")
    folder: Path = tmp_path_factory.mktemp("preview2")
    environment = {"WAGI_CORE": request.param}
    with serving(folder, manifest, modules=modules, environment=environment) as server:
        yield server


@pytest.mark.parametrize("name", HOSTILE)
def test_misuse_is_a_trap(server: Server, name: str) -> None:
    """The request fails, and the next ones are answered."""
    started = time.monotonic()
    response = server.get(f"/hostile-{list(HOSTILE).index(name)}")
    assert response.status == 500
    assert time.monotonic() - started < 3
    assert server.get("/hello").text == GREETING.partition("\\n\\n")[2].replace("\\n", "\n")


@pytest.mark.parametrize("path", ["/spin", "/allocate"])
def test_busy_components_leave_time_to_others(server: Server, path: str) -> None:
    """Beside eight of them, which never end, a request takes milliseconds."""
    threads = [threading.Thread(target=server.get, args=(path,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    took = []
    for _ in range(20):
        started = time.monotonic()
        assert server.get("/hello").status == 200
        took.append(time.monotonic() - started)
    for thread in threads:
        thread.join()
    assert sorted(took)[len(took) // 2] < 0.1


def test_sleeping_components_sleep_together(server: Server) -> None:
    threads = [threading.Thread(target=server.get, args=("/sleep",)) for _ in range(8)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.3 <= time.monotonic() - started < 1.5  # one after the other would be 2.4 s
