"""The server's own log: a line on stderr for each event, whatever state stderr is in."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from wagi.observe.writer import Output, Writer, to_descriptor

_LAST_LINES = 1.0  # seconds for what waits to be written at the end


class ServerLog:
    """Takes what ``logging`` logs, and other text for people who read along."""

    def __init__(self) -> None:
        self._writer = Writer()
        # Without a stderr (2>&-) its number may be anybody's.
        self._output: Output[bytes] | None = None
        if sys.stderr is not None:
            self._output = Output("stderr", to_descriptor(sys.stderr.fileno()), b"".join)

    def say(self, text: str) -> None:
        """Write lines as they are, in their turn."""
        if self._output is not None:
            record = (text + "\n").encode("utf-8", "backslashreplace")
            self._writer.put(self._output, record, len(record))

    def close(self) -> None:
        """Write what waits."""
        self._writer.close(_LAST_LINES)


@contextmanager
def server_log() -> Iterator[ServerLog]:
    """Log to stderr while in use."""
    log = ServerLog()
    handler = _Handler(log)
    # A forked process has the handler of the one before, whose writing thread it has not.
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # asyncio and aiohttp report what clients do wrong; the gateway answers and logs that itself.
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
        self.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.say(self.format(record))


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """A record; one with ``lines`` becomes as many lines, each with time and message."""
        head = super().format(record)
        lines = getattr(record, "lines", None)
        return head if lines is None else "\n".join(f"{head}: {line}" for line in lines)
