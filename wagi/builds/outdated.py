"""Find modules that are older than the files that they are built from."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from wagi.builds.build import module_file, sources_of
from wagi.errors import Problem, WagiError
from wagi.routemap.entries import ModuleEntry, RouteMap
from wagi.routemap.reader import MODULE_SUFFIXES, find_route_map, read_route_map


def outdated_warnings(file: Path | None) -> list[Problem]:
    """Report modules that are older than the files that they are built from.

    Args:
        file: A route map, which has been loaded without an error. For a single module, its sources
            are those in the nearest modules.toml or spin.toml in its directory or above it, if
            that has an entry for it. None for a bindle, which has no sources.

    Returns:
        At most one warning.
    """
    if file is None:
        return []
    if file.suffix not in MODULE_SUFFIXES:
        route_map = read_route_map(file)
        return _outdated(route_map, route_map.modules)
    module = file.resolve()
    candidates = map(find_route_map, module.parents)
    path = next(filter(Path.is_file, candidates), None)
    if path is None:
        return []
    try:
        route_map = read_route_map(Path(os.path.relpath(path)))
    except WagiError:  # the user has not named this file
        return []
    entries = [
        entry
        for entry in route_map.modules
        if (path := module_file(entry, route_map)) and path.resolve() == module
    ]
    return _outdated(route_map, entries)


def _outdated(route_map: RouteMap, entries: Iterable[ModuleEntry]) -> list[Problem]:
    outdated: dict[Path, tuple[ModuleEntry, Path]] = {}
    for entry in entries:
        module = module_file(entry, route_map)
        if module is not None and (source := _newer_source(entry, module, route_map)):
            outdated.setdefault(module, (entry, source))
    if not outdated:
        return []
    module, (entry, source) = next(iter(outdated.items()))
    older, newer = (os.path.relpath(path, route_map.folder) for path in (module, source))
    what = f"{older} is older than {newer}"
    if len(outdated) > 1:
        what = f"{len(outdated)} modules are older than their sources: for example, {what}"
    fix = "run `wagi build`" if entry.build else "build it again"
    return [entry.location("module").problem(f"{what}: {fix}", exit_status=1)]


def _newer_source(entry: ModuleEntry, module: Path, route_map: RouteMap) -> Path | None:
    """Find a source that has changed since the module was built: the latest one."""
    with contextlib.suppress(OSError):
        built = module.stat().st_mtime_ns
        files = (path for source in sources_of(entry, route_map) for path in source.files())
        times = {path: path.stat().st_mtime_ns for path in files if path != module}
        latest = max(times, key=lambda path: times[path], default=None)
        if latest is not None and times[latest] > built:
            return latest
    return None
