"""Admission of guests: who may run at once, who waits, and for how long.

A worker has a number of slots for guests, and all workers together have a memory budget. A guest
needs a slot and the memory that it starts with. Two rules keep one module's flood from starving
the others:

- A share may hold at most four times as many slots as are free, and four times as much memory
  (dynamic thresholds, Choudhury and Hahne 1998): a flood alone gets four fifths, and there is
  always something left for another module.
- What gets free goes to the shares in turn, not to the longest queue.

What other workers do with the memory is not announced: while requests wait for memory, admission
looks again at an interval. That a guest of an entry with ``max_concurrency`` has ended in another
worker is announced (``gateway.concurrency``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

from wagi.gateway.concurrency import EntryLimit, WorkerLimits, now
from wagi.guest.budget import Lease, LeaseGroup, MemoryAccount
from wagi.guest.demand import MemoryDemand
from wagi.limits import Limits

_SHARE_FACTOR = 4
_MEMORY_POLL_INTERVAL_S = 0.02  # seconds; a guest that waited for memory mostly runs for longer
_TRIM_INTERVAL_S = 0.25  # seconds for which an idle worker may keep memory that others could use
_MEMORY_DECAY = 8
"""By which part of the difference an expectation falls after a guest that needed less: half of it
is gone after five such guests, nine tenths after seventeen."""
_MIB = 1024**2


class Busy(Exception):
    """No guest can be started: the queue is full, or the wait took too long."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A request that waits."""

    granted: asyncio.Future[Lease]
    since: int  # in nanoseconds of ``concurrency.now``


class Share:
    """An entry's share of the slots and of the memory. All its routes have one.

    Args:
        limit: How many of its guests may run in all workers; None for no limit of its own.
        limits: The limits of the entry, which include how many requests may wait and how long.
        demand: The memory that a guest needs.

    Attributes:
        held: Slots that its guests have.
        expected_memory: Bytes of linear memory with which a guest is started. That is what the
            module starts with, or more if its guests have lately grown to more: they would
            otherwise all start, and fail together when they grow.
    """

    def __init__(
        self,
        limit: EntryLimit | None,
        limits: Limits,
        demand: MemoryDemand,
    ) -> None:
        self.limit = limit
        self.max_queue = limits.max_queue
        self.queue_timeout = limits.queue_timeout
        self.demand = demand
        self.held = 0
        self.expected_memory = demand.initial
        self.leases = LeaseGroup()
        self.waiting: deque[_Waiting] = deque()

    def expect(self, size: int) -> None:
        """Learn from a guest that has ended.

        Args:
            size: Bytes of linear memory that it had at the end.
        """
        surplus = self.expected_memory - max(size, self.demand.initial)
        self.expected_memory -= surplus if surplus < 0 else surplus // _MEMORY_DECAY


