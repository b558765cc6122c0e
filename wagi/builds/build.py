"""The builds of a route map: their commands, sources and modules."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from wagi.errors import WagiError
from wagi.routemap.entries import ModuleEntry, RouteMap
from wagi.sources.files import resolve_path
from wagi.sources.references import FileReference, parse_reference
from wagi.sources.source_tree import SourceTree

T = TypeVar("T")
_DEFAULT_SOURCES = ("src",)


@dataclass(frozen=True, slots=True)
class Build:
    """A command that builds modules.

    Attributes:
        command: For the shell.
        folder: The working directory of the command.
        sources: The files that the modules are built from.
        modules: The files that the command writes.
        entries: The entries of the route map that name the command.
    """

    command: str
    folder: Path
    sources: tuple[SourceTree, ...]
    modules: tuple[Path, ...]
    entries: tuple[ModuleEntry, ...]

    def source_files(self) -> Iterator[Path]:
        """All files of the sources that exist."""
        return (path for source in self.sources for path in source.files())


def builds_of(route_map: RouteMap) -> tuple[Build, ...]:
    """List the builds of a route map in the order of its entries.

    A command that several entries name is one build: it is run once for all their modules.
    """
    builds: dict[tuple[str, Path], Build] = {}
    for entry in route_map.modules:
        module = module_file(entry, route_map)
        if entry.build is None or module is None:
            continue
        key = entry.build, route_map.folder_of(entry)
        known = builds.get(key, Build(*key, (), (), ()))
        builds[key] = replace(
            known,
            sources=_unique(*known.sources, *sources_of(entry, route_map)),
            modules=_unique(*known.modules, module),
            entries=(*known.entries, entry),
        )
    return tuple(builds.values())


def module_file(entry: ModuleEntry, route_map: RouteMap) -> Path | None:
    """The file of an entry's module, which may not exist yet; None for a remote module."""
    with contextlib.suppress(WagiError):  # an invalid reference is reported when it is loaded
        reference = parse_reference(entry.module)
        if isinstance(reference, FileReference):
            return resolve_path(reference.path, route_map.folder_of(entry)).absolute()
    return None


def sources_of(entry: ModuleEntry, route_map: RouteMap) -> tuple[SourceTree, ...]:
    """The sources of an entry: ``watch``, or ``src`` if it has a build."""
    default = _DEFAULT_SOURCES if entry.build else ()
    folder = route_map.folder_of(entry)
    return tuple(SourceTree.parse(text, folder) for text in entry.watch or default)


def _unique(*items: T) -> tuple[T, ...]:
    return tuple(dict.fromkeys(items))
