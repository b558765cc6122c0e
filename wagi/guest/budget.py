"""The memory that all guests of all workers may have together, and who has how much of it.

The supervisor makes a ``MemoryBudget`` before it forks, and gives each worker a ``MemoryAccount``;
a worker takes a ``Lease`` for each guest. The accounts share an anonymous mapping with a 64-bit
cell per account, which says how much that account has reserved, and a byte, which says whether it
was refused memory. Only their owner writes them, and the sum of all cells is what is reserved.
There are no locks, so a worker that is killed leaves none held: the supervisor clears its cell.

An account raises its cell first and looks at the sum then. If the sum is over the limit, it takes
the raise back. So two accounts that want the last bytes at the same moment may both be refused, but
they never get more than there is.

What an account has reserved beyond its leases is its *headroom*. A guest may grow in any
instruction, without a call of ours, so what it may grow to has to be reserved before it runs. While
the budget has enough left, an account keeps the headroom of one guest from slice to slice, and a
slice costs no look at the other accounts. When the budget runs short, or an account was refused
memory, the headroom is given back after each slice.
"""

from __future__ import annotations

import threading
from mmap import mmap

_CELL_SIZE = 8  # bytes; an aligned write of them is atomic on every 64-bit processor
CELLS_PER_WORKER = 8
"""A reload starts a worker beside the one that it replaces, and that one may have replaced another
whose last requests are still running. A start beyond this waits until one of them has ended."""
_HEADROOM_SHARE = 4  # at most 1/4 of the budget, divided among the workers, is kept as headroom
_SHORT_SHARE = 4  # the budget is short when less than 1/4 of it is free
_GROWTH_STEP = 8 * 1024**2
"""Bytes that a slice leaves to each other worker when the budget is short. A guest that allocates
usually grows by less in one slice; otherwise the guest that runs first would have all that is free,
and those that run at the same time in other workers could not grow at all."""
_SMALLEST_CLAIM = 64 * 1024  # bytes: a page of WebAssembly, the unit in which memories grow
NO_LIMIT = 2**62
"""Bytes: more than any machine has, and a signed 64-bit number still, for wasmtime's C API."""


class MemoryBudget:
    """The memory of all guests, divided among the processes that run them.

    Args:
        limit: Bytes; 0 for no limit.
        workers: How many workers there are, apart from those that are being replaced.
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
        """Make an account for one process; call it before the fork.

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
        """Take back all that an account has reserved. Its process must have ended."""
        if self.limit:
            self._cells[account.index] = self._refused[account.index] = 0
            self._unused.append(account.index)
            self._unused.sort()


class MemoryAccount:
    """What the guests of one worker have of the budget. Not thread-safe.

    Args:
        cells: The bytes that each account has reserved.
        refused: Whether each account was refused memory.
        index: Which cell is this account's.
        limit: Bytes of the whole budget.
        workers: How many workers share it.
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
        self._leases = 0  # how many are open
        self._for_others = (workers - 1) * _GROWTH_STEP
        # Leases read these directly: they are asked at every slice of every guest.
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
        """Bytes that a new lease of this account could have at most."""
        return max(0, self._free()) + self.headroom

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit."""
        return self.limit != NO_LIMIT

    @property
    def is_idle(self) -> bool:
        """Whether it has reserved nothing."""
        return not self._reserved

    def lease(
        self, initial: int, limit: int, tables: int = 0, group: LeaseGroup | None = None
    ) -> Lease | None:
        """Reserve the memory that a guest starts with.

        Args:
            initial: Bytes of linear memory that are reserved as long as the guest runs.
            limit: Bytes of linear memory that it may grow to.
            tables: Bytes of its tables.
            group: The guests that it belongs to; it may not get more than its group's share.

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
        """Reserve bytes. Returns: whether there were as many."""
        missing = size - self.headroom
        if missing > 0:
            if not self._raise(missing):
                return False
            self.headroom = 0
            self._note_shortage(self._free())
        else:
            self.headroom -= size
        return True

    def release(self, size: int) -> None:
        """Give back bytes that were reserved."""
        self.headroom += size
        if self.headroom > self.kept_headroom:
            self.trim(self.kept_headroom)

    def close_lease(self, size: int) -> None:
        """Give back what a lease has held."""
        self._leases -= 1
        self.release(size)

    def claim(self, wanted: int, group: LeaseGroup) -> int:
        """Make headroom for a slice in which a guest may grow.

        Args:
            wanted: Bytes that its limit allows it to grow by.
            group: The guests that it belongs to.

        Returns:
            Bytes that it may grow by, at most ``wanted``.
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
        while extra >= _SMALLEST_CLAIM:  # another worker may have been faster: then with less
            if self._raise(extra):
                self.headroom += extra
                break
            extra //= 2
        return max(0, min(wanted, self.headroom))

    def charge(self, growth: int) -> None:
        """Take what a guest has grown by out of the headroom, or put back what it has not used."""
        self.headroom -= growth
        if self.headroom < 0:  # more than it was allowed: what is in use has to be counted
            self._reserved -= self.headroom
            self._cells[self.index] = self._reserved
            self.headroom = 0

    def trim(self, headroom: int = 0) -> None:
        """Give back all headroom beyond so many bytes."""
        self._reserved -= self.headroom - headroom
        self.headroom = headroom
        self._cells[self.index] = self._reserved

    def trim_idle(self) -> None:
        """Give back headroom that is not needed, or that others need more.

        To be called now and then: an account that nobody uses does not notice by itself that the
        budget has run short. Whoever still waits for memory asks for it again after this.
        """
        if not self.is_limited:
            return
        self._refused[self.index] = False
        self._note_shortage(self._free())
        keep = self.kept_headroom if self._leases else 0
        if self.headroom > keep:
            self.trim(keep)

    def _free(self) -> int:
        """Bytes that no account has reserved; negative while another one takes a raise back."""
        return self.limit - sum(self._cells)

    def _note_shortage(self, free: int) -> None:
        """Decide how much headroom is kept, from the bytes that no account has reserved."""
        is_short = free + self.headroom < self.limit // _SHORT_SHARE or any(self._refused)
        self.kept_headroom = 0 if is_short else self.most_headroom

    def _raise(self, size: int) -> bool:
        """Raise the own cell, unless the sum would be over the limit then."""
        reserved = self._reserved + size
        if reserved > self.limit:
            return False
        self._cells[self.index] = reserved
        # A processor may read the other cells before its own write has become visible: two workers
        # would then not see each other. Taking a lock is a full barrier (Dekker's algorithm).
        with self._fence:
            pass
        if sum(self._cells) > self.limit:
            self._cells[self.index] = self._reserved
            return False
        self._reserved = reserved
        return True


