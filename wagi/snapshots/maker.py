"""Replace the modules of entries with their snapshots, which are made or taken from the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from wagi.errors import WagiError
from wagi.guest.artefacts import Artefacts
from wagi.guest.module import to_wasm
from wagi.guest.snapshot.binaryen import find_tool
from wagi.guest.snapshot.command import snapshot_command
from wagi.guest.snapshot.errors import SnapshotError
from wagi.routemap.entries import ModuleEntry, RouteMap
from wagi.snapshots.request import SnapshotRequest, snapshot_request
from wagi.sources.module_request import FetchedModule, SnapshotState
from wagi.storage import temporary_folder

Report = Callable[[str], None]


def with_snapshots(
    route_map: RouteMap,
    modules: Sequence[FetchedModule | WagiError],
    artefacts: Artefacts,
    report: Report,
    makes: bool = True,
) -> list[FetchedModule | WagiError]:
    """Replace the modules of entries with the key ``snapshot``.

    If a snapshot cannot be made, the module itself is kept, with a warning.

    Args:
        route_map: The route map.
        modules: The modules of its entries that have one.
        artefacts: The cache.
        report: Called with lines of progress, and with an empty string at the end.
        makes: Whether snapshots that are not in the cache are made; else the module itself is kept.
    """
    if not any(entry.snapshot for entry in route_map.modules):
        return list(modules)
    with temporary_folder("snapshot") as hidden:
        return [
            module
            if entry.snapshot is None or isinstance(module, WagiError)
            else _with_snapshot(entry, route_map, module, artefacts, report, makes, hidden)
            for entry, module in zip(route_map.modules, modules, strict=True)
        ]


def _with_snapshot(
    entry: ModuleEntry,
    route_map: RouteMap,
    module: FetchedModule,
    artefacts: Artefacts,
    report: Report,
    makes: bool,
    hidden: Path,
) -> FetchedModule:
    try:
        if module.files is not None:  # a preopened directory that the snapshot would not have
            raise SnapshotError("a module of a bindle with files cannot have one")
        request = snapshot_request(entry, route_map, module.content, hidden)
        found = artefacts.find(request.key)
        if found is None:
            if not makes:
                return replace(module, snapshot=SnapshotState("missing"))
            made = _make(entry, route_map, module, request, artefacts, report)
            found = artefacts.add(request.key, made)
        content = found.read_bytes()
        return replace(module, content=content, snapshot=SnapshotState("used"))
    except (WagiError, OSError) as error:
        warning = f"no snapshot of {entry.module}, which starts for each request: {error}"
        return replace(
            module,
            warnings=(*module.warnings, warning),
            snapshot=SnapshotState("failed", str(error)),
        )


def _make(
    entry: ModuleEntry,
    route_map: RouteMap,
    module: FetchedModule,
    request: SnapshotRequest,
    artefacts: Artefacts,
    report: Report,
) -> bytes:
    tool = find_tool((route_map.folder_of(entry),))
    try:
        made, _ = snapshot_command(
            to_wasm(entry.module, module.content),
            request.program,
            tool,
            lambda line: report(f"Snapshot of {entry.route}: {line}"),
            artefacts,
        )
    finally:
        report("")
    return made
