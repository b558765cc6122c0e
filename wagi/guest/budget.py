"""The memory budget that the guests of all workers share.

The supervisor creates a ``MemoryBudget`` before it forks and gives each worker a ``MemoryAccount``;
a worker takes a ``Lease`` for each guest. The accounts share an anonymous mapping. For each account
it has a 64-bit cell, the number of bytes that the account has reserved, and a byte that is set if
the account was refused memory. Only the owner of an account writes them, and the sum of all cells
is the reserved memory. There are no locks that a killed worker could leave held; the supervisor
clears its cell.

An account first raises its cell and then reads the sum. If the sum exceeds the limit, it takes the
raise back. Two accounts that compete for the last bytes may therefore both be refused, but together
they never exceed the limit.

The memory that an account has reserved beyond its leases is its *headroom*. A guest can grow at any
instruction, without a host call, so the memory it may grow to has to be reserved before it runs.
While the budget is ample, an account keeps the headroom of one guest from slice to slice, and a
slice does not read the other accounts. When the budget runs short, or an account was refused
memory, the headroom is released after each slice.
"""

from __future__ import annotations

import threading
from mmap import mmap

_CELL_SIZE = 8  # bytes; an aligned write of them is atomic on every 64-bit processor
CELLS_PER_WORKER = 8
"""Maximum number of processes per worker. A reload starts a worker beside the one that it replaces,
which may itself have replaced a worker whose last requests are still running. Further starts wait
until one of these processes has ended."""
_HEADROOM_SHARE = 4  # at most 1/4 of the budget, divided among the workers, is kept as headroom
_SHORT_SHARE = 4  # the budget is short when less than 1/4 of it is free
_GROWTH_STEP = 8 * 1024**2
"""Bytes that a slice leaves to each other worker when the budget is short. Guests usually grow by
less in one slice. Without this, the first guest would reserve all free memory, and guests that run
at the same time in other workers could not grow."""
_SMALLEST_CLAIM = 64 * 1024  # bytes: a page of WebAssembly, the unit in which memories grow
NO_LIMIT = 2**62
"""Bytes; more than any machine has, but still a signed 64-bit number for wasmtime's C API."""


class MemoryBudget:
    """The memory of all guests, divided among the processes that run them.

    Args:
        limit: Size of the budget in bytes; 0 for no limit.
        workers: Number of workers, without those that are being replaced.
    """

    def __init__(self, limit: int, workers: int) -> None:
        self.limit = limit
        self._workers = workers
        count = CELLS_PER_WORKER * workers
        self._unused = list(range(count))
        shared = memoryview(mmap(-1, count * (_CELL_SIZE + 1)))
        self._cells = shared[: count * _CELL_SIZE].cast("Q")
        self._refused = shared[count * _CELL_SIZE :][:count]

    @property
    def reserved(self) -> int:
        """Bytes that all accounts have reserved."""
        return sum(self._cells)

    def open_account(self) -> MemoryAccount | None:
        """Open an account for one process. Must be called before the fork.

        Returns:
            None if too many accounts are open.
        """
        if not self.limit:
            return unlimited_account()
        if not self._unused:
            return None
        index = self._unused.pop(0)
        return MemoryAccount(self._cells, self._refused, index, self.limit, self._workers)

    def close_account(self, account: MemoryAccount) -> None:
        """Release all memory of an account, whose process must have ended."""
        if self.limit:
            self._cells[account.index] = self._refused[account.index] = 0
            self._unused.append(account.index)
            self._unused.sort()


