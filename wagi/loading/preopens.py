"""The directories that the guests of an entry can access."""

from __future__ import annotations

from pathlib import Path

from wagi.errors import WagiError
from wagi.guest.handler import Preopen
from wagi.loading.findings import EntryFindings
from wagi.routemap.entries import ModuleEntry, RouteMap
from wagi.sources.file_mounts import FileMounts, select_files
from wagi.sources.file_store import FileStore
from wagi.sources.files import resolve_path
from wagi.sources.module_request import FetchedModule


class Preopens:
    """Makes the preopened directories of entries.

    Args:
        route_map: The route map.
        files: Keeps the copies of files that guests see.
        findings: Collects directories and files that do not exist.
    """

    def __init__(self, route_map: RouteMap, files: FileStore, findings: EntryFindings) -> None:
        self._map = route_map
        self._files = files
        self._findings = findings
        self._copies: dict[FileMounts, Path] = {}

    def of(self, entry: ModuleEntry, fetched: FetchedModule | WagiError) -> tuple[Preopen, ...]:
        """Return the directories of an entry: the files of its bindle, its copies, its volumes."""
        preopens = []
        if isinstance(fetched, FetchedModule) and fetched.files is not None:
            preopens.append(Preopen(str(fetched.files.absolute()), "/", readonly=True))
        if entry.files.mounts and (copies := self._copy_files(entry)) is not None:
            preopens.append(Preopen(str(copies), "/", readonly=True))
        for guest_path, volume in entry.volumes.items():
            path = resolve_path(volume.path, self._map.folder_of(entry))
            if not path.is_dir():
                reason = "is not a directory" if path.exists() else "does not exist"
                self._findings.report(
                    f"the directory {path} of {guest_path!r} {reason}", entry, "volumes"
                )
            preopens.append(Preopen(str(path.absolute()), guest_path, volume.readonly))
        return tuple(preopens)

    def _copy_files(self, entry: ModuleEntry) -> Path | None:
        """Copy the files of an entry to a directory. Returns: None if that is not possible."""
        if entry.files in self._copies:  # it has several routes
            return self._copies[entry.files]
        try:
            selected, unmatched = select_files(entry.files, self._map.folder)
            for source in unmatched:
                self._findings.warn(f"{source!r} matches no file", entry, "files")
            self._copies[entry.files] = self._files.copy(selected)
            return self._copies[entry.files]
        except WagiError as error:
            self._findings.report(error, entry, "files")
            return None
