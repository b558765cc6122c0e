"""Handlers' stderr, line by line: to the module's file and to the server's log (contract §2)."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from wagi.observe.text import one_line

LINE_LIMIT = 8 * 1024
"""Bytes of a line that are kept; the rest of it is cut."""
_log = logging.getLogger("wagi")


class ModuleLog:
    """The log of one route: ``<log dir>/<sha256 of the route>/module.stderr``."""

    def __init__(self, log_dir: Path, route: str) -> None:
        self.route = route
        self.path = log_dir / hashlib.sha256(route.encode()).hexdigest() / "module.stderr"
        self._failed = False

    def append(self, lines: list[bytes], request_id: str) -> None:
        """Write whole lines. A full disk is reported once and does not stop the service."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(b"".join(line + b"\n" for line in lines))
            self._failed = False
        except OSError as error:
            if not self._failed:
                _log.error("%s: lines of stderr are lost: %s", self.path, error.strerror)
            self._failed = True
        for line in lines:
            _log.info("stderr of %s [%s]: %s", self.route, request_id, _shown(line))


class Stderr:
    """One guest's stderr: cuts it into lines of bounded length."""

    def __init__(self, log: ModuleLog, request_id: str) -> None:
        self._log = log
        self._request_id = request_id
        self._rest = b""
        self._cutting = False

    def write(self, data: bytes) -> None:
        """Take what the guest wrote."""
        *ended, self._rest = (self._rest + data).split(b"\n")
        lines = []
        for line in ended:
            if not self._cutting:
                lines.append(line.removesuffix(b"\r")[:LINE_LIMIT])
            self._cutting = False
        if len(self._rest) > LINE_LIMIT:
            if not self._cutting:
                lines.append(self._rest[:LINE_LIMIT])
            self._rest, self._cutting = b"", True
        if lines:
            self._log.append(lines, self._request_id)

    def close(self) -> None:
        """Write the last line, if the guest did not end it."""
        if self._rest and not self._cutting:
            self._log.append([self._rest[:LINE_LIMIT]], self._request_id)
        self._rest = b""


def _shown(line: bytes) -> str:
    return one_line(line.decode("utf-8", "backslashreplace"))
