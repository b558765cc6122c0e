"""Enforces ``max_concurrency`` of an entry across all workers.

The supervisor creates ``ConcurrencyLimits`` before it forks, and passes ``WorkerLimits`` to each
worker. For each entry with a limit, they share an anonymous mapping with two 64-bit cells per
worker:

====== ============================================================================
held   number of running guests of the entry in the worker
since  when its oldest queued request of the entry was queued; 0 if none is queued
====== ============================================================================

Only its owner writes a cell. There are no locks, so a worker that is killed leaves none locked: the
supervisor clears its cells. The mapping is kept by the entry's route when routes are reloaded, so
the guests of old and new workers count together.

To acquire a slot, a worker increments its cell and then reads the sum. If the sum exceeds the
limit, it reverts the increment. It does not try while another worker has an older queued request:
slots are granted in order of arrival across workers. A worker that decrements a cell wakes the
worker with the oldest queued request, through a pipe.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from mmap import mmap

_CELL_SIZE = 8  # bytes; an aligned write of them is atomic on every 64-bit processor


@dataclass(frozen=True, slots=True)
class _Cells:
    """The shared cells of one entry, one of each kind per worker."""

    held: memoryview[int]
    since: memoryview[int]


class ConcurrencyLimits:
    """The supervisor's side of the concurrency limits of all entries.

    Args:
        processes: Maximum number of worker processes, including those being replaced.
    """

    def __init__(self, processes: int) -> None:
        self._count = processes
        self._unused = list(range(self._count))
        self._entries: dict[str, _Cells] = {}
        self._pipes: list[tuple[int, int]] = []

    def prepare(self, entries: Iterable[str]) -> None:
        """Create the cells of entries with a limit. Call it before forking their workers.

        Args:
            entries: Routes of the entries.
        """
        for entry in entries:
            if entry not in self._entries:
                shared = memoryview(mmap(-1, 2 * self._count * _CELL_SIZE)).cast("Q")
                self._entries[entry] = _Cells(shared[: self._count], shared[self._count :])
        while self._entries and len(self._pipes) < self._count > 1:
            pipe = os.pipe()
            for end in pipe:
                os.set_blocking(end, False)
            self._pipes.append(pipe)

    def open_worker(self) -> WorkerLimits | None:
        """Create the limits of a worker. Call it before forking the worker.

        Returns:
            The limits; None if the maximum number of workers is reached.
        """
        if not self._unused:
            return None
        return WorkerLimits(self._unused.pop(0), self._entries, self._pipes)

    def close_worker(self, worker: WorkerLimits) -> None:
        """Release all slots of a worker whose process has ended."""
        for cells in self._entries.values():
            cells.held[worker.index] = cells.since[worker.index] = 0
        for _, writer in self._pipes:
            _wake(writer)
        self._unused.append(worker.index)
        self._unused.sort()

    def close(self) -> None:
        """Close the pipes."""
        for pipe in self._pipes:
            for end in pipe:
                os.close(end)
        self._pipes.clear()


class WorkerLimits:
    """A worker's side of the concurrency limits of all entries. Not thread-safe.

    Attributes:
        index: Index of this worker's cells.
    """

    def __init__(
        self, index: int, entries: dict[str, _Cells], pipes: list[tuple[int, int]]
    ) -> None:
        self.index = index
        self._entries = entries
        self._pipes = pipes

    @property
    def descriptor(self) -> int | None:
        """A descriptor that becomes readable when a slot may be free; None for a single worker."""
        return self._pipes[self.index][0] if self._pipes else None

    def clear(self) -> None:
        """Consume pending wake-ups from ``descriptor``."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._pipes[self.index][0], 4096):
                pass

    def entry(self, route: str, limit: int) -> EntryLimit:
        """Return the limit of an entry.

        Args:
            route: Route of the entry.
            limit: Maximum number of running guests in all workers.
        """
        return EntryLimit(self._entries[route], limit, self.index, self._pipes)


@contextlib.contextmanager
def single_worker(entries: Iterable[str]) -> Iterator[WorkerLimits]:
    """Provide the limits of a gateway without a supervisor and other workers.

    Args:
        entries: Routes of the entries with a limit.
    """
    with contextlib.closing(ConcurrencyLimits(processes=1)) as limits:
        limits.prepare(entries)
        worker = limits.open_worker()
        assert worker is not None  # it is the first one
        yield worker


class EntryLimit:
    """A worker's side of the concurrency limit of one entry.

    Args:
        cells: Cells shared with the other workers.
        limit: Maximum number of running guests in all workers.
        index: Index of this worker's cells.
        pipes: Wake-up pipes of all workers.
    """

    def __init__(self, cells: _Cells, limit: int, index: int, pipes: list[tuple[int, int]]) -> None:
        self.limit = limit
        self._cells = cells
        self._index = index
        self._pipes = pipes
        self._held = 0
        self._barrier = threading.Lock()

    @property
    def has_free_slot(self) -> bool:
        """Whether fewer guests are running than the limit allows."""
        return sum(self._cells.held) < self.limit

    def try_acquire(self) -> bool:
        """Acquire a slot, unless all are held or another worker has an older queued request."""
        cells, index = self._cells, self._index
        if any(cells.since) and self._longest_waiting() != index:
            return False
        cells.held[index] = self._held + 1
        # Without a barrier, the processor may read the other cells before its own write is visible,
        # so that two workers miss each other (Dekker's algorithm). Locking is a full barrier.
        with self._barrier:
            pass
        if sum(cells.held) > self.limit:
            cells.held[index] = self._held
            self._wake_longest_waiting()
            return False
        self._held += 1
        return True

    def release(self) -> None:
        """Release a slot."""
        self._held -= 1
        self._cells.held[self._index] = self._held
        self._wake_longest_waiting()

    def set_waiting(self, since: int) -> None:
        """Publish when this worker's oldest queued request was queued.

        Try to acquire again after this call: slots freed before it cause no wake-up.

        Args:
            since: Time in nanoseconds of ``time.monotonic_ns``; 0 if no request is queued.
        """
        had_waited = self._cells.since[self._index]
        self._cells.since[self._index] = since
        if had_waited and since != had_waited:  # another worker may now have the oldest request
            self._wake_longest_waiting()

    def _longest_waiting(self) -> int:
        """Return the index of the worker with the oldest queued request, or -1."""
        waiting = [(since, index) for index, since in enumerate(self._cells.since) if since]
        return min(waiting)[1] if waiting else -1

    def _wake_longest_waiting(self) -> None:
        with self._barrier:  # see try_acquire
            pass
        if any(self._cells.since):
            index = self._longest_waiting()
            if index not in (-1, self._index):
                _wake(self._pipes[index][1])


def now() -> int:
    """Return the time for ``set_waiting``, from a clock common to all processes."""
    return time.monotonic_ns()


def _wake(writer: int) -> None:
    with contextlib.suppress(BlockingIOError):  # a full pipe wakes the worker as well
        os.write(writer, b"\0")
