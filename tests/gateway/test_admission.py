"""Admission: limits, deadlines and fairness of slots and memory between entries."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wagi.gateway.admission import Admission, Overloaded, Share
from wagi.gateway.concurrency import ConcurrencyLimits, WorkerLimits
from wagi.guest.budget import Lease, MemoryAccount, MemoryBudget, unlimited_account
from wagi.guest.demand import MemoryDemand
from wagi.limits import Limits

pytestmark = pytest.mark.fast

MIB = 1024**2
NO_LIMITS = WorkerLimits(0, {}, [])


def share(
    max_concurrency: int | None = None,
    max_queue: int = 100,
    timeout: float = 5,
    demand: MemoryDemand | None = None,
) -> Share:
    limit = None
    if max_concurrency is not None:
        entries = ConcurrencyLimits(processes=1)
        entries.prepare(["/"])
        worker = entries.open_worker()
        assert worker is not None
        limit = worker.entry("/", max_concurrency)
    return Share(
        limit, Limits(max_queue=max_queue, queue_timeout=timeout), demand or MemoryDemand()
    )


def of_memory(initial: int, timeout: float = 5) -> Share:
    """A share whose guests start with ``initial`` MiB and may grow to 256 MiB."""
    return share(timeout=timeout, demand=MemoryDemand(initial * MIB, 256 * MIB))


def admission_of(slots: int, *shares: Share) -> Admission:
    return Admission(slots, shares, unlimited_account(), NO_LIMITS)


def account(limit: int) -> MemoryAccount:
    """The only account of a budget of ``limit`` MiB."""
    return accounts(limit, 1)[0]


def accounts(limit: int, workers: int) -> list[MemoryAccount]:
    """The workers' accounts of a budget of ``limit`` MiB."""
    budget = MemoryBudget(limit * MIB, workers)
    return [account for _ in range(workers) if (account := budget.open_account())]