class MemoryAccount:
    """The share of one worker's guests in the budget. Not thread-safe.

    Args:
        cells: The reserved bytes of each account.
        refused: Whether each account was refused memory.
        index: The index of this account.
        limit: Size of the whole budget, in bytes.
        workers: Number of workers that share it.
    """

    def __init__(
        self,
        cells: memoryview[int],
        refused: memoryview[int],
        index: int,
        limit: int,
        workers: int,
    ) -> None:
        self.index = index
        self.limit = limit
        self._cells = cells
        self._refused = refused
        self._reserved = 0  # the value of the own cell
        self._leases = 0  # number of open leases
        self._for_others = (workers - 1) * _GROWTH_STEP
        # Leases read these directly, at every slice of every guest.
        self.headroom = 0
        self.most_headroom = limit // (_HEADROOM_SHARE * workers)
        self.kept_headroom = self.most_headroom  # 0 while the budget is short
        self._fence = threading.Lock()

    @property
    def used(self) -> int:
        """Bytes that the leases of this account hold."""
        return self._reserved - self.headroom

    @property
    def available(self) -> int:
        """Maximum size of a new lease of this account, in bytes."""
        return max(0, self._free()) + self.headroom

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit."""
        return self.limit != NO_LIMIT

    @property
    def is_idle(self) -> bool:
        """Whether the account has reserved no memory."""
        return not self._reserved

    def lease(
        self, initial: int, limit: int, tables: int = 0, group: LeaseGroup | None = None
    ) -> Lease | None:
        """Reserve the initial memory of a guest.

        Args:
            initial: Bytes of linear memory that stay reserved as long as the guest runs.
            limit: Bytes to which its linear memory may grow.
            tables: Bytes of its tables.
            group: The guest's group, whose share of the budget is not exceeded.

        Returns:
            None if there is not enough memory now.
        """
        size = initial + tables
        group = group or LeaseGroup()
        if size > self.headroom or not self.kept_headroom:
            available = self.available
            if size > available:
                self._refused[self.index] = True  # until ``trim_idle``
                return None
            if not group.may_have(size, available) or not self.reserve(size):
                return None
        else:
            self.headroom -= size
        self._leases += 1
        return Lease(self, initial, limit, tables, group)

    def reserve(self, size: int) -> bool:
        """Reserve bytes; return whether that many were available."""
        missing = size - self.headroom
        if missing > 0:
            if not self._raise(missing):
                return False
            self.headroom = 0
            self._note_shortage(self._free())
        else:
            self.headroom -= size
        return True

    def close_lease(self, size: int) -> None:
        """Release the bytes of a lease that is closed."""
        self._leases -= 1
        self.headroom += size
        if self.headroom > self.kept_headroom:
            self.trim(self.kept_headroom)

    def claim(self, wanted: int, group: LeaseGroup) -> int:
        """Reserve headroom for a slice in which a guest may grow.

        Args:
            wanted: Bytes by which the guest's limit allows it to grow.
            group: The guest's group.

        Returns:
            Bytes by which the guest may grow, at most ``wanted``.
        """
        missing = wanted - self.headroom
        free = self._free()
        self._note_shortage(free)
        if free - missing >= self.limit // _SHORT_SHARE:
            if self._raise(missing):
                self.headroom += missing
                return wanted
            free = self._free()
        free = max(0, free)
        wanted = min(wanted, group.may_grow_by(free + self.headroom))
        extra = min(wanted - self.headroom, free - min(free // 2, self._for_others))
        while extra >= _SMALLEST_CLAIM:  # another worker may reserve memory now: retry with less
            if self._raise(extra):
                self.headroom += extra
                break
            extra //= 2
        return max(0, min(wanted, self.headroom))

    def charge(self, growth: int) -> None:
        """Take the growth of a guest, which may be negative, out of the headroom."""
        self.headroom -= growth
        if self.headroom < 0:  # the guest has exceeded its limit: count the memory in use
            self._reserved -= self.headroom
            self._cells[self.index] = self._reserved
            self.headroom = 0

    def trim(self, headroom: int = 0) -> None:
        """Release all headroom beyond a number of bytes."""
        self._reserved -= self.headroom - headroom
        self.headroom = headroom
        self._cells[self.index] = self._reserved

    def trim_idle(self) -> None:
        """Release headroom that is not needed, or that other accounts need more.

        Must be called periodically: an account without running guests does not notice otherwise
        that the budget has run short. Requests that still wait for memory must retry afterwards.
        """
        if not self.is_limited:
            return
        self._refused[self.index] = False
        self._note_shortage(self._free())
        keep = self.kept_headroom if self._leases else 0
        if self.headroom > keep:
            self.trim(keep)

    def _free(self) -> int:
        """Return the unreserved bytes; negative while another account takes a raise back."""
        return self.limit - sum(self._cells)

    def _note_shortage(self, free: int) -> None:
        """Decide how much headroom to keep, given the number of unreserved bytes."""
        is_short = free + self.headroom < self.limit // _SHORT_SHARE or any(self._refused)
        self.kept_headroom = 0 if is_short else self.most_headroom

    def _raise(self, size: int) -> bool:
        """Raise the account's cell; return False if the sum would exceed the limit."""
        reserved = self._reserved + size
        if reserved > self.limit:
            return False
        self._cells[self.index] = reserved
        # A processor may read the other cells before its own write is visible to others, so that
        # two workers would miss each other's raise. Taking a lock is a full memory barrier
        # (Dekker's algorithm).
        with self._fence:
            pass
        if sum(self._cells) > self.limit:
            self._cells[self.index] = self._reserved
            return False
        self._reserved = reserved
        return True


