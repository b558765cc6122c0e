"""A snapshot of a reactor starts in the state after its initialization, and is a normal handler."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from tests.support.server import run_wagi, serving
from tests.support.toolchains import EXAMPLES, HANDLERS, c_reactor, go_reactor
from wagi.guest.snapshot.errors import SnapshotError
from wagi.guest.snapshot.reactor import snapshot_reactor
from wagi.guest.snapshot.state import split_memory

MANIFEST = """
[[module]]
route = "/plain"
module = "plain.wasm"
entrypoint = "handle"
[[module]]
route = "/snapshot"
module = "snapshot.wasm"
entrypoint = "handle"
"""


def cpu_milliseconds(log: list[str], path: str) -> list[float]:
    lines = [line for line in log if f"GET {path}?" in line]
    return sorted(float(re.findall(r"cpu_ms=([\d.]+)", line)[0]) for line in lines)


@pytest.mark.parametrize("language", ["c", "go"])
def test_a_real_handler(tmp_path: Path, language: str) -> None:
    """Made with `wagi snapshot`: the same responses, from fresh instances, much faster."""
    if language == "c":
        module = c_reactor(HANDLERS / "reactor.c")
    else:
        module = go_reactor(EXAMPLES / "go-snapshot/main.go")
    (tmp_path / "plain.wasm").write_bytes(module.read_bytes())
    done = run_wagi(tmp_path, "snapshot", "plain.wasm", "-o", "snapshot.wasm")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"snapshot\.wasm: [\d,]+ bytes, initialized by _initialize\n", done.stdout)
    with serving(tmp_path, MANIFEST) as server:
        for name in ("a", "b", "c", "d", "e"):
            plain = server.get(f"/plain?name={name}")
            assert plain.status == 200, server.log
            assert name in plain.text
            assert server.get(f"/snapshot?name={name}").text == plain.text
        server.wait_for_access(r"/snapshot\?name=e")
        plain_times = cpu_milliseconds(server.access_log, "/plain")
        snapshot_times = cpu_milliseconds(server.access_log, "/snapshot")
    # Measured: at most a tenth.
    assert snapshot_times[0] < plain_times[0]


# Exports its state; _initialize changes all of it.
STATE = """(module
  (memory (export "memory") 1 10)
  (global $a (mut i32) (i32.const 1)) (global $b (mut i64) (i64.const 1))
  (global $c (mut f32) (f32.const 1)) (global $d (mut f64) (f64.const 1))
  (global $fixed i32 (i32.const 42))
  (data (i32.const 8) "before") (data $passive "passive")
  (start $start)
  (func $start (i32.store (i32.const 100) (i32.add (i32.load (i32.const 100)) (i32.const 1))))
  (func (export "_initialize")
    (global.set $a (i32.const -7)) (global.set $b (i64.const -5000000000))
    (global.set $c (f32.const 0.1)) (global.set $d (f64.const -1e300))
    (drop (memory.grow (i32.const 3)))
    (i32.store8 (i32.const 8) (i32.const 66))
    (i32.store (i32.const 262140) (i32.const -1)))
  (func (export "a") (result i32) (global.get $a)) (func (export "b") (result i64) (global.get $b))
  (func (export "c") (result f32) (global.get $c)) (func (export "d") (result f64) (global.get $d))
  (func (export "fixed") (result i32) (global.get $fixed))
  (func (export "passive")
    (memory.init $passive (i32.const 1000) (i32.const 0) (i32.const 7)) (data.drop $passive)))"""


def state(wasm: bytes, initialize: bool) -> tuple[object, ...]:
    store = wasmtime.Store()
    module = wasmtime.Module(store.engine, wasm)
    exports = wasmtime.Instance(store, module, []).exports(store)

    def call(name: str) -> object:
        function = exports[name]
        assert isinstance(function, wasmtime.Func)
        return function(store)

    if initialize:
        call("_initialize")
    call("passive")
    memory = exports["memory"]
    assert isinstance(memory, wasmtime.Memory)
    values = [call(name) for name in ("a", "b", "c", "d", "fixed")]
    return (bytes(memory.read(store)), *values)


def test_all_of_the_state_is_kept() -> None:
    """Memory and its size, all kinds of globals, passive segments; the start function ran once."""
    wasm = bytes(wasmtime.wat2wasm(STATE))
    made = snapshot_reactor(wasm)
    assert state(made, initialize=False) == state(wasm, initialize=True)
    exported = {item.name for item in wasmtime.Module(wasmtime.Engine(), made).exports}
    assert exported == {"memory", "a", "b", "c", "d", "fixed", "passive"}


@given(
    st.lists(st.tuples(st.integers(0, 300_000), st.binary(min_size=1, max_size=200)), max_size=9)
)
def test_segments_contain_the_memory(pieces: list[tuple[int, bytes]]) -> None:
    memory = bytearray(5 * 65536)
    for at, content in pieces:
        memory[at : at + len(content)] = content
    again = bytearray(len(memory))
    for at, content in split_memory(bytes(memory)):
        again[at : at + len(content)] = content
    assert again == memory


BAD: dict[str, tuple[str, str | bytes]] = {
    "no wasm at all": ("not a valid module", b"no wasm at all"),
    "no memory": ("does not define a memory", '(module (func (export "_initialize")))'),
    "two memories": (
        "more than one memory",
        '(module (memory 1) (memory 1) (func (export "_initialize")))',
    ),
    "a memory from outside": (
        "imports a table or a memory",
        '(module (import "a" "b" (memory 1)) (func (export "_initialize")))',
    ),
    "no start": (
        "does not export the function '_initialize': build a reactor (it exports: run)",
        '(module (memory 1) (func (export "run")))',
    ),
    "a trap": (
        "initialization without access to the host failed",
        '(module (memory 1) (func (export "_initialize") unreachable))',
    ),
    "an unknown import": (
        "initialization without access to the host failed",
        '(module (import "a" "b" (func)) (memory 1) (func (export "_initialize")))',
    ),
    "a table that grows": (
        "changes its tables",
        '(module (memory 1) (table 1 funcref) (func (export "_initialize")'
        " (drop (table.grow (ref.null func) (i32.const 1)))))",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_modules_without_a_snapshot(tmp_path: Path, name: str) -> None:
    """One message with the file and the reason; exit status 2."""
    reason, content = BAD[name]
    wasm = content if isinstance(content, bytes) else bytes(wasmtime.wat2wasm(content))
    with pytest.raises(SnapshotError, match=re.escape(reason)):
        snapshot_reactor(wasm)
    (tmp_path / "bad.wasm").write_bytes(wasm)
    done = run_wagi(tmp_path, "snapshot", "bad.wasm", "-o", "out.wasm")
    assert done.returncode == 2
    assert done.stderr.startswith("error: bad.wasm: ")
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.wasm").exists()


def test_missing_files(tmp_path: Path) -> None:
    done = run_wagi(tmp_path, "snapshot", "missing.wasm", "-o", "out.wasm")
    assert (done.returncode, done.stdout) == (2, "")
    assert "missing.wasm: cannot be read: No such file" in done.stderr
    (tmp_path / "state.wasm").write_bytes(bytes(wasmtime.wat2wasm(STATE)))
    done = run_wagi(tmp_path, "snapshot", "state.wasm", "-o", "nowhere/out.wasm")
    assert done.returncode == 1
    assert "nowhere/out.wasm: cannot be written" in done.stderr
