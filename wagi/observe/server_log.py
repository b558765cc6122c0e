"""The server's own log on stderr, which may be closed or stuck."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from wagi.observe.json_lines import JsonFormatter
from wagi.observe.terminal import supports_color
from wagi.observe.text import one_line
from wagi.observe.writer import Output, Writer, to_descriptor

_COLORS = {logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m", logging.CRITICAL: "\x1b[31m"}
_RESET = "\x1b[0m"
_TEXT = "%(asctime)s %(level)s %(message)s"
_CLOSE_TIMEOUT_S = 1.0  # for records that are queued at the end


class ServerLog:
    """Writes log records and plain text to stderr."""

    def __init__(self) -> None:
        self._writer = Writer()
        # If stderr is closed (2>&-), its descriptor may have been reused for something else.
        self._output: Output[bytes] | None = None
        if sys.stderr is not None:
            self._output = Output("stderr", to_descriptor(sys.stderr.fileno()), b"".join)

    def print(self, text: str) -> None:
        """Write text as it is, in order with the log records."""
        if self._output is not None:
            record = (text + "\n").encode("utf-8", "backslashreplace")
            self._writer.enqueue(self._output, record, len(record))

    def close(self) -> None:
        """Write what is queued."""
        self._writer.close(_CLOSE_TIMEOUT_S)


@contextmanager
def server_log(style: str = "text") -> Iterator[ServerLog]:
    """Log to stderr within the block.

    Args:
        style: ``text``, or ``json`` for one JSON object per line.
    """
    log = ServerLog()
    handler = _Handler(log)
    handler.setFormatter(JsonFormatter() if style == "json" else _TextFormatter(_TEXT))
    # force: a forked process inherits the handler of its parent, but not its thread.
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # asyncio and aiohttp report errors of clients, which the gateway handles and logs itself.
    for name in ("asyncio", "aiohttp.server"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield log
    finally:
        log.close()
        logging.getLogger().removeHandler(handler)


class _Handler(logging.Handler):
    def __init__(self, log: ServerLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.print(self.format(record))


class _TextFormatter(logging.Formatter):
    """Formats records, with colors for levels on a terminal."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._colors = _COLORS if supports_color(sys.stderr) else {}

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; one with ``lines`` becomes several lines, each with time and message."""
        color = self._colors.get(record.levelno, "")
        record.level = f"{color}{record.levelname}{_RESET}" if color else record.levelname
        head = super().format(record)
        lines = getattr(record, "lines", None)
        return head if lines is None else "\n".join(f"{head}: {one_line(line)}" for line in lines)
