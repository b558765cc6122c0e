"""The memory budget is never exceeded and never leaks, even with concurrent workers."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wagi.guest.budget import (
    CELLS_PER_WORKER,
    Lease,
    LeaseGroup,
    MemoryAccount,
    MemoryBudget,
    unlimited_account,
)

pytestmark = pytest.mark.fast

MIB = 1024**2
GIB = 1024**3


def open_account(budget: MemoryBudget) -> MemoryAccount:
    account = budget.open_account()
    assert account is not None
    return account


def open_lease(account: MemoryAccount, initial: int, limit: int, **options: Any) -> Lease:
    lease = account.lease(initial, limit, **options)
    assert lease is not None
    return lease


def grow(lease: Lease, size: int) -> bool:
    """Run a slice in which a guest grows to ``size`` bytes; return whether it could."""
    fits = size <= lease.grow_limit()
    lease.settle(size if fits else lease.size)
    return fits


def test_lease_holds_its_guest_s_memory() -> None:
    budget = MemoryBudget(GIB, 1)
    account = open_account(budget)
    lease = open_lease(account, 2 * MIB, 256 * MIB, tables=MIB)
    assert account.used == 3 * MIB
    assert lease.grow_limit() == 256 * MIB
    lease.settle(20 * MIB)
    assert (account.used, lease.size) == (21 * MIB, 20 * MIB)
    lease.close()
    account.trim()
    assert (account.used, budget.reserved) == (0, 0)


def test_growth_beyond_the_budget_fails() -> None:
    account = open_account(MemoryBudget(256 * MIB, 1))
    first = open_lease(account, MIB, 256 * MIB)
    second = open_lease(account, MIB, 256 * MIB)
    assert grow(first, 120 * MIB)
    assert grow(second, 120 * MIB)
    assert second.grow_limit() == 136 * MIB
    second.settle(120 * MIB)
    third = open_lease(account, MIB, 256 * MIB)
    assert not grow(third, 120 * MIB)
    first.close()
    assert grow(third, 120 * MIB)


def test_guest_can_start_when_another_has_ended() -> None:
    budget = MemoryBudget(256 * MIB, 2)
    here, there = open_account(budget), open_account(budget)
    first = open_lease(here, 120 * MIB, 120 * MIB)
    assert there.lease(200 * MIB, 200 * MIB) is None
    second = open_lease(there, 120 * MIB, 120 * MIB)
    assert here.lease(120 * MIB, 120 * MIB) is None
    second.close()
    third = open_lease(here, 120 * MIB, 120 * MIB)
    first.close()
    third.close()
    assert here.lease(257 * MIB, 257 * MIB) is None


def test_a_slice_reads_no_other_account_while_the_budget_is_ample() -> None:
    """The account keeps the headroom of one guest for the slices of all guests."""
    budget = MemoryBudget(8 * GIB, 2)
    account = open_account(budget)
    leases = [open_lease(account, 2 * MIB, 256 * MIB) for _ in range(10)]
    leases[0].grow_limit()
    leases[0].settle(2 * MIB)
    reserved = budget.reserved
    account._cells = None  # type: ignore[assignment]  # any access to the cells raises
    for lease in leases:
        assert lease.grow_limit() == 256 * MIB
        lease.settle(2 * MIB)
    assert reserved == 10 * 2 * MIB + 254 * MIB


def test_headroom_is_released_when_budget_is_short() -> None:
    budget = MemoryBudget(GIB, 2)
    busy, other = open_account(budget), open_account(budget)
    lease = open_lease(busy, MIB, 101 * MIB)
    lease.grow_limit()
    lease.settle(MIB)
    assert busy.headroom == 100 * MIB
    large = open_lease(other, 900 * MIB, 900 * MIB)
    busy.trim_idle()
    assert (busy.headroom, busy.used) == (0, MIB)
    assert open_lease(other, 100 * MIB, 100 * MIB)
    # A slice gets the remaining memory, and releases it afterwards.
    assert MIB < lease.grow_limit() <= 24 * MIB
    lease.settle(MIB)
    assert busy.headroom == 0
    large.close()
    assert lease.grow_limit() == 101 * MIB
    lease.settle(MIB)
    assert busy.headroom == 100 * MIB


def test_headroom_is_released_when_another_account_needs_it() -> None:
    """Even if the budget is far from exhausted: 136 MiB are free, and 120 are requested."""
    budget = MemoryBudget(256 * MIB, 3)
    sleeping, other = open_account(budget), open_account(budget)
    lease = open_lease(sleeping, 120 * MIB, 256 * MIB)
    sleeping.trim_idle()
    lease.grow_limit()
    lease.settle(120 * MIB)
    assert sleeping.headroom == 256 * MIB // 12
    assert other.lease(120 * MIB, 256 * MIB) is None
    sleeping.trim_idle()
    assert sleeping.headroom == 0
    assert open_lease(other, 120 * MIB, 256 * MIB)


def test_headroom_is_released_by_worker_without_guests() -> None:
    budget = MemoryBudget(8 * GIB, 1)
    account = open_account(budget)
    lease = open_lease(account, MIB, 256 * MIB)
    lease.grow_limit()
    lease.settle(MIB)
    account.trim_idle()
    assert account.headroom == 255 * MIB
    lease.close()
    assert budget.reserved == 256 * MIB
    account.trim_idle()
    assert (budget.reserved, account.is_idle) == (0, True)


def test_slice_leaves_other_workers_room_to_grow() -> None:
    budget = MemoryBudget(256 * MIB, 2)
    first, second = (open_lease(open_account(budget), MIB, 256 * MIB) for _ in range(2))
    assert first.grow_limit() > 200 * MIB  # while the slice runs:
    assert second.grow_limit() >= 4 * MIB
    second.settle(2 * MIB)
    first.settle(MIB)
    assert second.grow_limit() > 200 * MIB


def test_groups_leave_a_fifth_to_others() -> None:
    account = open_account(MemoryBudget(100 * MIB, 1))
    flood, other = LeaseGroup(4), LeaseGroup(4)
    held = 0
    while account.lease(10 * MIB, 30 * MIB, group=flood):
        held += 1
        assert held <= 8
    assert held == 8
    assert not grow(open_lease(account, 5 * MIB, 30 * MIB, group=other), 26 * MIB)
    assert flood.may_grow_by(15 * MIB) == 0


def test_only_lease_of_a_group_can_take_all() -> None:
    account = open_account(MemoryBudget(100 * MIB, 1))
    group = LeaseGroup(4)
    lease = open_lease(account, 90 * MIB, 200 * MIB, group=group)
    assert grow(lease, 100 * MIB)
    lease.close()
    assert (group.held, group.count) == (0, 0)


def test_growth_beyond_the_allowance_is_counted() -> None:
    budget = MemoryBudget(10 * MIB, 1)
    lease = open_lease(open_account(budget), MIB, 2 * MIB)
    lease.grow_limit()
    lease.settle(12 * MIB)
    assert budget.reserved == 12 * MIB
    lease.close()
    assert budget.reserved <= 2.5 * MIB  # the headroom


def test_guest_of_unknown_memory_size() -> None:
    """It keeps its whole allowance until the size is known."""
    budget = MemoryBudget(100 * MIB, 1)
    account = open_account(budget)
    lease = open_lease(account, MIB, 60 * MIB)
    lease.grow_limit()
    lease.settle(None)
    assert (lease.held, lease.size, account.used) == (60 * MIB, 0, 60 * MIB)
    lease.grow_limit()
    lease.settle(3 * MIB)
    assert (lease.held, lease.size, account.used) == (3 * MIB, 3 * MIB, 3 * MIB)
    lease.close()
    account.trim_idle()
    assert budget.reserved == 0


def test_no_limit() -> None:
    budget = MemoryBudget(0, 4)
    accounts = [open_account(budget) for _ in range(100)]
    lease = open_lease(accounts[0], GIB, 4 * GIB)
    assert grow(lease, 4 * GIB)
    lease.close()
    accounts[0].trim_idle()
    assert open_lease(accounts[0], 1000 * GIB, 1000 * GIB)
    budget.close_account(accounts[0])
    assert not unlimited_account().is_limited


def test_accounts_are_limited_and_reused() -> None:
    budget = MemoryBudget(GIB, 2)
    accounts = [open_account(budget) for _ in range(2 * CELLS_PER_WORKER)]
    assert len({account.index for account in accounts}) == len(accounts)
    assert budget.open_account() is None
    open_lease(accounts[3], GIB, GIB)
    budget.close_account(accounts[3])
    assert open_lease(open_account(budget), GIB, GIB)


Move = tuple[str, int, int, int]
MOVES = st.lists(
    st.tuples(
        st.sampled_from(["open", "slice", "begin", "end", "close", "trim", "die"]),
        st.integers(0, 2),  # index of the worker
        st.integers(0, 7),  # index of the guest
        st.integers(0, 40),  # size, in units
    ),
    max_size=60,
)
UNIT = MIB


@settings(max_examples=settings().max_examples * 4)
@given(st.sampled_from([1, 10, 30, 100, 1000]), st.sampled_from([None, 4]), MOVES)
def test_any_interleaving(limit: int, share_factor: int | None, moves: list[Move]) -> None:
    """The limit holds, the guests' memory is reserved, and all of it is released at the end."""
    budget = MemoryBudget(limit * UNIT, 3)
    workers = [_Worker(budget, share_factor) for _ in range(3)]
    for name, worker, guest, size in moves:
        getattr(workers[worker], name)(guest, size * UNIT)
        assert budget.reserved <= budget.limit
        for each in workers:
            assert each.account.used == sum(sizes[1] for sizes in each.sizes())
            assert all(size <= held for size, held in each.sizes())
            assert each.account.headroom >= 0
            assert sum(group.held for group in each.groups) == each.account.used
    for each in workers:
        each.end(0, 0)
        for _ in range(len(each.leases)):
            each.close(0, 0)
        each.account.trim_idle()
        assert each.account.is_idle
    assert budget.reserved == 0


