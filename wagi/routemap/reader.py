"""Reads the file of a route map; its extension determines the format."""

from __future__ import annotations

from pathlib import Path

from wagi.errors import ConfigurationError, Problem
from wagi.routemap.entries import Location, ModuleEntry, RouteMap
from wagi.routemap.modules_toml import read_modules_toml


def read_route_map(path: Path) -> RouteMap:
    """Read a modules.toml, a pod manifest, or a single module, which answers every path.

    Raises:
        ConfigurationError: With every problem.
    """
    if path.suffix in (".wasm", ".wat"):
        return _single_module(path)
    if path.suffix in (".yaml", ".yml"):
        from wagi.routemap.pod import read_pods  # imports a YAML parser

        return read_pods(path)
    return read_modules_toml(path)


def _single_module(path: Path) -> RouteMap:
    if not path.is_file():
        raise ConfigurationError(Problem(f"no such file: {path}"))
    location = Location(path)
    entry = ModuleEntry(route="/...", module=path.name).located(location)
    return RouteMap([entry], path.absolute().parent, location)
