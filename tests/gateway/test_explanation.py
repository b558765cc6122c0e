"""Explanations of failures, and hints for typical mistakes, in the log or at startup."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.server import run_wagi, serving, write_files
from tests.support.toolchains import HANDLERS, c_reactor, compiled
from tests.support.wat import SPIN, TEXT_HEAD, Program, printing
from wagi.gateway.explanation import (
    GuestFacts,
    describe_exit,
    explain_error_response,
    explain_output,
    explain_timeout,
    explain_trap,
)
from wagi.guest.backtrace import make_frame
from wagi.guest.outcome import Exit, Outcome, Returned, Trap

GROWS = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
    (drop (call $w (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 0)))
    (unreachable)))"""
HEADERS = "\n    hint: expected headers such as Content-Type: text/plain, then an empty line"
UNREACHABLE = "wasm `unreachable` instruction executed"


def facts(
    outcome: Outcome | None = None,
    output: bytes = b"",
    stderr: bytes = b"",
    memory: int = 0,
    lacks_volumes: bool = False,
    entry: str = "modules.toml:2",
) -> GuestFacts:
    return GuestFacts(outcome, output, stderr, memory, 1000, lacks_volumes, entry)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (printing("Hello, world!\n"), f"output begins with 'Hello, world!\\n'{HEADERS}"),
        (printing("Content-Type: text/plain\nHi"), "begins with 'Content-Type: text/plain\\nHi'"),
        (printing("X-Other: 1\n\nbody"), "its output begins with 'X-Other: 1\\n\\nbody'"),
        (printing(""), "check that it writes to stdout, and flushes it"),
        (Program().write(TEXT_HEAD + "x", fd=2).wat(), "it wrote to stderr only"),
        (Program().exit(0).wat(), "check that it writes to stdout"),
        (Program().write("no", fd=2).exit(1).wat(), "status 1: see its stderr for the reason"),
        (Program().exit(2).wat(), "it exited with status 2: it wrote nothing to stderr"),
        (GROWS, "memory_limit is 268435456 and may be too low"),
        (Program().write("Con").sleep(30).write("tent-Type: x\nHi").sleep(200).wat(),
         f"its output begins with 'Content-Type: x\\nHi'{HEADERS}"),
    ],
    ids=["no-header", "no-empty-line", "no-content-type", "nothing", "stderr", "exit", "error",
         "status", "memory", "slow"],
)  # fmt: skip
def test_hints_about_the_output(tmp_path: Path, module: str, message: str) -> None:
    """One message, after what the handler wrote to stderr."""
    write_files(tmp_path, {"m.wat": module})
    done = run_wagi(tmp_path, "run", "m.wat")
    assert done.returncode == 1
    assert message in done.stderr
    assert message not in done.stdout
    assert done.stderr.count("error: ") == 1
    assert "warning: " not in done.stderr


def test_output_before_a_time_limit(tmp_path: Path) -> None:
    """The handler writes no empty line after its headers, and keeps running."""
    module = Program().write("Content-Type: text/plain\n").code(SPIN).wat()
    manifest = '[[module]]\nroute = "/"\nmodule = "m.wat"\ntimeout = 0.2\n'
    write_files(tmp_path, {"m.wat": module, "modules.toml": manifest})
    done = run_wagi(tmp_path, "call", "/")
    assert "exceeded its time limit of 0.2 s (timeout); no header block was com" in done.stderr
    assert f"its output begins with 'Content-Type: text/plain\\n'{HEADERS}" in done.stderr
    assert "did not answer in time (timeout)." in done.stdout


def test_a_handler_without_volumes(tmp_path: Path) -> None:
    """In C, with a message, without one, and in a response of its own; and with the volume."""
    module = compiled(HANDLERS / "missing_file.c").read_bytes()
    manifest = '[[module]]\nroute = "/bare/..."\nmodule = "m.wasm"\n\n' + (
        '[[module]]\nroute = "/..."\nmodule = "m.wasm"\nvolumes = {"/data" = "data"}\n'
    )
    write_files(tmp_path, {"data/file": "x"})
    why = "finds no files, because its entry (modules.toml:1) has no volumes: add volumes = {"
    with serving(tmp_path, manifest, modules={"m.wasm": module}) as server:
        assert server.get("/bare/x?message").status == 500
        log = server.wait_for_log("GET /bare/x.message, .*exited with status 1(.*\n)+? +hint: .*")
        assert why in log
        server.get("/bare/x?silent")
        server.wait_for_log(r"GET /bare/x.silent, (.*\n)+? +hint: if it opens files, it finds none")
        server.get("/bare/x?response")
        server.wait_for_log("GET /bare/x.response, .*the handler reports an error: the handler fin")
        assert server.get("/y?message").text == "found"
        assert "GET /y" not in server.log


