"""A snapshot of a command continues at its checkpoint, and is a normal handler."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import wasmtime

from tests.support.server import run_wagi, serving
from tests.support.toolchains import EXAMPLES, HANDLERS, compiled, tool
from wagi.guest.binary import initial_sizes
from wagi.guest.snapshot.command import snapshot_command
from wagi.guest.snapshot.errors import SnapshotError
from wagi.guest.snapshot.program import Directory, Program

WASI = "wasi_snapshot_preview1"


def command(body: str, parts: str = "", imports: str = "") -> bytes:
    """Make a command that works before it reads stdin."""
    return bytes(
        wasmtime.wat2wasm(f"""(module
          (import "{WASI}" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
          (import "{WASI}" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
          {imports}
          (memory (export "memory") 1)
          {parts}
          (func (export "_start") {body}))""")
    )


READ = """
  (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 32))
  (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))"""
STATE = command(
    """(local $a i32) (local $b i64) (local $c f64)
      (local.set $a (i32.const 7)) (local.set $b (i64.const -9)) (local.set $c (f64.const 1.5))
      (global.set $total (i32.const 40))
      (call_indirect (param i32) (i32.const 2) (i32.const 0))
      ;; what is printed depends on locals, globals, memory, and on what was read
      (i32.store8 (i32.const 200) (i32.add (local.get $a) (i32.const 48)))
      (i32.store8 (i32.const 201) (i32.sub (i32.const 48) (i32.wrap_i64 (local.get $b))))
      (i32.store8 (i32.const 202) (i32.trunc_f64_s (f64.mul (local.get $c) (f64.const 40))))
      (i32.store8 (i32.const 203) (i32.add (global.get $total) (i32.load (i32.const 300))))
      (i32.store8 (i32.const 204) (i32.load8_u (i32.const 64)))
      (i32.store (i32.const 0) (i32.const 200)) (i32.store (i32.const 4) (i32.const 5))
      (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))""",
    f"""(table 1 funcref) (elem (i32.const 0) $work)
      (global $total (mut i32) (i32.const 0))
      (func $work (param $n i32) (local $i i32)
        (loop $again
          (i32.store (i32.const 300) (i32.add (i32.load (i32.const 300)) (local.get $n)))
          (global.set $total (i32.add (global.get $total) (i32.const 1)))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $again (i32.lt_u (local.get $i) (i32.const 4))))
        {READ}
        (global.set $total (i32.add (global.get $total) (local.get $i))))""",
)


def snapshot(wasm: bytes, checkpoint: str = "") -> tuple[bytes, str]:
    made, where = snapshot_command(wasm, Program(checkpoint=checkpoint), tool("wasm-opt"))
    return made, where.name


def run(wasm: bytes, stdin: bytes, folder: Path, arguments: tuple[str, ...] = ()) -> bytes:
    """Run a command with another runtime than that of the gateway."""
    (folder / "stdin").write_bytes(stdin)
    engine = wasmtime.Engine()
    store, linker = wasmtime.Store(engine), wasmtime.Linker(engine)
    wasi = wasmtime.WasiConfig()
    wasi.argv = list(arguments)
    wasi.stdin_file, wasi.stdout_file = str(folder / "stdin"), str(folder / "stdout")
    store.set_wasi(wasi)
    linker.define_wasi()
    start = linker.instantiate(store, wasmtime.Module(engine, wasm)).exports(store)["_start"]
    assert isinstance(start, wasmtime.Func)
    start(store)
    return (folder / "stdout").read_bytes()


def test_all_of_the_state_is_kept(tmp_path: Path) -> None:
    """Locals of all functions on the stack, globals, memory; stdin is that of each run."""
    made, checkpoint = snapshot(STATE)
    assert checkpoint == "fd_read"
    for stdin in (b"A", b"B"):
        assert run(made, stdin, tmp_path) == run(STATE, stdin, tmp_path) == b"79<\x38" + stdin
    exports = {item.name for item in wasmtime.Module(wasmtime.Engine(), made).exports}
    assert exports == {"memory", "_start"}


def test_the_work_is_not_repeated() -> None:
    """The loop before the checkpoint is not run again."""
    made, _ = snapshot(
        command(
            f"""(local $i i32)
              (loop $again (br_if $again (i32.lt_u (local.tee $i
                (i32.add (local.get $i) (i32.const 1))) (i32.const 1000000)))) {READ}"""
        )
    )
    config = wasmtime.Config()
    config.consume_fuel = True
    engine = wasmtime.Engine(config)
    store, linker = wasmtime.Store(engine), wasmtime.Linker(engine)
    store.set_wasi(wasmtime.WasiConfig())
    linker.define_wasi()
    store.set_fuel(10_000)
    start = linker.instantiate(store, wasmtime.Module(engine, made)).exports(store)["_start"]
    assert isinstance(start, wasmtime.Func)
    start(store)


def test_the_stack_takes_a_page() -> None:
    """The memory of the new module is larger by what the saved stack needs, not by a mebibyte."""
    made, _ = snapshot(STATE)
    assert initial_sizes(made).memories[0] == initial_sizes(STATE).memories[0] + 65536


GET_RANDOM = f'(import "{WASI}" "random_get" (func $random (param i32 i32) (result i32)))'
GET_TIME = f'(import "{WASI}" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))'
GET_PREOPEN = f'(import "{WASI}" "fd_prestat_get" (func $preopen (param i32 i32) (result i32)))'
FIRST_CALLS = {
    "random_get": (GET_RANDOM, "(drop (call $random (i32.const 500) (i32.const 8)))"),
    "clock_time_get": (
        GET_TIME,
        "(drop (call $time (i32.const 0) (i64.const 1) (i32.const 500)))",
    ),
    "fd_write": (
        "",
        "(drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 8)))",
    ),
    "fd_read": (
        f"{GET_TIME} {GET_PREOPEN}",
        "(drop (call $time (i32.const 1) (i64.const 1) (i32.const 500)))"
        "(drop (call $preopen (i32.const 3) (i32.const 500)))",
    ),
}


@pytest.mark.parametrize("name", FIRST_CALLS)
def test_the_checkpoint_is_the_first_call_that_depends_on_a_request(name: str) -> None:
    """Random numbers, the time of day and output do; monotonic time and volumes do not."""
    imports, call = FIRST_CALLS[name]
    assert snapshot(command(call + READ, imports=imports))[1] == name


def test_a_chosen_checkpoint() -> None:
    imports, call = FIRST_CALLS["random_get"]
    assert snapshot(command(call + READ, imports=imports), "fd_read")[1] == "fd_read"


BAD: dict[str, tuple[str, str | bytes]] = {
    "no wasm at all": ("not a WebAssembly file", b"no wasm at all"),
    "no memory": ("does not define a memory", '(module (func (export "_start")))'),
    "threads": (
        "memory is shared",
        '(module (memory 1 1 shared) (func (export "_start")))',
    ),
    "exceptions": (
        "uses exceptions",
        '(module (memory 1) (tag (param i32)) (func (export "_start")))',
    ),
    "garbage collection": (
        "garbage-collected types",
        '(module (type (struct (field i32))) (memory 1) (func (export "_start")))',
    ),
    "no request": (
        "exited with status 0 before any call that depends on the request",
        '(module (memory 1) (func (export "_start")))',
    ),
    "an early exit": (
        "exited with status 3 before any call that depends on the request",
        f"""(module (import "{WASI}" "proc_exit" (func $exit (param i32)))
          (memory 1) (func (export "_start") (call $exit (i32.const 3))))""",
    ),
    "a trap": (
        "trapped before its checkpoint",
        '(module (memory 1) (func (export "_start") unreachable))',
    ),
    "a full memory": (
        "memory cannot grow by 1 MiB",
        f"""(module (import "{WASI}" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1 2) (func (export "_start")
            (drop (call $read (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8)))))""",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_modules_without_a_snapshot(tmp_path: Path, name: str) -> None:
    """One message with the file and the reason; exit status 2."""
    tool("wasm-opt")
    reason, content = BAD[name]
    wasm = content if isinstance(content, bytes) else bytes(wasmtime.wat2wasm(content))
    (tmp_path / "bad.wasm").write_bytes(wasm)
    done = run_wagi(tmp_path, "snapshot", "bad.wasm", "-o", "out.wasm")
    assert done.returncode == 2
    assert done.stderr.startswith("error: bad.wasm: ")
    assert reason in " ".join(done.stderr.split())
    assert len(done.stderr.splitlines()) <= 3
    assert not (tmp_path / "out.wasm").exists()


def test_open_files(tmp_path: Path) -> None:
    """A descriptor cannot be part of a snapshot."""
    wasm = command(
        f"""(drop (call $open (i32.const 3) (i32.const 0) (i32.const 400) (i32.const 4)
          (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 500))) {READ}""",
        '(data (i32.const 400) "file")',
        f"""(import "{WASI}" "path_open" (func $open
          (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))""",
    )
    (tmp_path / "file").touch()
    program = Program(directories=(Directory(tmp_path, "/"),), checkpoint="fd_read")
    with pytest.raises(SnapshotError, match=r"holds open files at its checkpoint.*: file"):
        snapshot_command(wasm, program, tool("wasm-opt"))


INVALID = {
    "an array": """
        (drop (call $fd_write (i32.const 1) (i32.const 65530) (i32.const 1) (i32.const 8)))""",
    "a buffer": """(i32.store (i32.const 0) (i32.const -1)) (i32.store (i32.const 4) (i32.const 9))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))""",
    "a result": "(drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const -4)))",
    "random bytes": "(drop (call $random (i32.const 0) (i32.const -1)))",
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_addresses(name: str) -> None:
    """The host checks every address and size of the module."""
    wasm = command(INVALID[name] + READ, imports=GET_RANDOM)
    with pytest.raises(SnapshotError, match="invalid address"):
        snapshot_command(wasm, Program(checkpoint="fd_read"), tool("wasm-opt"))


def test_too_many_buffers() -> None:
    """A call with more buffers than POSIX allows fails, and the module continues."""
    call = "(drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 5000) (i32.const 8)))"
    assert snapshot(command(call + READ), "fd_read")[1] == "fd_read"


def test_a_missing_tool(tmp_path: Path) -> None:
    (tmp_path / "state.wasm").write_bytes(STATE)
    done = run_wagi(
        tmp_path, "snapshot", "state.wasm", "-o", "out.wasm", environment={"PATH": str(tmp_path)}
    )
    assert done.returncode == 1
    assert "requires wasm-opt of Binaryen, which was not found: install it" in " ".join(
        done.stderr.split()
    )


MANIFEST = """
[[module]]
route = "/plain"
module = "plain.wasm"
[[module]]
route = "/snapshot"
module = "snapshot.wasm"
"""


@pytest.mark.parametrize("source", [HANDLERS / "cgi_library.go", EXAMPLES / "c/echo.c"])
def test_a_real_handler(tmp_path: Path, source: Path) -> None:
    """Made with `wagi snapshot`, from unmodified programs: the same responses."""
    tool("wasm-opt")
    (tmp_path / "plain.wasm").write_bytes(compiled(source).read_bytes())
    done = run_wagi(tmp_path, "snapshot", "plain.wasm", "-o", "snapshot.wasm")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"snapshot\.wasm: [\d,]+ bytes, checkpoint: \w+\n", done.stdout)
    with serving(tmp_path, MANIFEST) as server:
        for body in (b"name=Ann", b"name=Bob", b"x" * 100_000):
            headers = [("Content-Type", "application/x-www-form-urlencoded")]
            plain = server.post("/plain", body, headers=headers)
            made = server.post("/snapshot", body, headers=headers)
            assert plain.status == made.status == 200, server.log
            assert made.text.replace("/snapshot", "/plain") == plain.text
