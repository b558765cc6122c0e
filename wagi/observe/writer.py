"""Logs are written on threads of their own: a slow disk or a stuck reader holds no request up.

What cannot be written is counted and reported once in a while; serving goes on.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from select import PIPE_BUF
from typing import Any, Generic, TypeVar

_log = logging.getLogger("wagi")
Record = TypeVar("Record")
_GATHER = 0.005  # seconds in which records gather: one write for many
_BATCH = 512  # records that are encoded and written at a time
_MAX_WAITING = 4 * 1024 * 1024  # bytes of lines
_REPORT_EVERY = 60.0  # seconds


class Output(Generic[Record]):
    """A place that records are written to. Writing never raises."""

    def __init__(
        self,
        name: str,
        write: Callable[[bytes], None],
        encode: Callable[[Sequence[Record]], bytes],
    ) -> None:
        """Describe the place.

        Args:
            name: What messages call it.
            write: Writes whole lines; may raise OSError.
            encode: Makes whole lines of records. It is called with many at a time, on the thread
                of the writer.
        """
        self.name = name
        self._write = write
        self._encode = encode
        self._lost = 0
        self._reported_at = -_REPORT_EVERY

    def write(self, records: Sequence[Record]) -> None:
        """Encode and write records."""
        try:
            self._write(self._encode(records))
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
    """A thread that writes what is put. It starts with the first record.

    Waking a thread costs more than formatting a line, and formatting a line among many costs a
    quarter of formatting it between two guests, whose code and memory have taken the CPU's caches.
    So ``put`` only appends; once every few milliseconds, the thread encodes and writes the batch.
    """

    def __init__(self) -> None:
        # Appending to a deque and taking from it are atomic.
        self._records: deque[tuple[Output[Any], Any, int]] = deque()
        # Each counter is written by one thread only.
        self._put = 0
        self._done = 0
        self._is_waiting = True  # the thread, for the first record of a batch
        self._wake = threading.Event()
        self._closing = False
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, output: Output[Record], record: Record, size: int) -> None:
        """Have a record written soon.

        Args:
            output: Where it is written.
            record: What ``output`` encodes; it must not change any more.
            size: Bytes of its lines, approximately.
        """
        if self._put - self._done > _MAX_WAITING:
            output.lose(1, "they come faster than they are written")
            return
        self._records.append((output, record, size))
        self._put += size
        if self._is_waiting:
            self._is_waiting = False
            self._notify()

    def close(self, seconds: float) -> None:
        """Write what waits, for at most ``seconds``. Twice does no harm."""
        self._closing = True
        if self._thread is not None:
            self._wake.set()
            self._thread.join(seconds)

    def _notify(self) -> None:
        with self._start:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="wagi-log", daemon=True)
                self._thread.start()
        self._wake.set()

    def _run(self) -> None:
        while self._records or not self._closing:
            # First the flag, then the look: a record that is put in between sets the event.
            self._is_waiting = True
            if not self._records and not self._closing:
                self._wake.wait()
            self._wake.clear()
            self._is_waiting = False
            if not self._closing:
                time.sleep(_GATHER)
            while self._records:
                self._write_batch()

    def _write_batch(self) -> None:
        batches: dict[Output[Any], list[Any]] = {}
        total = 0
        for _ in range(min(len(self._records), _BATCH)):
            output, record, size = self._records.popleft()
            batches.setdefault(output, []).append(record)
            total += size
        for output, records in batches.items():
            output.write(records)
        self._done += total


def to_descriptor(descriptor: int) -> Callable[[bytes], None]:
    """A way to write to a file descriptor, all of it. The descriptor stays the caller's.

    Several workers write to the same one. Into a pipe, at most ``PIPE_BUF`` bytes go in one piece:
    of a longer write, what does not fit into a full pipe comes after what others write meanwhile.
    So pipes, sockets and terminals get as many whole lines at a time; only a longer line can be
    torn. See pipe(7).
    """

    def write(data: bytes) -> None:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        for piece in (data,) if is_file else _pieces(data, PIPE_BUF):
            view = memoryview(piece)
            while view:
                view = view[os.write(descriptor, view) :]

    return write


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    """Cut whole lines into pieces of whole lines, each of at most ``size`` bytes if possible."""
    start = 0
    while len(data) - start > size:
        end = data.rfind(b"\n", start, start + size) + 1  # 0 for none
        end = end or data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end
    if start < len(data):
        yield data[start:]
