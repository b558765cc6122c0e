"""Completion in real shells, with the script that ``wagi completion`` prints."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.server import ENVIRONMENT, ROOT, write_files
from tests.support.toolchains import tool

MANIFEST = """
[[module]]
route = "/hello"
module = "hello.wasm"
build = "make"
[[module]]
route = "/files/..."
module = "static/files.wasm"
[[module]]
route = "relative"
module = "x.wasm"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project, and a command ``wagi`` in its directory ``bin``."""
    script = f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m wagi "$@"\n'
    write_files(
        tmp_path,
        {
            "bin/wagi": script,
            "modules.toml": MANIFEST,
            "other.toml": '[[module]]\nroute = "/other"\nmodule = "x.wasm"\n',
            "bad.toml": "nonsense",
        },
    )
    (tmp_path / "bin/wagi").chmod(0o755)
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    path = os.pathsep.join((str(folder / "bin"), ENVIRONMENT["PATH"]))
    return {**ENVIRONMENT, "PATH": path, "HOME": str(folder), "TERM": "dumb"}


def complete_in_bash(folder: Path, line: str) -> list[str]:
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    script = (
        'eval "$(wagi completion bash)";'
        f" COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1};"
        ' _wagi_completion wagi; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        [tool("bash"), "-c", script],
        cwd=folder, env=environment(folder), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


def complete_in_fish(folder: Path, line: str) -> list[str]:
    script = f"wagi completion fish | source; complete -C '{line}'"
    done = subprocess.run(
        [tool("fish"), "--no-config", "-c", script],
        cwd=folder, env=environment(folder), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [completion.partition("\t")[0] for completion in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("wagi ser", ["serve"]),
        ("wagi serve --wat", ["--watch"]),
        ("wagi push --layout c", ["cncf"]),
        ("wagi call /", ["/hello", "/files/"]),
        ("wagi call /he", ["/hello"]),
        ("wagi call POST /f", ["/files/"]),
        ("wagi call -c other.toml /", ["/other"]),
        ("wagi call -c bad.toml /", []),
        ("wagi call -c absent.toml /", []),
        ("wagi call P", ["POST", "PUT", "PATCH"]),
        ("wagi run m.wasm D", ["DELETE"]),
        ("wagi logs /", ["/hello", "/files/..."]),
        ("wagi build he", ["hello"]),
    ],
)
def test_bash(folder: Path, line: str, expected: list[str]) -> None:
    assert complete_in_bash(folder, line) == expected


def test_fish(folder: Path) -> None:
    assert complete_in_fish(folder, "wagi ser") == ["serve"]
    assert sorted(complete_in_fish(folder, "wagi call /")) == ["/files/", "/hello"]
    assert complete_in_fish(folder, "wagi call -c other.toml /") == ["/other"]


@pytest.mark.parametrize(
    ("typed", "completed"), [("wagi call /h\t", "/hello"), ("wagi ser\t", "serve")]
)
def test_zsh(folder: Path, typed: str, completed: str) -> None:
    """At an interactive prompt: zsh completes nowhere else."""
    (folder / ".zshrc").write_text(
        "autoload -U compinit; compinit -D -u; eval \"$(wagi completion zsh)\"; PS1='ready> '\n"
    )
    shell = tool("zsh")
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        os.execve(shell, [shell, "-i"], environment(folder))
    try:
        _read_until(terminal, "ready> ")
        os.write(terminal, typed.encode())
        _read_until(terminal, completed)
    finally:
        os.close(terminal)
        os.waitpid(process, 0)


def _read_until(terminal: int, text: str) -> None:
    output = b""
    deadline = time.monotonic() + 120
    while text not in output.decode(errors="replace").replace("\b", ""):
        assert time.monotonic() < deadline, output
        output += os.read(terminal, 4096)
