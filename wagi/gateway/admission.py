"""Admission control: grants slots and memory to guests, or queues their requests.

A worker has a number of slots for guests, and all workers together have a memory budget. A guest
needs a slot and its initial memory. Two rules prevent one module under heavy load from starving the
others:

- A share may hold at most four times as many slots as are free, and four times as much memory
  (dynamic thresholds, Choudhury and Hahne 1998): a single busy share gets four fifths, and the rest
  remains available to other modules.
- Freed slots are granted to the shares in round-robin order, not to the longest queue.

Workers do not notify each other when they release memory: while requests wait for memory, admission
polls. They do notify each other when a guest of an entry with ``max_concurrency`` has ended
(``gateway.concurrency``).
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
_MEMORY_POLL_INTERVAL_S = 0.02  # guests that wait for memory mostly run for longer
_TRIM_INTERVAL_S = 0.25  # after which an idle worker returns unused memory
_MEMORY_DECAY = 8
"""Divisor of the surplus by which ``expected_memory`` falls after a guest that needed less: the
surplus is halved after five such guests, and down to a tenth after seventeen."""
_MIB = 1024**2


class Overloaded(Exception):
    """No guest can be started: the queue is full, or the request timed out in it."""


@dataclass(frozen=True, slots=True, eq=False)
class _WaitingRequest:
    """A queued request."""

    granted: asyncio.Future[Lease]
    since: int  # in nanoseconds of ``concurrency.now``


class Share:
    """The share of slots and memory of an entry, common to all its routes.

    Args:
        limit: The concurrency limit of the entry; None for no limit.
        limits: The limits of the entry, including those of its queue.
        demand: The memory that a guest needs.

    Attributes:
        held: Number of slots held by its guests.
        expected_memory: Linear memory reserved for a new guest, in bytes. It is the initial size of
            the module, or more if recent guests have grown: otherwise too many would start, and
            fail together when they grow.
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
        self.waiting: deque[_WaitingRequest] = deque()

    def update_expected_memory(self, size: int) -> None:
        """Update the estimate after a guest has ended.

        Args:
            size: Final size of its linear memory in bytes.
        """
        initial = self.demand.initial
        surplus = self.expected_memory - (size if size > initial else initial)
        if surplus:
            self.expected_memory -= surplus if surplus < 0 else surplus // _MEMORY_DECAY


class Admission:
    """The admission control of a worker. Each acquired lease must be released once.

    Args:
        slots: Maximum number of running guests.
        shares: The shares that compete for slots and memory; a single share may hold everything.
        account: The worker's account of the memory budget.
        limits: The worker's side of the concurrency limits.
    """

    def __init__(
        self,
        slots: int,
        shares: Collection[Share],
        account: MemoryAccount,
        limits: WorkerLimits,
    ) -> None:
        self._slots = self._free = slots
        self._share_factor = _SHARE_FACTOR if len(shares) > 1 else slots
        self._account = account
        self._limits = limits
        self._is_listening = False  # for wake-ups from other workers
        self._queue: deque[Share] = deque()  # shares with queued requests, the next one first
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0  # in seconds of the loop's clock
        for share in shares:
            share.leases.share_factor = _SHARE_FACTOR if len(shares) > 1 else None

    @property
    def running(self) -> int:
        """Number of running guests."""
        return self._slots - self._free

    @property
    def queued(self) -> int:
        """Number of requests that wait for a slot or for memory."""
        return sum(len(share.waiting) for share in self._queue)

    @property
    def memory(self) -> int:
        """Bytes of memory that the running guests hold."""
        return self._account.used

    async def acquire(self, share: Share) -> Lease:
        """Acquire a slot and memory for a guest, waiting for them if necessary.

        Raises:
            Overloaded: The queue is full, or the request timed out in it.
        """
        lease = self.try_acquire(share)
        return lease if lease is not None else await self._wait(share)

    def try_acquire(self, share: Share) -> Lease | None:
        """Acquire a slot and memory for a guest without waiting.

        Returns:
            The lease; None if there is not enough, or other requests are queued.
        """
        if share.waiting:
            return None
        lease = self._take(share)
        if lease is not None and self._timer is None:
            self._set_timer(_TRIM_INTERVAL_S)
        return lease

    def release(self, share: Share, lease: Lease) -> None:
        """Release the slot and the memory of a guest. Its linear memory must have been freed."""
        lease.close()
        share.update_expected_memory(lease.size)
        share.held -= 1
        self._free += 1
        if share.limit is not None:
            share.limit.release()
        if self._queue:
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
            shortage = self._shortage(share)
            raise Overloaded(
                f"{shortage}, and {share.max_queue} requests are already queued (max_queue)"
            )
        granted: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        request = _WaitingRequest(granted, now())
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
            shortage = self._shortage(share)
            if granted.done() and not granted.cancelled():
                self.release(share, granted.result())  # granted, but too late
            else:
                self._dequeue(share, request)
            if isinstance(error, TimeoutError):
                raise Overloaded(
                    f"{shortage} within {share.queue_timeout:g} s (queue_timeout)"
                ) from None
            raise

    def _shortage(self, share: Share) -> str:
        """Return the resource that a request of this share waits for, for the log."""
        if not self._has_slot(share):
            is_full = share.limit is not None and not share.limit.has_free_slot
            return f"no free slot ({'max_concurrency' if is_full else '--max-concurrency'})"
        needed = share.expected_memory + share.demand.tables
        return (
            f"not enough free memory (a guest needs {needed / _MIB:.1f} MiB to start,"
            f" {self._account.available / _MIB:.1f} MiB of {self._account.limit / _MIB:.1f} MiB"
            " are free: see --memory-budget)"
        )

    def _dequeue(self, share: Share, request: _WaitingRequest) -> None:
        if request in share.waiting:
            share.waiting.remove(request)
        if not share.waiting and share in self._queue:
            self._queue.remove(share)
        self._announce_waiting(share)

    def _announce_waiting(self, share: Share) -> None:
        """Publish the time of the oldest queued request of a share to other workers."""
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
        """Grant free slots to queued requests, one of each share in turn."""
        passed_over = 0
        while self._free and passed_over < len(self._queue):
            share = self._queue.popleft()
            while share.waiting and share.waiting[0].granted.done():
                share.waiting.popleft()  # cancelled in this iteration of the loop
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
        """Start to poll if a share waits for memory."""
        if self._has_slot(share):
            self._set_timer(_MEMORY_POLL_INTERVAL_S)

    def _set_timer(self, delay: float) -> None:
        """Schedule a call of ``_on_timer`` within ``delay`` seconds."""
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
