"""Write logs in background threads, so that a slow disk or reader never blocks a request.

Records that cannot be written are dropped, counted and reported at intervals.
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
_BATCH_DELAY_S = 0.005  # seconds to wait for more records, to write them together
_BATCH_SIZE = 512  # records
_MAX_QUEUED_BYTES = 4 * 1024 * 1024  # of lines that have not been written
_REPORT_INTERVAL_S = 60.0  # seconds


class Output(Generic[Record]):
    """A destination of records. Writing never raises."""

    def __init__(
        self,
        name: str,
        write: Callable[[bytes], None],
        encode: Callable[[Sequence[Record]], bytes],
    ) -> None:
        """Describe the destination.

        Args:
            name: The name in log messages.
            write: Writes whole lines; may raise OSError.
            encode: Encodes records as whole lines. It is called with a batch, in the thread of
                the writer.
        """
        self.name = name
        self._write = write
        self._encode = encode
        self._dropped_count = 0
        self._reported_at = -_REPORT_INTERVAL_S

    def write(self, records: Sequence[Record]) -> None:
        """Encode and write records."""
        try:
            self._write(self._encode(records))
        except OSError as error:
            self.drop(len(records), error.strerror or str(error))

    def drop(self, count: int, why: str) -> None:
        """Count dropped records, and report them at intervals."""
        self._dropped_count += count
        now = time.monotonic()
        if now - self._reported_at >= _REPORT_INTERVAL_S:
            self._reported_at = now
            _log.error("%s: dropping records: %s (%d so far)", self.name, why, self._dropped_count)

    def report_drops(self) -> None:
        """Report how many records were dropped in total, if any."""
        if self._dropped_count:
            _log.error("%s: dropped %d records in total", self.name, self._dropped_count)


class Writer:
    """A thread that writes records. It starts with the first one.

    Waking a thread costs more than formatting a line, and formatting a line among many costs a
    quarter of formatting it between two guests, whose code and memory have taken the CPU's caches.
    So ``enqueue`` only appends; every few milliseconds, the thread encodes and writes the batch.
    """

    def __init__(self) -> None:
        # Appending to a deque and taking from it are atomic.
        self._records: deque[tuple[Output[Any], Any, int]] = deque()
        # Each counter is written by one thread only.
        self._enqueued_bytes = 0
        self._written_bytes = 0
        self._is_waiting = True  # the thread, for the first record of a batch
        self._wake = threading.Event()
        self._closing = False
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None

    def enqueue(self, output: Output[Record], record: Record, size: int) -> None:
        """Queue a record to be written.

        Args:
            output: The destination.
            record: The record, which must not be modified afterwards.
            size: Approximate size of its lines in bytes.
        """
        if self._enqueued_bytes - self._written_bytes > _MAX_QUEUED_BYTES:
            output.drop(1, "the writer cannot keep up")
            return
        self._records.append((output, record, size))
        self._enqueued_bytes += size
        if self._is_waiting:
            self._is_waiting = False
            self._notify()

    def close(self, seconds: float) -> None:
        """Write what is queued, for at most ``seconds``. Idempotent."""
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
            # The flag is set before the queue is checked: a record added in between sets the event.
            self._is_waiting = True
            if not self._records and not self._closing:
                self._wake.wait()
            self._wake.clear()
            self._is_waiting = False
            if not self._closing:
                time.sleep(_BATCH_DELAY_S)
            while self._records:
                self._write_batch()

    def _write_batch(self) -> None:
        batches: dict[Output[Any], list[Any]] = {}
        total = 0
        for _ in range(min(len(self._records), _BATCH_SIZE)):
            output, record, size = self._records.popleft()
            batches.setdefault(output, []).append(record)
            total += size
        for output, records in batches.items():
            output.write(records)
        self._written_bytes += total


def to_descriptor(descriptor: int) -> Callable[[bytes], None]:
    """Make a function that writes all of its data to a file descriptor. It does not close it.

    Several workers write to the same descriptor. Writes to a pipe are atomic only up to
    ``PIPE_BUF`` bytes (pipe(7)). So pipes, sockets and terminals are written in pieces of whole
    lines up to that size; only a longer line can be interleaved with others.
    """

    def write(data: bytes) -> None:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        for piece in (data,) if is_file else _pieces(data, PIPE_BUF):
            view = memoryview(piece)
            while view:
                view = view[os.write(descriptor, view) :]

    return write


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    """Split lines into pieces of whole lines, each of at most ``size`` bytes if possible."""
    start = 0
    while len(data) - start > size:
        end = data.rfind(b"\n", start, start + size) + 1  # 0 for none
        end = end or data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end
    if start < len(data):
        yield data[start:]
