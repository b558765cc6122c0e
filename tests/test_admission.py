"""Places for guests: bounds, deadlines and fairness between entries."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wagi.admission import Admission, Busy, Share


def share(max_concurrency: int | None = None, max_queue: int = 100, timeout: float = 5) -> Share:
    return Share(max_concurrency, max_queue, timeout)


async def holders(admission: Admission, wanted: Share, count: int) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(admission.enter(wanted)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


def test_one_share_may_hold_every_place() -> None:
    async def story() -> None:
        only = share()
        admission = Admission(10, 1)
        tasks = await holders(admission, only, 11)
        assert [task.done() for task in tasks] == [True] * 10 + [False]
        admission.leave(only)
        await asyncio.wait_for(tasks[-1], 1)

    asyncio.run(story())


def test_a_flood_leaves_a_fifth_of_the_places() -> None:
    async def story() -> None:
        flood, other = share(), share()
        admission = Admission(100, 2)
        await holders(admission, flood, 100)
        assert flood.held == 80
        assert all(task.done() for task in await holders(admission, other, 15))

    asyncio.run(story())


def test_free_places_go_to_the_shares_in_turn() -> None:
    async def story() -> None:
        first, second = share(), share()
        admission = Admission(2, 2)
        await holders(admission, first, 2)
        long_queue = await holders(admission, first, 50)
        short_queue = await holders(admission, second, 2)
        admission.leave(first)
        admission.leave(first)
        await asyncio.sleep(0)
        assert sum(task.done() for task in long_queue) == 1
        assert sum(task.done() for task in short_queue) == 1
        for task in (*long_queue, *short_queue):
            task.cancel()

    asyncio.run(story())


def test_the_queue_is_bounded_in_length_and_time() -> None:
    async def story() -> None:
        narrow = share(1, max_queue=1, timeout=0.05)
        admission = Admission(10, 1)
        await admission.enter(narrow)
        (waiting,) = await holders(admission, narrow, 1)
        with pytest.raises(Busy, match="waiting already"):
            await admission.enter(narrow)
        with pytest.raises(Busy, match=r"no place in 0\.05 seconds"):
            await waiting
        assert not narrow.waiting
        admission.leave(narrow)
        await admission.enter(narrow)

    asyncio.run(story())


def test_a_place_granted_to_a_request_that_has_gone_is_given_on() -> None:
    async def story() -> None:
        narrow = share(1)
        admission = Admission(10, 1)
        await admission.enter(narrow)
        gone, patient = await holders(admission, narrow, 2)
        admission.leave(narrow)
        gone.cancel()  # in the pass of the loop in which it was granted
        await asyncio.wait_for(patient, 1)
        assert narrow.held == 1

    asyncio.run(story())


@given(
    st.integers(1, 6),
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["enter", "leave", "cancel"]))),
)
def test_no_place_is_lost_or_made_up(places: int, moves: list[tuple[int, str]]) -> None:
    """Whatever comes and goes in whatever order, the places stay as many as they were."""

    async def story() -> None:
        shares = [share(2), share(), share(None, 2)]
        admission = Admission(places, len(shares))
        tasks: list[list[asyncio.Task[None]]] = [[], [], []]
        for index, move in moves:
            mine = [t for t in tasks[index] if not (t.done() and (t.cancelled() or t.exception()))]
            tasks[index] = mine
            if move == "enter":
                mine.append(asyncio.create_task(admission.enter(shares[index])))
            elif move == "leave" and (inside := [t for t in mine if t.done()]):
                mine.remove(inside[0])
                admission.leave(shares[index])
            elif move == "cancel" and (outside := [t for t in mine if not t.done()]):
                outside[0].cancel()
            await asyncio.sleep(0)
            assert sum(s.held for s in shares) <= places
        for _ in range(3):
            await asyncio.sleep(0)
        for index, mine in enumerate(tasks):
            for task in mine:
                if not task.done():
                    task.cancel()
                    await asyncio.wait([task])
                if task.cancelled() or task.exception():
                    continue
                admission.leave(shares[index])
        for _ in range(3):
            await asyncio.sleep(0)
        assert [s.held for s in shares] == [0, 0, 0]
        alone = Admission(places, 1)
        assert admission._free == alone._free

    asyncio.run(story())
