"""``max_concurrency`` limits an entry across all workers."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wagi.gateway.admission import Admission, Overloaded, Share
from wagi.gateway.concurrency import ConcurrencyLimits, WorkerLimits, now
from wagi.guest.budget import Lease, unlimited_account
from wagi.guest.demand import MemoryDemand
from wagi.limits import Limits

pytestmark = pytest.mark.fast


@pytest.fixture
def limits() -> Iterator[ConcurrencyLimits]:
    with closing(ConcurrencyLimits(processes=4)) as limits:
        limits.prepare(["/a", "/b"])
        yield limits


def open_worker(limits: ConcurrencyLimits) -> WorkerLimits:
    worker = limits.open_worker()
    assert worker is not None
    return worker


def is_woken(worker: WorkerLimits) -> bool:
    assert worker.descriptor is not None
    poller = select.poll()
    poller.register(worker.descriptor, select.POLLIN)
    return bool(poller.poll(0))


def test_workers_share_the_slots_of_an_entry(limits: ConcurrencyLimits) -> None:
    one, other = (open_worker(limits).entry("/a", 3) for _ in range(2))
    assert [one.try_acquire(), other.try_acquire(), one.try_acquire()] == [True] * 3
    assert not one.try_acquire()
    assert not other.try_acquire()
    other.release()
    assert one.try_acquire()
    assert not other.try_acquire()


def test_entries_are_independent(limits: ConcurrencyLimits) -> None:
    worker = open_worker(limits)
    assert worker.entry("/a", 1).try_acquire()
    assert worker.entry("/b", 1).try_acquire()


def test_the_longest_waiting_request_is_first(limits: ConcurrencyLimits) -> None:
    """Even in another worker: a busy worker does not reuse its slot for itself."""
    workers = [open_worker(limits) for _ in range(3)]
    busy, first, second = (worker.entry("/a", 1) for worker in workers)
    assert busy.try_acquire()
    first.set_waiting(100)
    second.set_waiting(200)
    busy.set_waiting(300)
    busy.release()
    assert [is_woken(worker) for worker in workers] == [False, True, False]
    assert not busy.try_acquire()
    assert not second.try_acquire()
    assert first.try_acquire()
    first.set_waiting(0)
    assert is_woken(workers[2])
    first.release()
    assert second.try_acquire()


def test_a_dead_worker_releases_its_slots(limits: ConcurrencyLimits) -> None:
    dead, alive = open_worker(limits), open_worker(limits)
    assert dead.entry("/a", 1).try_acquire()
    dead.entry("/a", 1).set_waiting(1)
    waiting = alive.entry("/a", 1)
    waiting.set_waiting(2)
    assert not waiting.try_acquire()
    limits.close_worker(dead)
    assert is_woken(alive)
    assert waiting.try_acquire()


def test_a_reload_keeps_the_count(limits: ConcurrencyLimits) -> None:
    """Guests of retiring workers count towards the new limit."""
    old = open_worker(limits).entry("/a", 2)
    assert old.try_acquire()
    assert old.try_acquire()
    limits.prepare(["/a", "/new"])
    assert not open_worker(limits).entry("/a", 2).try_acquire()
    assert open_worker(limits).entry("/a", 3).try_acquire()


def test_the_number_of_workers_is_limited(limits: ConcurrencyLimits) -> None:
    workers = [open_worker(limits) for _ in range(4)]
    assert limits.open_worker() is None
    limits.close_worker(workers[3])
    assert open_worker(limits).index == 3


def test_wakeups_are_consumed(limits: ConcurrencyLimits) -> None:
    holder, waiting = open_worker(limits), open_worker(limits)
    slots = holder.entry("/a", 1)
    waiting.entry("/a", 1).set_waiting(1)
    for _ in range(100_000):  # more than a pipe buffers
        slots._wake_longest_waiting()
    assert is_woken(waiting)
    waiting.clear()
    assert not is_woken(waiting)


moves = st.lists(st.tuples(st.integers(0, 2), st.sampled_from("tgw0")), max_size=60)


@given(st.integers(1, 3), moves)
def test_never_more_than_the_limit(limit: int, story: list[tuple[int, str]]) -> None:
    with closing(ConcurrencyLimits(processes=3)) as limits:
        limits.prepare(["/"])
        workers = [open_worker(limits).entry("/", limit) for _ in range(3)]
        held = [0, 0, 0]
        for index, move in story:
            if move == "t":
                held[index] += workers[index].try_acquire()
            elif move == "g" and held[index]:
                held[index] -= 1
                workers[index].release()
            elif move in "w0":
                workers[index].set_waiting(now() if move == "w" else 0)
            assert sum(held) <= limit
        for worker in workers:
            worker.set_waiting(0)
        assert workers[0].try_acquire() == (sum(held) < limit)


class TwoWorkers:
    """The admission objects of two workers, on one event loop."""

    def __init__(self, limit: int, max_queue: int = 100, timeout: float = 5) -> None:
        self.limits = ConcurrencyLimits(processes=2)
        self.limits.prepare(["/"])
        self.shares = []
        self.admissions = []
        for _ in range(2):
            worker = open_worker(self.limits)
            limits = Limits(max_queue=max_queue, queue_timeout=timeout)
            share = Share(worker.entry("/", limit), limits, MemoryDemand())
            self.shares.append(share)
            self.admissions.append(Admission(100, [share], unlimited_account(), worker))

    async def acquire(self, index: int) -> Lease:
        return await self.admissions[index].acquire(self.shares[index])

    def release(self, index: int, lease: Lease) -> None:
        self.admissions[index].release(self.shares[index], lease)


def test_a_request_waits_for_another_workers_guest() -> None:
    async def run() -> None:
        both = TwoWorkers(limit=1)
        lease = await both.acquire(0)
        waiting = asyncio.create_task(both.acquire(1))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        both.release(0, lease)
        both.release(1, await asyncio.wait_for(waiting, 1))

    asyncio.run(run())


def test_a_flood_in_one_worker_does_not_starve_another() -> None:
    order: list[int] = []

    async def request(both: TwoWorkers, index: int) -> None:
        lease = await both.acquire(index)
        order.append(index)
        await asyncio.sleep(0.001)
        both.release(index, lease)

    async def run() -> None:
        both = TwoWorkers(limit=1)
        flood = [asyncio.create_task(request(both, 0)) for _ in range(50)]
        await asyncio.sleep(0.003)
        early = [asyncio.create_task(request(both, 1)) for _ in range(3)]
        await asyncio.sleep(0)
        late = [asyncio.create_task(request(both, 0)) for _ in range(40)]
        await asyncio.gather(*flood, *early, *late)

    asyncio.run(run())
    assert sorted(order) == [0] * 90 + [1] * 3
    last = max(at for at, index in enumerate(order) if index)
    assert last < 60  # behind the requests that came before it, not behind all


def test_a_timed_out_request_does_not_block_others() -> None:
    async def run() -> None:
        both = TwoWorkers(limit=1, timeout=0.1)
        lease = await both.acquire(0)
        with pytest.raises(Overloaded, match="no free slot"):
            await both.acquire(1)
        both.release(0, lease)
        for index in (0, 1, 0):
            both.release(index, await both.acquire(index))

    asyncio.run(run())
