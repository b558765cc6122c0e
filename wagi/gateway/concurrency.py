"""``max_concurrency`` of an entry, which holds for all workers together.

The supervisor makes a ``ConcurrencyLimits`` before it forks, and gives each worker a ``Worker``
of it. For each entry with a limit they share an anonymous mapping with two 64-bit cells per worker:

====== ============================================================================
held   how many guests of the entry run in the worker
since  when its longest waiting request of the entry began to wait; 0 if none waits
====== ============================================================================

Only their owner writes them, and there are no locks, so a worker that is killed leaves none held:
the supervisor clears its cells. The mapping belongs to the route of the entry and stays when routes
are reloaded: guests of the old and of the new workers count together.

A worker takes a slot by raising its cell and looking at the sum then. If the sum is over the limit,
it takes that back. It does not even try while a request of another worker has waited longer: slots
are granted in the order in which requests have come, whichever worker they came to. Whoever lowers
a cell wakes the worker with the longest waiting request, through a pipe.
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
    """The limits of all entries, on the supervisor's side.

    Args:
        processes: How many worker processes there may be at a time, those included that are being
            replaced.
    """

    def __init__(self, processes: int) -> None:
        self._count = processes
        self._unused = list(range(self._count))
        self._entries: dict[str, _Cells] = {}
        self._pipes: list[tuple[int, int]] = []

    def prepare(self, entries: Iterable[str]) -> None:
        """Make the cells of entries with a limit. Call it before the workers that serve them fork.

        Args:
            entries: Their routes.
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
        """Make the part of one worker; call it before the fork.

        Returns:
            None if too many are open.
        """
        if not self._unused:
            return None
        return WorkerLimits(self._unused.pop(0), self._entries, self._pipes)

    def close_worker(self, worker: WorkerLimits) -> None:
        """Take back all slots that a worker holds. Its process must have ended."""
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
    """The limits of all entries, in one worker. Not thread-safe.

    Attributes:
        index: Which cells are this worker's.
    """

    def __init__(
        self, index: int, entries: dict[str, _Cells], pipes: list[tuple[int, int]]
    ) -> None:
        self.index = index
        self._entries = entries
        self._pipes = pipes

    @property
    def descriptor(self) -> int | None:
        """Becomes readable when a slot may be free; None if no other worker can free one."""
        return self._pipes[self.index][0] if self._pipes else None

    def clear(self) -> None:
        """Read what has made ``descriptor`` readable."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._pipes[self.index][0], 4096):
                pass

    def entry(self, route: str, limit: int) -> EntryLimit:
        """The limit of an entry.

        Args:
            route: The entry's route.
            limit: Guests at a time.
        """
        return EntryLimit(self._entries[route], limit, self.index, self._pipes)


@contextlib.contextmanager
def single_worker(entries: Iterable[str]) -> Iterator[WorkerLimits]:
    """The limits of a gateway that is its own and only worker.

    Args:
        entries: The routes of the entries with a limit.
    """
    with contextlib.closing(ConcurrencyLimits(processes=1)) as limits:
        limits.prepare(entries)
        worker = limits.open_worker()
        assert worker is not None  # it is the first one
        yield worker


class EntryLimit:
    """The slots of one entry, as one worker sees them.

    Args:
        cells: Shared with the other workers.
        limit: Guests at a time, in all workers together.
        index: Which cells are this worker's.
        pipes: Those of all workers.
    """

    def __init__(self, cells: _Cells, limit: int, index: int, pipes: list[tuple[int, int]]) -> None:
        self.limit = limit
        self._cells = cells
        self._index = index
        self._pipes = pipes
        self._held = 0
        self._fence = threading.Lock()

    @property
    def has_free_slot(self) -> bool:
        """Whether fewer guests run than may."""
        return sum(self._cells.held) < self.limit

    def try_acquire(self) -> bool:
        """Take a slot, unless all are taken or a request of another worker has waited longer."""
        cells, index = self._cells, self._index
        if any(cells.since) and self._longest_waiting() != index:
            return False
        cells.held[index] = self._held + 1
        # A processor may read the other cells before its own write has become visible: two workers
        # would then not see each other. Taking a lock is a full barrier (Dekker's algorithm).
        with self._fence:
            pass
        if sum(cells.held) > self.limit:
            cells.held[index] = self._held
            self._wake_longest_waiting()
            return False
        self._held += 1
        return True

    def release(self) -> None:
        """Give back a slot."""
        self._held -= 1
        self._cells.held[self._index] = self._held
        self._wake_longest_waiting()

    def set_waiting(self, since: int) -> None:
        """Say since when this worker's longest waiting request waits.

        After this, try to acquire once more: a slot that became free before is not announced.

        Args:
            since: In nanoseconds of ``time.monotonic_ns``; 0 if none waits any more.
        """
        had_waited = self._cells.since[self._index]
        self._cells.since[self._index] = since
        if had_waited and since != had_waited:  # it may be another worker's turn now
            self._wake_longest_waiting()

    def _longest_waiting(self) -> int:
        """The index of the worker whose request has waited longest; -1 if none waits."""
        waiting = [(since, index) for index, since in enumerate(self._cells.since) if since]
        return min(waiting)[1] if waiting else -1

    def _wake_longest_waiting(self) -> None:
        with self._fence:  # see try_acquire
            pass
        if any(self._cells.since):
            index = self._longest_waiting()
            if index not in (-1, self._index):
                _wake(self._pipes[index][1])


def now() -> int:
    """The time for ``set_waiting``: one clock for all processes."""
    return time.monotonic_ns()


def _wake(writer: int) -> None:
    with contextlib.suppress(BlockingIOError):  # it is full: the worker will be woken
        os.write(writer, b"\0")