class _Worker:
    """A worker with guests, one of which may be in the middle of a slice."""

    def __init__(self, budget: MemoryBudget, share_factor: int | None) -> None:
        self.budget = budget
        self.share_factor = share_factor
        self.leases: list[Lease] = []
        self.start()

    def start(self) -> None:
        self.account = open_account(self.budget)
        self.groups = [LeaseGroup(self.share_factor) for _ in range(2)]
        self.running: tuple[Lease, int] | None = None

    def sizes(self) -> list[tuple[int, int]]:
        return [(lease.size, lease.held) for lease in self.leases]

    def open(self, guest: int, size: int) -> None:
        if self.running is None and len(self.leases) < 8:
            lease = self.account.lease(size, 2 * size, group=self.groups[guest % 2])
            if lease is not None:
                lease.settle(size)
                self.leases.append(lease)

    def begin(self, guest: int, _size: int) -> None:
        if self.running is None and self.leases:
            lease = self.leases[guest % len(self.leases)]
            limit = lease.grow_limit()
            assert limit >= lease.held
            self.running = lease, limit

    def end(self, _guest: int, size: int) -> None:
        if self.running is not None:
            lease, limit = self.running
            lease.settle(min(limit, max(size, lease.size)) if size else None)
            assert lease.held <= limit
            self.running = None

    def slice(self, guest: int, size: int) -> None:
        self.begin(guest, size)
        self.end(guest, size)

    def close(self, guest: int, _size: int) -> None:
        if self.running is None and self.leases:
            self.leases.pop(guest % len(self.leases)).close()

    def trim(self, _guest: int, _size: int) -> None:
        if self.running is None:
            self.account.trim_idle()

    def die(self, _guest: int, _size: int) -> None:
        self.budget.close_account(self.account)
        self.leases.clear()
        self.start()