class LeaseGroup:
    """Leases that have one share of the budget: those of the guests of one module.

    Args:
        share_factor: The group may hold so many times what it leaves free; None if there is no
            other group.
    """

    def __init__(self, share_factor: int | None = None) -> None:
        self.share_factor = share_factor
        self.held = 0  # bytes
        self.count = 0

    def may_have(self, size: int, available: int) -> bool:
        """Whether a new lease of ``size`` bytes leaves enough of the ``available`` ones.

        The first lease of a group may have all: a large guest can run when the others have ended.
        """
        if self.share_factor is None or not self.count:
            return True
        return self.held + size <= self.share_factor * (available - size)

    def may_grow_by(self, available: int) -> int:
        """Bytes of the ``available`` ones that leases of this group may grow by."""
        if self.share_factor is None or self.count <= 1:
            return available
        return max(0, (self.share_factor * available - self.held) // (self.share_factor + 1))


class Lease:
    """The memory of one guest. Its owner closes it, once, after the guest's memory is freed."""

    __slots__ = ("_account", "_allowed", "_group", "_initial", "_limit", "_tables", "held", "size")

    def __init__(
        self, account: MemoryAccount, initial: int, limit: int, tables: int, group: LeaseGroup
    ) -> None:
        """Made by ``MemoryAccount.lease``."""
        self._account = account
        self._group = group
        self._initial = self._allowed = initial
        self._limit = limit
        self._tables = tables
        self.held = initial  # bytes of linear memory, whether the guest has grown to them or not
        self.size = 0  # bytes of linear memory that it had after its last slice
        group.count += 1
        group.held += initial + tables

    def grow_limit(self) -> int:
        """Before a slice: what the guest's memory may grow to in this slice.

        Every call is followed by ``settle``, before any other lease of the account is asked.

        Returns:
            Bytes of linear memory. The limit of the store is this or the guest's own limit,
            whichever is smaller.
        """
        account = self._account
        wanted = self._limit - self.held
        if wanted <= account.headroom:
            self._allowed = self._limit
        else:
            self._allowed = self.held + account.claim(wanted, self._group)
        return self._allowed

    def settle(self, size: int | None) -> None:
        """After a slice: keep what the guest uses.

        Args:
            size: Bytes of linear memory that it has now; None if that cannot be seen yet, as while
                a start function runs: then it keeps all that it was allowed.
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
        """Give everything back."""
        size = self.held + self._tables
        self._group.count -= 1
        self._group.held -= size
        self._account.close_lease(size)


def unlimited_account() -> MemoryAccount:
    """An account without a limit: its headroom never ends, so that it never looks at a cell."""
    none = memoryview(b"")
    account = MemoryAccount(none.cast("Q"), none, 0, NO_LIMIT, 1)
    account.headroom = account.kept_headroom = account.most_headroom = NO_LIMIT
    return account
