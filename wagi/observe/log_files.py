"""Find and read the logs that ``wagi.observe.module_log`` writes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

LOG_NAME = "module.stderr"
ROUTE_NAME = "route"
"""The file beside a log with the route, which the name of the directory does not show."""


@dataclass(frozen=True, slots=True)
class LogFile:
    """The log of a route."""

    route: str
    path: Path


def log_path(folder: Path, route: str) -> Path:
    """The path of the log of a route: ``<log dir>/<SHA-256 of the route>/module.stderr``."""
    return folder / hashlib.sha256(route.encode()).hexdigest() / LOG_NAME


def temporary_name(served: str) -> str:
    """The name of temporary log directories, for ``wagi.storage.new_folder``.

    Args:
        served: What is served: the absolute path of a route map, or the name of a bindle.
    """
    return f"logs-{hashlib.sha256(os.fsencode(served)).hexdigest()[:12]}"


def temporary_folders(served: str) -> list[Path]:
    """The temporary log directories of this user's servers of a route map, the newest first."""
    found: list[tuple[float, Path]] = []
    for path in Path(tempfile.gettempdir()).glob(f"wagi-{temporary_name(served)}-*"):
        with contextlib.suppress(OSError):
            status = path.lstat()
            # Other users can create a directory of this name, but not one that this user owns.
            if status.st_uid == os.geteuid() and path.is_dir():
                found.append((status.st_mtime, path))
    return [path for _, path in sorted(found, reverse=True)]


def logs_in(folder: Path) -> list[LogFile]:
    """The logs in a log directory, in the order of their routes."""
    logs = []
    for path in folder.glob(f"*/{ROUTE_NAME}"):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            log = LogFile(path.read_text("utf-8"), path.with_name(LOG_NAME))
            if log_path(folder, log.route) == log.path:
                logs.append(log)
    return sorted(logs, key=lambda log: log.route)


class LogReader:
    """Reads the lines of a log, and those that are added later."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._rest = b""
        self._has_started = False

    def lines(self) -> Sequence[bytes]:
        """The complete lines since the last call, without line ends.

        The first call also returns those of the rotated log, which are older.
        """
        content = self._rest
        if not self._has_started:
            self._has_started = True
            content += self._rotated()
        content += self._read()
        if self._is_replaced():
            self.close()
            content += self._read()
        *lines, self._rest = content.split(b"\n")
        return lines

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _rotated(self) -> bytes:
        try:
            return self._path.with_name(f"{LOG_NAME}.1").read_bytes()
        except OSError:
            return b""

    def _read(self) -> bytes:
        if self._file is None:
            try:
                self._file = self._path.open("rb")
            except OSError:
                return b""
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            self._file.seek(0)  # the file was truncated
        return self._file.read()

    def _is_replaced(self) -> bool:
        """Whether the log was rotated, which gives its path to a new file."""
        if self._file is None:
            return False
        try:
            return not os.path.samestat(os.fstat(self._file.fileno()), self._path.stat())
        except OSError:  # the new file does not exist yet
            return False