async def holders(admission: Admission, wanted: Share, count: int) -> list[asyncio.Task[Lease]]:
    tasks = [asyncio.create_task(admission.acquire(wanted)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


def test_one_share_may_use_every_slot() -> None:
    async def scenario() -> None:
        only = share()
        admission = admission_of(10, only)
        tasks = await holders(admission, only, 11)
        assert [task.done() for task in tasks] == [True] * 10 + [False]
        admission.release(only, tasks[0].result())
        await asyncio.wait_for(tasks[-1], 1)

    asyncio.run(scenario())


def test_a_flood_leaves_a_fifth_of_the_slots() -> None:
    async def scenario() -> None:
        flood, other = share(), share()
        admission = admission_of(100, flood, other)
        await holders(admission, flood, 100)
        assert flood.held == 80
        assert all(task.done() for task in await holders(admission, other, 15))

    asyncio.run(scenario())


def test_free_slots_are_granted_round_robin() -> None:
    async def scenario() -> None:
        first, second = share(), share()
        admission = admission_of(2, first, second)
        running = await holders(admission, first, 2)
        long_queue = await holders(admission, first, 50)
        short_queue = await holders(admission, second, 2)
        for task in running:
            admission.release(first, task.result())
        await asyncio.sleep(0)
        assert sum(task.done() for task in long_queue) == 1
        assert sum(task.done() for task in short_queue) == 1
        for task in (*long_queue, *short_queue):
            task.cancel()

    asyncio.run(scenario())


def test_queue_length_and_wait_are_limited() -> None:
    async def scenario() -> None:
        narrow = share(1, max_queue=1, timeout=0.05)
        admission = admission_of(10, narrow)
        lease = await admission.acquire(narrow)
        (waiting,) = await holders(admission, narrow, 1)
        with pytest.raises(Overloaded, match="already queued"):
            await admission.acquire(narrow)
        with pytest.raises(Overloaded, match=r"no free slot \(max_concurrency\) within 0\.05 s"):
            await waiting
        assert not narrow.waiting
        admission.release(narrow, lease)
        await admission.acquire(narrow)

    asyncio.run(scenario())


def test_a_slot_granted_to_a_cancelled_request_is_passed_on() -> None:
    async def scenario() -> None:
        narrow = share(1)
        admission = admission_of(10, narrow)
        lease = await admission.acquire(narrow)
        gone, patient = await holders(admission, narrow, 2)
        admission.release(narrow, lease)
        gone.cancel()  # in the same pass of the event loop as the grant
        await asyncio.wait_for(patient, 1)
        assert narrow.held == 1

    asyncio.run(scenario())


def test_guests_wait_for_memory() -> None:
    """Two guests of 120 MiB fit in 256 MiB; more wait until one of this worker ends..."""

    async def scenario() -> None:
        large = of_memory(120)
        admission = Admission(10, [large], account(256), NO_LIMITS)
        tasks = await holders(admission, large, 4)
        assert [task.done() for task in tasks] == [True, True, False, False]
        assert large.held == 2
        admission.release(large, tasks[0].result())
        await asyncio.wait_for(tasks[2], 5)
        assert not tasks[3].done()
        tasks[3].cancel()

    asyncio.run(scenario())


def test_guests_wait_for_memory_of_another_worker() -> None:
    """...or one of another worker, which sends no notification."""

    async def scenario() -> None:
        large, other = of_memory(120), of_memory(200)
        here, there = accounts(256, 2)
        lease = there.lease(200 * MIB, 200 * MIB)
        assert lease
        admission = Admission(10, [large, other], here, NO_LIMITS)
        (waiting,) = await holders(admission, large, 1)
        await asyncio.sleep(0.1)
        assert not waiting.done()
        lease.close()
        there.trim_idle()
        await asyncio.wait_for(waiting, 5)

    asyncio.run(scenario())


def test_the_wait_for_memory_is_limited() -> None:
    async def scenario() -> None:
        large = of_memory(120, timeout=0.05)
        admission = Admission(10, [large], account(200), NO_LIMITS)
        lease = await admission.acquire(large)
        with pytest.raises(
            Overloaded,
            match=r"not enough free memory \(a guest needs 120\.0 MiB to start, 80\.0 MiB of"
            r" 200\.0 MiB are free: see --memory-budget\) within 0\.05 s",
        ):
            await admission.acquire(large)
        admission.release(large, lease)
        assert not large.waiting
        assert await admission.acquire(large)

    asyncio.run(scenario())


def test_a_flood_of_large_guests_leaves_memory() -> None:
    """One module gets at most four fifths; another module's guest starts immediately."""

    async def scenario() -> None:
        flood, other = of_memory(64), of_memory(20)
        admission = Admission(100, [flood, other], account(256), NO_LIMITS)
        await holders(admission, flood, 10)
        assert flood.held == 3
        assert all(task.done() for task in await holders(admission, other, 2))

    asyncio.run(scenario())


def test_a_guest_that_needs_everything_gets_it() -> None:
    async def scenario() -> None:
        large, other = of_memory(250), of_memory(20)
        admission = Admission(100, [large, other], account(256), NO_LIMITS)
        lease = await admission.acquire(other)
        (waiting,) = await holders(admission, large, 1)
        assert not waiting.done()
        admission.release(other, lease)
        await asyncio.wait_for(waiting, 5)

    asyncio.run(scenario())


def test_past_growth_is_reserved_for_new_guests() -> None:
    """A guest starts only if the size its module's guests recently reached is free."""

    async def scenario() -> None:
        growing = of_memory(1)
        admission = Admission(100, [growing], account(256), NO_LIMITS)
        lease = await admission.acquire(growing)
        assert lease.grow_limit() >= 120 * MIB
        lease.settle(120 * MIB)
        admission.release(growing, lease)
        tasks = await holders(admission, growing, 4)
        assert [task.done() for task in tasks] == [True, True, False, False]
        for task in tasks[:2]:
            task.result().settle(MIB)  # they do not grow, and soon no growth is expected
            admission.release(growing, task.result())
        await asyncio.gather(*tasks)
        for _ in range(40):
            lease = admission.try_acquire(growing) or tasks.pop().result()
            lease.settle(MIB)
            admission.release(growing, lease)
        assert growing.expected_memory < 4 * MIB

    asyncio.run(scenario())


def test_an_idle_worker_returns_its_memory() -> None:
    """Including the reserve from which guests grow without consulting other workers."""

    async def scenario() -> None:
        small = of_memory(1)
        here, there = accounts(4096, 2)
        admission = Admission(100, [small], here, NO_LIMITS)
        lease = await admission.acquire(small)
        lease.grow_limit()
        lease.settle(MIB)
        admission.release(small, lease)
        assert there.available == (4096 - 256) * MIB
        deadline = asyncio.get_running_loop().time() + 10
        while there.available < 4096 * MIB:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.05)
        assert admission._timer is None  # nothing is left to poll

    asyncio.run(scenario())


@given(
    st.integers(1, 6),
    st.integers(1, 8),
    st.lists(
        st.tuples(
            st.integers(0, 2), st.sampled_from(["acquire", "release", "cancel"]), st.integers(0, 4)
        )
    ),
)
def test_slots_and_memory_are_conserved(
    slots: int, memory: int, moves: list[tuple[int, str, int]]
) -> None:
    """No sequence of requests gains or loses slots or memory."""

    async def scenario() -> None:
        demand = MemoryDemand(MIB, 8 * MIB)
        shares = [share(2, demand=demand), share(demand=demand), share(None, 2)]
        budget = MemoryBudget(memory * MIB, 1)
        account = budget.open_account()
        assert account
        admission = Admission(slots, shares, account, NO_LIMITS)
        tasks: list[list[asyncio.Task[Lease]]] = [[], [], []]
        for index, move, size in moves:
            mine = [t for t in tasks[index] if not (t.done() and (t.cancelled() or t.exception()))]
            tasks[index] = mine
            if move == "acquire":
                mine.append(asyncio.create_task(admission.acquire(shares[index])))
            elif move == "release" and (inside := [t for t in mine if t.done()]):
                mine.remove(inside[0])
                lease = inside[0].result()
                lease.settle(min(lease.grow_limit(), size * MIB))
                admission.release(shares[index], lease)
            elif move == "cancel" and (outside := [t for t in mine if not t.done()]):
                outside[0].cancel()
            await asyncio.sleep(0)
            assert sum(s.held for s in shares) <= slots
            assert budget.reserved <= memory * MIB
        for _ in range(3):
            await asyncio.sleep(0)
        for index, mine in enumerate(tasks):
            for task in mine:
                if not task.done():
                    task.cancel()
                    await asyncio.wait([task])
                if task.cancelled() or task.exception():
                    continue
                admission.release(shares[index], task.result())
        for _ in range(3):
            await asyncio.sleep(0)
        assert [s.held for s in shares] == [0, 0, 0]
        assert admission._free == slots
        account.trim_idle()
        assert budget.reserved == 0

    asyncio.run(scenario())
