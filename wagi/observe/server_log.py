"""The server's own log: a line on stderr for each event, whatever state stderr is in."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from wagi.observe.writer import Output, Writer, to_descriptor

_LAST_LINES = 1.0  # seconds for what waits to be written at the end


@contextmanager
def server_log() -> Iterator[None]:
    """Log to stderr while in use."""
    writer = Writer()
    handler = _Handler(writer)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # asyncio and aiohttp report what clients do wrong; the gateway answers and logs that itself.
    for name in ("asyncio", "aiohttp.server"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        writer.close(_LAST_LINES)
        logging.getLogger().removeHandler(handler)


class _Handler(logging.Handler):
    def __init__(self, writer: Writer) -> None:
        super().__init__()
        self.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._writer = writer
        # Without a stderr (2>&-) its number may be anybody's.
        self._output: Output | None = None
        if sys.stderr is not None:
            self._output = Output("stderr", to_descriptor(sys.stderr.fileno()))

    def emit(self, record: logging.LogRecord) -> None:
        if self._output is not None:
            text = self.format(record) + "\n"
            self._writer.put(self._output, text.encode("utf-8", "backslashreplace"))


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """A record; one with ``lines`` becomes as many lines, each with time and message."""
        head = super().format(record)
        lines = getattr(record, "lines", None)
        return head if lines is None else "\n".join(f"{head}: {line}" for line in lines)