class Admission:
    """Admits guests to a worker. Every lease that is acquired is released once.

    Args:
        slots: How many guests may run at a time.
        shares: Those among which slots and memory are divided; a single one may hold all.
        account: The worker's part of the memory budget.
        limits: The worker's part of the limits of entries.
    """

    def __init__(
        self,
        slots: int,
        shares: Collection[Share],
        account: MemoryAccount,
        limits: WorkerLimits,
    ) -> None:
        self._free = slots
        self._share_factor = _SHARE_FACTOR if len(shares) > 1 else slots
        self._account = account
        self._limits = limits
        self._is_listening = False  # to other workers
        self._queue: deque[Share] = deque()  # those in which requests wait, the next one first
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0  # in seconds of the loop's clock
        for share in shares:
            share.leases.share_factor = _SHARE_FACTOR if len(shares) > 1 else None

    async def acquire(self, share: Share) -> Lease:
        """Take a slot and the memory for a guest, or wait for them.

        Raises:
            Busy: If they cannot be had in time.
        """
        lease = self.try_acquire(share)
        return lease if lease is not None else await self._wait(share)

    def try_acquire(self, share: Share) -> Lease | None:
        """Take a slot and the memory for a guest, unless others wait or there is not enough."""
        if share.waiting:
            return None
        lease = self._take(share)
        if lease is not None and self._timer is None:
            self._set_timer(_TRIM_INTERVAL_S)
        return lease

    def release(self, share: Share, lease: Lease) -> None:
        """Give back what a guest had. Its memory has been freed."""
        lease.close()
        share.expect(lease.size)
        share.held -= 1
        self._free += 1
        if share.limit is not None:
            share.limit.release()
        self._grant()

    def _take(self, share: Share) -> Lease | None:
        if share.held >= self._share_factor * self._free:
            return None
        limit = share.limit
        if limit is not None and not limit.try_acquire():
            return None
        demand = share.demand
        lease = self._account.lease(
            share.expected_memory, demand.limit, demand.tables, share.leases
        )
        if lease is not None:
            share.held += 1
            self._free -= 1
        elif limit is not None:
            limit.release()
        return lease

    def _has_slot(self, share: Share) -> bool:
        if share.limit is not None and not share.limit.has_free_slot:
            return False
        return share.held < self._share_factor * self._free

    async def _wait(self, share: Share) -> Lease:
        if len(share.waiting) >= share.max_queue:
            missing = self._missing(share)
            raise Busy(f"{missing}, and {share.max_queue} requests are already queued")
        granted: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        request = _Waiting(granted, now())
        if not share.waiting:
            self._queue.append(share)
        share.waiting.append(request)
        if share.waiting[0] is request:
            self._announce_waiting(share)
            self._grant()  # a slot may have become free before the announcement
        self._poll_memory(share)
        try:
            async with asyncio.timeout(share.queue_timeout):
                return await granted
        except BaseException as error:
            missing = self._missing(share)
            if granted.done() and not granted.cancelled():
                self.release(share, granted.result())  # it was granted, but too late
            else:
                self._forget(share, request)
            if isinstance(error, TimeoutError):
                raise Busy(f"{missing} within {share.queue_timeout:g} s") from None
            raise

    def _missing(self, share: Share) -> str:
        """What a request of this share has to wait for, for the log."""
        if not self._has_slot(share):
            return "no free slot"
        needed = share.expected_memory + share.demand.tables
        return (
            f"not enough free memory (a guest needs {needed / _MIB:.1f} MiB to start,"
            f" {self._account.available / _MIB:.1f} MiB of {self._account.limit / _MIB:.1f} MiB"
            " are free: see --memory-budget)"
        )

    def _forget(self, share: Share, request: _Waiting) -> None:
        if request in share.waiting:
            share.waiting.remove(request)
        if not share.waiting and share in self._queue:
            self._queue.remove(share)
        self._announce_waiting(share)

    def _announce_waiting(self, share: Share) -> None:
        """Let other workers know since when the longest waiting request of a share waits."""
        if share.limit is None:
            return
        share.limit.set_waiting(share.waiting[0].since if share.waiting else 0)
        descriptor = self._limits.descriptor
        if not self._is_listening and descriptor is not None:
            self._is_listening = True
            asyncio.get_running_loop().add_reader(descriptor, self._on_wake)

    def _on_wake(self) -> None:
        self._limits.clear()
        self._grant()

    def _grant(self) -> None:
        """Start those that wait, one of each share in turn."""
        passed_over = 0
        while self._free and passed_over < len(self._queue):
            share = self._queue.popleft()
            while share.waiting and share.waiting[0].granted.done():
                share.waiting.popleft()  # given up in this pass of the loop
            if not share.waiting:
                continue
            lease = self._take(share)
            if lease is not None:
                share.waiting.popleft().granted.set_result(lease)
                self._announce_waiting(share)
                passed_over = 0
            else:
                passed_over += 1
                self._poll_memory(share)
            if share.waiting:
                self._queue.append(share)

    def _poll_memory(self, share: Share) -> None:
        """Look at an interval if it is memory that a share waits for."""
        if self._has_slot(share):
            self._set_timer(_MEMORY_POLL_INTERVAL_S)

    def _set_timer(self, delay: float) -> None:
        """Have ``_on_timer`` called after ``delay`` seconds, or sooner."""
        if not self._account.is_limited:
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + delay
        if self._timer is not None:
            if self._timer_due <= due:
                return
            self._timer.cancel()
        self._timer = loop.call_at(due, self._on_timer)
        self._timer_due = due

    def _on_timer(self) -> None:
        self._timer = None
        self._account.trim_idle()
        self._grant()
        if not self._account.is_idle:
            self._set_timer(_TRIM_INTERVAL_S)
