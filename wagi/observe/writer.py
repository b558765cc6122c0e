"""Logs are written on threads of their own: a slow disk or a stuck reader holds no request up.

What cannot be written is counted and reported once in a while; serving goes on.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable

_log = logging.getLogger("wagi")
_GATHER = 0.005  # seconds in which lines gather: one write for many
_MAX_WAITING = 4 * 1024 * 1024  # bytes
_REPORT_EVERY = 60.0  # seconds


class Output:
    """A place that lines are written to. Writing never raises."""

    def __init__(self, name: str, write: Callable[[bytes], None]) -> None:
        """Parameters: ``name`` for messages; ``write`` may raise OSError."""
        self.name = name
        self._write = write
        self._lost = 0
        self._reported_at = -_REPORT_EVERY

    def write(self, records: list[bytes]) -> None:
        """Write records, each of whole lines."""
        try:
            self._write(b"".join(records))
        except OSError as error:
            self.lose(len(records), error.strerror or str(error))

    def lose(self, count: int, why: str) -> None:
        """Count records that are not written, and say so."""
        self._lost += count
        now = time.monotonic()
        if now - self._reported_at >= _REPORT_EVERY:
            self._reported_at = now
            _log.error("%s: records are lost: %s (%d so far)", self.name, why, self._lost)

    def account(self) -> None:
        """At the end: say how many were lost."""
        if self._lost:
            _log.error("%s: %d records were lost", self.name, self._lost)


class Writer:
    """A thread that writes what is put. It starts with the first record."""

    def __init__(self) -> None:
        self._records: deque[tuple[Output, bytes]] = deque()
        # Each counter is written by one thread only.
        self._put = 0
        self._done = 0
        self._wake = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    def put(self, output: Output, record: bytes) -> None:
        """Have a record of whole lines written soon."""
        if self._put - self._done > _MAX_WAITING:
            output.lose(1, "they come faster than they are written")
            return
        self._records.append((output, record))
        self._put += len(record)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="wagi-log", daemon=True)
            self._thread.start()
        if not self._wake.is_set():
            self._wake.set()

    def close(self, seconds: float) -> None:
        """Write what waits, for at most ``seconds``. Twice does no harm."""
        self._closing = True
        if self._thread is not None:
            self._wake.set()
            self._thread.join(seconds)

    def _run(self) -> None:
        while not (self._closing and not self._records):
            self._wake.wait()
            if not self._closing:
                time.sleep(_GATHER)
            self._wake.clear()
            self._write_all()

    def _write_all(self) -> None:
        batches: dict[Output, list[bytes]] = {}
        size = 0
        while self._records:
            output, record = self._records.popleft()
            batches.setdefault(output, []).append(record)
            size += len(record)
        for output, records in batches.items():
            output.write(records)
        self._done += size


def to_descriptor(descriptor: int) -> Callable[[bytes], None]:
    """A way to write to a file descriptor, all of it. The descriptor stays the caller's."""

    def write(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    return write
