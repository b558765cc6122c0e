"""Reads the file of a route map; its extension determines the format."""

from __future__ import annotations

import re
from pathlib import Path

from wagi.config.text import suggest_file
from wagi.errors import ConfigurationError, Problem
from wagi.routemap.entries import ModuleEntry, RouteMap
from wagi.routemap.location import Location
from wagi.routemap.modules_toml import read_modules_toml
from wagi.routemap.toml_document import TomlDocument

MODULE_SUFFIXES = (".wasm", ".wat")
ROUTE_MAP_SUFFIXES = (".toml", ".yaml", ".yml", *MODULE_SUFFIXES)
MODULES_TOML = "modules.toml"
SPIN_TOML = "spin.toml"
_LANGUAGES = {
    ".c": "C",
    ".cc": "C++",
    ".cpp": "C++",
    ".go": "Go",
    ".js": "JavaScript",
    ".lua": "Lua",
    ".php": "PHP",
    ".py": "Python",
    ".rb": "Ruby",
    ".rs": "Rust",
    ".swift": "Swift",
    ".ts": "TypeScript",
    ".zig": "Zig",
}
_REFERENCE = re.compile(r"(oci:|https?:)/*(.+)", re.DOTALL)
"""A reference to a module that is not a file. ``Path`` keeps one of two slashes."""


def find_route_map(path: Path) -> Path:
    """Return the route map that a path names.

    Args:
        path: The route map, or a directory.

    Returns:
        Of a directory, its modules.toml, or its spin.toml if only that exists.
    """
    if not path.is_dir():
        return path
    modules_toml, spin_toml = path / MODULES_TOML, path / SPIN_TOML
    return spin_toml if spin_toml.is_file() and not modules_toml.exists() else modules_toml


def read_route_map(path: Path) -> RouteMap:
    """Read a modules.toml, spin.toml or pod manifest, or a module, which answers every path.

    Raises:
        ConfigurationError: With every problem.
    """
    if reference := _REFERENCE.match(str(path)):
        scheme, rest = reference.groups()
        text = f"{scheme}//{rest}" if scheme.startswith("http") else f"{scheme}{rest}"
        fix = f'name it in a modules.toml (module = "{text}"), or download it with `wagi pull`'
        raise ConfigurationError(Problem(f"{text} is not a file: {fix}"))
    if path.suffix in MODULE_SUFFIXES:
        return _single_module(path)
    if path.suffix in (".yaml", ".yml"):
        from wagi.routemap.pod import read_pods  # imports a YAML parser

        return read_pods(path)
    if path.suffix in _LANGUAGES:
        language = _LANGUAGES[path.suffix]
        raise ConfigurationError(
            Problem(
                f"{path} is {language} source code: compile it to WebAssembly (wasm32-wasip1) and"
                " serve the .wasm file, or create a project with `wagi new`"
            )
        )
    document = TomlDocument.read(path)
    if path.name == SPIN_TOML or any(key.startswith("spin_") for key in document.content):
        from wagi.routemap.spin import spin_route_map  # imports its models

        return spin_route_map(document)
    return read_modules_toml(document)


def _single_module(path: Path) -> RouteMap:
    if not path.is_file():
        raise ConfigurationError(Problem(f"no such file: {path}{suggest_file(path)}"))
    location = Location(path)
    entry = ModuleEntry(route="/...", module=path.name).located(location)
    return RouteMap([entry], path.absolute().parent, location)
