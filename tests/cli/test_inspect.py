"""wagi inspect: the properties of a module."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import ROOT, run_wagi, write_files
from tests.support.toolchains import EXAMPLES, HANDLERS, c_reactor, compiled
from wagi.guest.capi.engine import wat_to_wasm


def facts(path: Path) -> dict[str, Any]:
    done = run_wagi(path.parent, "inspect", "--json", path.name)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_command_in_rust() -> None:
    module = compiled(EXAMPLES / "rust/ask.rs")
    found = facts(module)
    assert found["kind"] == "command"
    assert found["size"] == module.stat().st_size
    assert found["digest"].startswith("sha256:")
    assert found["entrypoints"] == ["_start", "__main_void"] or "_start" in found["entrypoints"]
    assert any("Rust" in language for language in found["producers"]["language"])
    assert any("rustc" in tool for tool in found["producers"]["processed-by"])
    imports = {(item["module"], item["name"]): item for item in found["imports"]}
    http = imports["wasi_experimental_http", "req"]
    assert http["signature"] == "func(i32, i32, i32, i32, i32, i32, i32, i32, i32, i32) -> i32"
    assert all(item["provided"] for item in found["imports"])
    assert "producers" in found["custom_sections"]


def test_a_reactor_in_c() -> None:
    found = facts(c_reactor(HANDLERS / "reactor.c"))
    assert found["kind"] == "reactor"
    assert "_initialize" in found["exports"]
    assert "_start" not in found["entrypoints"]
    assert len(found["memory"]) == 1


def test_missing_imports(tmp_path: Path) -> None:
    """The reason and the remedy are those of the error at startup."""
    text = """(module
      (import "wasi:http/types@0.2.0" "x" (func))
      (import "wasi_unstable" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
      (import "wasi_experimental_http" "close" (func (param i32) (result i32)))
      (import "wasi_experimental_http" "open" (func (param i32) (result i32)))
      (memory (export "memory") 2 3) (global (export "g") i32 (i32.const 1))
      (table (export "t") 1 funcref)
      (func (export "handle")) (func (export "other") (param i32)))"""
    write_files(tmp_path, {"odd.wasm": wat_to_wasm(text)})
    done = run_wagi(tmp_path, "inspect", "odd.wasm")
    assert done.returncode == 0
    assert "kind     reactor without _initialize\n" in done.stdout
    assert "entries  handle\n" in done.stdout
    assert "  NO  x: func() -> () - this is a function of WASI preview 2" in done.stdout
    assert "  yes fd_write: func(i32, i32, i32, i32) -> i32\n" in done.stdout
    assert "  yes close: func(i32) -> i32\n" in done.stdout
    assert "  NO  open: func(i32) -> i32 - outbound HTTP has no function of this name" in (
        done.stdout
    )
    assert "  memory: memory of 2 pages, at most 3\n" in done.stdout
    assert "  g: global i32\n" in done.stdout
    assert "  t: table\n" in done.stdout
    assert "  other: func(i32) -> ()\n" in done.stdout
    assert "custom sections: none\n" in done.stdout


def test_a_component(tmp_path: Path) -> None:
    write_files(tmp_path, {"component.wasm": b"\0asm\x0d\0\x01\0"})
    found = facts(tmp_path / "component.wasm")
    assert (found["kind"], found["supported"]) == ("component", False)
    assert found["why"].startswith("this component exports neither wasi:cli/run nor")
    assert "imports" not in found


def test_text_and_damaged_producers(tmp_path: Path) -> None:
    custom = bytes([0, 14, 9]) + b"producers" + b"\xff\xff\xff\xff"
    write_files(tmp_path, {"m.wasm": wat_to_wasm("(module)") + custom, "m.wat": "(module)"})
    assert facts(tmp_path / "m.wasm")["producers"] == {}
    assert facts(tmp_path / "m.wat")["custom_sections"] == {}


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"not wasm", 1, "m.wasm: not a WebAssembly file"),
        (b"", 1, "m.wasm: not a WebAssembly file"),
        (b"\0asm\x01\0\0\0\x01\xff", 1, "m.wasm: "),
        (None, 2, "no such file: "),
    ],
)
def test_files_that_are_not_modules(
    tmp_path: Path, content: bytes | None, status: int, message: str
) -> None:
    if content is not None:
        write_files(tmp_path, {"m.wasm": content})
    done = run_wagi(tmp_path, "inspect", "m.wasm")
    assert done.returncode == status
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_the_examples_can_be_served() -> None:
    for path in sorted((ROOT / "examples/wat").glob("*.wat")):
        found = facts(path)
        assert found["kind"] == "command"
        assert all(item["provided"] for item in found["imports"])


def test_control_characters_in_names_are_escaped(tmp_path: Path) -> None:
    """The names of exports cannot move a terminal's cursor."""
    write_files(tmp_path, {"m.wasm": wat_to_wasm('(module (func (export "a\\1b[2Jb\\0ac")))')})
    done = run_wagi(tmp_path, "inspect", "m.wasm")
    assert "\x1b" not in done.stdout
    assert "  a\\x1b[2Jb\\x0ac: func() -> ()\n" in done.stdout
    write_files(tmp_path, {"modules.toml": '[[module]]\nroute = "/"\nmodule = "m.wasm"\n'})
    done = run_wagi(tmp_path, "check")
    assert "it exports: a\\x1b[2Jb" in done.stderr
    assert "\x1b" not in done.stderr
