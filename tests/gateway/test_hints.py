"""Hints for typical mistakes, in the log or at startup."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.server import run_wagi, write_files
from tests.support.toolchains import HANDLERS, c_reactor
from tests.support.wat import TEXT_HEAD, Program, printing

GROWS = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
    (drop (call $w (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 0)))
    (unreachable)))"""


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (printing("Hello, world!\n"), "output begins with 'Hello, world!\\n': expected headers"),
        (printing("Content-Type: text/plain\nHi"), "begins with 'Content-Type: text/plain\\nHi'"),
        (printing("X-Other: 1\n\nbody"), "its output begins with 'X-Other: 1\\n\\nbody'"),
        (printing(""), "check that it writes to stdout, and flushes it"),
        (Program().write(TEXT_HEAD + "x", fd=2).wat(), "it wrote to stderr, but a response has"),
        (Program().exit(0).wat(), "check that it writes to stdout"),
        (Program().write("no", fd=2).exit(1).wat(), "status 1: see its stderr for the reason"),
        (Program().exit(2).wat(), "it exited with status 2: it wrote nothing to stderr"),
        (GROWS, "memory_limit is 268435456 and may be too low."),
    ],
    ids=["no-header", "no-empty-line", "no-content-type", "nothing", "stderr", "exit", "error",
         "status", "memory"],
)  # fmt: skip
def test_hints_about_the_output(tmp_path: Path, module: str, message: str) -> None:
    write_files(tmp_path, {"m.wat": module})
    done = run_wagi(tmp_path, "run", "m.wat")
    assert done.returncode == 1
    assert message in done.stderr
    assert message not in done.stdout


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ('(module (memory 1) (func (export "run")))', "was it built for wasm32-unknown-unknown?"),
        (c_reactor, "it is a reactor: set entrypoint to the function that handles requests"),
        ('(module (import "wasi_snapshot_preview1" "sched_yield" (func (result i32))))',
         "was it built as a library? Build a program"),
        ('(module (import "wbg" "__wbindgen_x" (func)))', "built for the browser (wbindgen)"),
        (b"\0asm\x0d\0\x01\0", "this is a component (WASI preview 2)"),
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