ROUNDS = 150
LIMIT = 64 * MIB
WORKERS = 4
_fork = multiprocessing.get_context("fork")


class _Load:
    """Guests of one process that start, grow and end at random."""

    def __init__(self, account: MemoryAccount, seed: int) -> None:
        self.account = account
        self.dice = random.Random(seed)
        self.leases: list[Lease] = []

    def reserve(self) -> None:
        """Reserve as much as possible, while the others do the same."""
        for _ in range(self.dice.randrange(8)):
            lease = self.account.lease(self.dice.randrange(8) * MIB, 40 * MIB)
            if lease is not None:
                self.leases.append(lease)
        for lease in self.leases:
            lease.settle(self.dice.randrange(lease.held, lease.grow_limit() + 1))

    def release(self) -> None:
        """End some guests, sometimes all."""
        keep = self.dice.choice([0, 1, 3])
        while len(self.leases) > keep:
            self.leases.pop(self.dice.randrange(len(self.leases))).close()

    @property
    def held(self) -> int:
        return sum(lease.held for lease in self.leases)


def _in_step(account: MemoryAccount, seed: int, held: Any, barrier: Any) -> None:
    load = _Load(account, seed)
    for _ in range(ROUNDS):
        barrier.wait(60)
        load.reserve()
        held[account.index] = load.held
        barrier.wait(60)  # all hold their memory now, while the sum is checked
        barrier.wait(60)
        load.release()
    while load.leases:
        load.leases.pop().close()
    account.trim_idle()