@pytest.mark.fast
def test_traps() -> None:
    """The cause comes first, then the functions of the handler, then those of libraries."""
    frames = tuple(make_frame(name, "") for name in ("abort", "look", "main", "_start"))
    trap = Trap(UNREACHABLE, frames)
    assert str(explain_trap(facts(trap), trap)) == (
        f"trap: {UNREACHABLE}\nlook\nmain\nlibrary functions on the stack:\n    abort\n    _start"
    )
    failure = explain_trap(facts(trap, stderr=b"panic: no cart\n"), trap)
    assert str(failure).startswith(f"panic: no cart\ntrap: {UNREACHABLE}\nlook\n")
    trap = Trap("out of bounds memory access (at 7)", frames)
    assert "an index lies outside" in explain_trap(facts(trap), trap).hint
    trap = Trap(UNREACHABLE, (make_frame("wasm function 3", ""),))
    assert "have no names" in explain_trap(facts(trap), trap).hint
    assert "memory_limit is 1000" in explain_trap(facts(trap, memory=950), trap).hint


@pytest.mark.fast
@pytest.mark.parametrize(
    ("status", "stderr", "meaning"),
    [
        (1, b"", ""),
        (2, b"usage: x\n", ""),
        (2, b"panic: x\n\ngoroutine 1 [running]:\n", ", a panic in Go"),
        (101, b"", ", a panic in Rust"),
        (134, b"", ", abort(), as after a failed assertion"),
        (255, b"", ", exit(-1), or an abort in AssemblyScript"),
        (-1, b"", ", exit(-1)"),
    ],
)
def test_exit_statuses(status: int, stderr: bytes, meaning: str) -> None:
    assert describe_exit(status, stderr) == f"exited with status {status}{meaning}"


@pytest.mark.fast
def test_a_panic_that_exits() -> None:
    """Its message is the cause."""
    stderr = b"panic: no cart\n\ngoroutine 1 [running]:\nmain.main()\n\t/a/shop.go:3\n"
    failure = explain_output(facts(Exit(2), stderr=stderr), "The handler printed nothing.")
    expected = "panic: no cart\nexit status 2 without a response\nmain.main\n    at /a/shop.go:3"
    assert str(failure) == expected


@pytest.mark.fast
@pytest.mark.parametrize(
    "stderr",
    [
        "failed to find a pre-opened file descriptor through which \"x\" could be opened",
        "/data/x: No such file or directory",
        "open /data/x: Bad file number",
        "Os { code: 76, kind: Uncategorized, message: \"Capabilities insufficient\" }",
        "FileNotFoundError: [Errno 44] /data/x",
        "error: FileNotFound",
    ],
)  # fmt: skip
def test_missing_files(stderr: str) -> None:
    """In the words of C, Rust, Go, Python and Zig; only of a handler without volumes."""
    seen = facts(Exit(1), stderr=stderr.encode(), lacks_volumes=True)
    assert "(modules.toml:2) has no volumes" in explain_output(seen, "Nothing.").hint
    assert "has no volumes" in explain_trap(seen, Trap(UNREACHABLE)).hint
    assert "has no volumes" in explain_error_response(seen)
    seen = facts(Exit(1), stderr=stderr.encode(), lacks_volumes=True, entry="")
    assert "write a modules.toml with volumes = {" in explain_output(seen, "Nothing.").hint
    seen = replace(facts(Exit(1), stderr=stderr.encode(), lacks_volumes=True), is_spin=True)
    hint = explain_output(replace(seen, entry="spin.toml:9"), "Nothing.").hint
    assert hint.endswith(
        'its component (spin.toml:9) has no files: add files = [{ source = "directory",'
        ' destination = "/path/in/guest" }]'
    )
    seen = facts(Exit(1), stderr=stderr.encode())
    assert "volumes" not in explain_output(seen, "Nothing.").hint
    assert explain_error_response(seen) == ""


@pytest.mark.fast
def test_other_errors_are_no_missing_files() -> None:
    seen = facts(Exit(1), stderr=b"no such user\n", lacks_volumes=True)
    assert explain_output(seen, "Nothing.").hint == ""
    assert explain_error_response(facts(Returned(), lacks_volumes=True)) == ""
    assert explain_timeout(facts(lacks_volumes=True), "it was slow").hint == ""


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ('(module (memory 1) (func (export "run")))', "was it built for wasm32-unknown-unknown?"),
        (c_reactor, "it is a reactor: set entrypoint to the function that handles requests"),
        ('(module (import "wasi_snapshot_preview1" "sched_yield" (func (result i32))))',
         "was it built as a library? Build a program"),
        ('(module (import "wbg" "__wbindgen_x" (func)))', "built for the browser (wbindgen)"),
        (b"\0asm\x0d\0\x01\0", "this component exports neither wasi:cli/run"),
    ],
    ids=["unknown-unknown", "reactor", "library", "wbindgen", "component"],
)  # fmt: skip
def test_hints_about_the_module(tmp_path: Path, module: object, message: str) -> None:
    content = module
    if module is c_reactor:
        content = c_reactor(HANDLERS / "reactor.c").read_bytes()
    assert isinstance(content, str | bytes)
    write_files(tmp_path, {"m.wasm": content})
    done = run_wagi(tmp_path, "run", "m.wasm")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
