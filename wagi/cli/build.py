"""``wagi build``: run the build commands of a route map."""

from __future__ import annotations

import difflib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from wagi.assembly import make_snapshots, stores
from wagi.builds.build import Build, builds_of
from wagi.builds.runner import run_build
from wagi.cli.completion import complete_build
from wagi.cli.console import print_error, show_progress
from wagi.cli.options import SettingsCommand, manifest_path, setting_options, settings_from
from wagi.config.settings import Settings
from wagi.errors import ConfigurationError
from wagi.observe.text import one_line
from wagi.routemap.entries import ModuleEntry, RouteMap
from wagi.routemap.reader import (
    MODULE_SUFFIXES,
    ROUTE_MAP_SUFFIXES,
    find_route_map,
    read_route_map,
)


@click.command(
    cls=SettingsCommand,
    short_help="Build the modules.",
    help="""Run the `build` commands in MODULES_TOML (default: ./modules.toml), each once, then make
    the snapshots of entries with the key `snapshot`.

    With NAMEs, build only these entries. The name of an entry is its route, or its
    module with or without directory and extension.

    `wagi serve --watch` builds automatically. This command is for CI, and for `wagi call`,
    `wagi test` and pytest, which do not build. Builds write their output to stderr. If one fails,
    the others still run, no snapshot is made, and the exit status is 1. If a snapshot cannot be
    made, there is a warning: the module itself will serve.

    \b
    Examples:
      wagi build
      wagi build hello
      wagi build deploy/modules.toml /hello /form
    """,
)
@click.argument(
    "words", nargs=-1, metavar="[MODULES_TOML] [NAME]...", shell_complete=complete_build
)
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Route map, same as MODULES_TOML.",
)
@setting_options("artefact_cache")
def build(words: tuple[str, ...], config: Path | None, **options: Any) -> None:
    """Build modules."""
    file, names = None, list(words)
    if names and _is_route_map(names[0]):
        file = Path(names.pop(0))
    path = manifest_path(file, config, Settings())
    assert path is not None  # there is no bindle
    route_map = read_route_map(path)
    builds = _select(route_map, names)
    entries = [entry for item in builds for entry in item.entries] if names else route_map.modules
    if not builds and not any(entry.snapshot for entry in entries):
        print_error("warning", f"{path}: nothing to build: no entry has the key build")
    # Exit by an exception, so that a running build is killed.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    results = [_build(item) for item in builds]
    if not all(results):
        sys.exit(1)
    if any(entry.snapshot for entry in entries):
        _make_snapshots(settings_from(options), replace(route_map, entries=tuple(entries)))


def _is_route_map(word: str) -> bool:
    path = Path(word)
    is_directory = path.is_dir() and find_route_map(path).is_file()
    is_file = path.suffix in ROUTE_MAP_SUFFIXES and path.suffix not in MODULE_SUFFIXES
    return is_file or is_directory


def _select(route_map: RouteMap, names: Sequence[str]) -> list[Build]:
    """The builds of the entries with these names; all builds if there are no names."""
    builds = list(builds_of(route_map))
    if not names:
        return builds
    known = {name for item in builds for entry in item.entries for name in _names(entry)}
    if unknown := [name for name in names if name not in known]:
        raise ConfigurationError(
            route_map.location.problem(
                f"no entry with the key build is named {name!r}{_suggest(name, known)}"
            )
            for name in unknown
        )
    return [
        item
        for item in builds
        if any(name in _names(entry) for entry in item.entries for name in names)
    ]


def _names(entry: ModuleEntry) -> tuple[str, ...]:
    path = Path(entry.module)
    return entry.route, entry.module, path.name, path.stem


def _suggest(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f": did you mean {near[0]!r}?" if near else ""


def _build(item: Build) -> bool:
    """Run a build, and report the modules that it has written. Returns: whether it succeeded."""
    click.echo(f"building: {one_line(item.command)}", err=True)
    if status := run_build(item):
        _print_problem(item, f"build: exited with status {status}: {item.command}")
        return False
    missing = [module for module in item.modules if not module.is_file()]
    for module in missing:
        _print_problem(item, f"build: {_relative(module)} is missing after: {item.command}")
    for module in item.modules:
        if module not in missing:
            click.echo(f"{one_line(_relative(module))}: {module.stat().st_size:,} bytes")
    return not missing


def _make_snapshots(settings: Settings, route_map: RouteMap) -> None:
    try:
        with stores(settings) as kept:
            found = make_snapshots(settings, route_map, kept, show_progress)
    finally:
        show_progress("")
    for entry in route_map.modules:
        state = found.get(entry.route)
        if state is not None and state.state == "used":
            click.echo(f"{one_line(entry.route)}: snapshot is up to date")
        elif state is not None:
            problem = entry.location("snapshot").problem(f"no snapshot: {state.reason}")
            print_error("warning", problem)


def _print_problem(item: Build, message: str) -> None:
    print_error("error", item.entries[0].location("build").problem(message, exit_status=1))


def _relative(path: Path) -> str:
    return os.path.relpath(path)