class LeaseGroup:
    """Leases that share one part of the budget: those of the guests of one module.

    Args:
        share_factor: The group may hold this many times the memory that it leaves free; None if
            there is no other group.
    """

    def __init__(self, share_factor: int | None = None) -> None:
        self.share_factor = share_factor
        self.held = 0  # bytes
        self.count = 0

    def may_have(self, size: int, available: int) -> bool:
        """Whether a new lease of ``size`` bytes leaves enough of the ``available`` bytes.

        The first lease of a group may take all, so that a large guest can run when others have
        ended.
        """
        if self.share_factor is None or not self.count:
            return True
        return self.held + size <= self.share_factor * (available - size)

    def may_grow_by(self, available: int) -> int:
        """Return how many of the ``available`` bytes leases of this group may grow by."""
        if self.share_factor is None or self.count <= 1:
            return available
        return max(0, (self.share_factor * available - self.held) // (self.share_factor + 1))


class Lease:
    """The memory of one guest. Its owner closes it, once, after the guest's memory is freed."""

    __slots__ = ("_account", "_allowed", "_group", "_initial", "_limit", "_tables", "held", "size")

    def __init__(
        self, account: MemoryAccount, initial: int, limit: int, tables: int, group: LeaseGroup
    ) -> None:
        """Create a lease; use ``MemoryAccount.lease``."""
        self._account = account
        self._group = group
        self._initial = self._allowed = initial
        self._limit = limit
        self._tables = tables
        self.held = initial  # reserved bytes of linear memory, in use or not
        self.size = 0  # bytes of linear memory after the last slice
        group.count += 1
        group.held += initial + tables

    def grow_limit(self) -> int:
        """Reserve memory before a slice.

        ``settle`` must be called after the slice, before the account's next ``grow_limit``.

        Returns:
            Bytes to which the guest's linear memory may grow in this slice. The guest's own limit
            also applies.
        """
        account = self._account
        wanted = self._limit - self.held
        if wanted <= account.headroom:
            self._allowed = self._limit
        else:
            self._allowed = self.held + account.claim(wanted, self._group)
        return self._allowed

    def settle(self, size: int | None) -> None:
        """Release unused memory after a slice.

        Args:
            size: Current size of the guest's linear memory, in bytes; None if it is unknown, as
                while a start function runs. The lease then keeps all that ``grow_limit`` allowed.
        """
        account = self._account
        if size is None:
            held = self._allowed
        else:
            self.size = size
            held = size if size > self._initial else self._initial
        if held != self.held:
            growth = held - self.held
            self.held = held
            self._group.held += growth
            account.charge(growth)
        if account.headroom > account.kept_headroom:
            account.trim(account.kept_headroom)

    def close(self) -> None:
        """Release all memory."""
        size = self.held + self._tables
        self._group.count -= 1
        self._group.held -= size
        self._account.close_lease(size)


def unlimited_account() -> MemoryAccount:
    """Open an account without a limit: its headroom is infinite, so it never reads a cell."""
    none = memoryview(b"")
    account = MemoryAccount(none.cast("Q"), none, 0, NO_LIMIT, 1)
    account.headroom = account.kept_headroom = account.most_headroom = NO_LIMIT
    return account
