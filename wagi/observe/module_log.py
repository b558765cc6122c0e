"""Log the stderr of handlers line by line, to the module's file and to the server's log.

See docs/contract.md, "End of a run".
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from wagi.observe.exchange import SpanIds
from wagi.observe.log_files import ROUTE_NAME, log_path
from wagi.observe.writer import Output, Writer

LINE_LIMIT = 8 * 1024
"""Maximum length of a line in bytes; the rest is dropped."""
TAIL_SIZE = 16 * 1024
"""How much of the end of a guest's stderr is kept, in bytes, to explain its failure."""
MAX_LINES = 10_000
"""Maximum number of lines per guest: a short line costs as much as a long one."""
_CLOSE_TIMEOUT_S = 1.0  # for records that are queued at the end
_log = logging.getLogger("wagi.stderr")


class ModuleLogs:
    """The logs of all modules, with the thread that writes them."""

    def __init__(self, folder: Path | None, size_limit: int) -> None:
        """Create the logs.

        Args:
            folder: The log directory; None for the server's log only.
            size_limit: Size in bytes at which a file is rotated to ``module.stderr.1``.
        """
        self._folder = folder
        self._size_limit = size_limit
        self._writer = Writer()
        self._outputs: list[Output[bytes]] = []

    def of(self, route: str, module: str) -> ModuleLog:
        """Open the log of a route: ``<log dir>/<sha256 of the route>/module.stderr``.

        Args:
            route: The route.
            module: Its module, for the server's log.
        """
        if self._folder is None:
            return ModuleLog(route, module, None, self._writer, None)
        path = log_path(self._folder, route)
        file = _RotatedFile(path, route, self._size_limit)
        output: Output[bytes] = Output(str(path), file.append, b"".join)
        self._outputs.append(output)
        return ModuleLog(route, module, path, self._writer, output)

    def close(self) -> None:
        """Write what is queued, and report dropped records."""
        self._writer.close(_CLOSE_TIMEOUT_S)
        for output in self._outputs:
            output.report_drops()


class ModuleLog:
    """The log of one route.

    Attributes:
        route: The route.
        module: Its module.
        path: Its file; None with ``--log-dir none``.
    """

    def __init__(
        self,
        route: str,
        module: str,
        path: Path | None,
        writer: Writer,
        output: Output[bytes] | None,
    ) -> None:
        self.route = route
        self.module = module
        self.path = path
        self._writer = writer
        self._output = output

    def append(self, lines: Sequence[bytes], request_id: str, span: SpanIds | None = None) -> None:
        """Write lines.

        Args:
            lines: The lines, without line ends.
            request_id: The id of the request.
            span: The span of the request; None if traces are off.
        """
        record = b"\n".join(lines) + b"\n"
        if self._output is not None:
            self._writer.enqueue(self._output, record, len(record))
        extra = {
            "lines": [line.decode("utf-8", "backslashreplace") for line in lines],
            "fields": {"id": request_id, "route": self.route, "module": self.module},
            "span": span,
        }
        _log.info("stderr of %s [%s]", self.route, request_id, extra=extra)


class _RotatedFile:
    def __init__(self, path: Path, route: str, size_limit: int) -> None:
        self._path = path
        self._route = route
        self._size_limit = size_limit

    def append(self, data: bytes) -> None:
        # Opened each time: the file or its directory may have been moved or removed.
        with self._open() as file:
            # Other processes may be writing to the same file, or rotating it.
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(data)
            file.flush()
            if file.tell() >= self._size_limit and self._is_current(file):
                self._path.replace(self._path.with_name(self._path.name + ".1"))

    def _open(self) -> IO[bytes]:
        try:
            return self._path.open("ab")
        except FileNotFoundError:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.with_name(ROUTE_NAME).write_text(self._route, "utf-8")  # for `wagi logs`
            return self._path.open("ab")

    def _is_current(self, file: IO[bytes]) -> bool:
        try:
            return self._path.samefile(f"/dev/fd/{file.fileno()}")
        except OSError:
            return False


class Stderr:
    """The stderr of one guest: splits it into lines, and limits their length and the total.

    Attributes:
        tail: The last ``TAIL_SIZE`` bytes.
    """

    def __init__(
        self, log: ModuleLog, request_id: str, limit: int | None, span: SpanIds | None = None
    ) -> None:
        """Start a guest's stderr.

        Args:
            log: The log of the module.
            request_id: The id of the request.
            limit: Maximum total size in bytes; None for no limit.
            span: The span of the request; None if traces are off.
        """
        self._log = log
        self._request_id = request_id
        self._span = span
        self._left = limit
        self._lines_left = MAX_LINES
        self._rest = b""
        self._cutting = False
        self._dropped = 0
        self.tail = b""

    def write(self, data: bytes) -> None:
        """Process output of the guest."""
        self.tail = (self.tail + data)[-TAIL_SIZE:]
        if self._left is not None:
            self._dropped += max(0, len(data) - self._left)
            data = data[: self._left]
            self._left -= len(data)
        if not data or not self._lines_left:
            self._dropped += len(data)
            return
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
        self._append(lines)

    def close(self) -> None:
        """Write an unterminated last line, and report what was dropped."""
        if self._rest and not self._cutting:
            self._append([self._rest[:LINE_LIMIT]])
        self._rest = b""
        if self._dropped:
            notice = f"[dropped {self._dropped} more bytes of stderr: see stderr_limit]"
            self._log.append([notice.encode()], self._request_id, self._span)

    def _append(self, lines: list[bytes]) -> None:
        kept = lines[: self._lines_left]
        self._lines_left -= len(kept)
        self._dropped += sum(len(line) + 1 for line in lines[len(kept) :])
        if kept:
            self._log.append(kept, self._request_id, self._span)