def _without_end(account: MemoryAccount, seed: int) -> None:
    load = _Load(account, seed)
    while True:
        load.reserve()
        load.release()


def test_concurrent_processes() -> None:
    """They reserve memory concurrently, and together never exceed the limit."""
    budget = MemoryBudget(LIMIT, WORKERS)
    held = _fork.RawArray("Q", WORKERS)
    barrier = _fork.Barrier(WORKERS + 1)
    processes = [
        _fork.Process(target=_in_step, args=(open_account(budget), seed, held, barrier))
        for seed in range(WORKERS)
    ]
    with _running(processes):
        fullest = 0
        for _ in range(ROUNDS):
            barrier.wait(60)
            barrier.wait(60)
            assert sum(held) <= budget.reserved <= LIMIT
            fullest = max(fullest, sum(held))
            barrier.wait(60)
        for process in processes:
            process.join(60)
            assert process.exitcode == 0
        assert fullest > LIMIT * 3 // 4  # the processes competed for the last bytes
    assert budget.reserved == 0


def test_killed_process() -> None:
    """Its cell is cleared, whatever it was doing, and the others can use the whole budget."""
    budget = MemoryBudget(LIMIT, WORKERS)
    ours = open_account(budget)
    load = _Load(ours, 0)
    for seed in range(10):
        account = open_account(budget)
        victim = _fork.Process(target=_without_end, args=(account, seed))
        with _running([victim]):
            deadline = time.monotonic() + 30
            while not budget._cells[account.index]:
                assert time.monotonic() < deadline
            for _ in range(20):
                load.reserve()
                assert load.held <= LIMIT
                load.release()
            os.kill(victim.pid or 0, signal.SIGKILL)
            victim.join(30)
            budget.close_account(account)
            while load.leases:
                load.leases.pop().close()
            whole = open_lease(ours, LIMIT, LIMIT)
            assert budget.reserved == LIMIT
            whole.close()
            ours.trim_idle()
            assert budget.reserved == 0


@contextlib.contextmanager
def _running(processes: list[Any]) -> Iterator[None]:
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()
