"""The ticker and the fair scheduler."""

from __future__ import annotations

import asyncio
import time

import pytest

from wagi.guest.scheduler import TICK, FairScheduler, Ticker

pytestmark = pytest.mark.fast


class Clock:
    """A clock that tests advance."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def turns_of(names: str, seconds: float) -> str:
    """Return the order of guests with slices of ``seconds``; a dot is a pass of the event loop."""
    order: list[str] = []
    clock = Clock()

    async def main() -> None:
        turns = FairScheduler(clock)

        async def guest(name: str) -> None:
            for _ in range(3):
                await turns.next(name)
                order.append(name)
                clock.now += seconds

        async def loop_passes() -> None:
            for _ in range(80):
                order.append(".")
                await asyncio.sleep(0)

        await asyncio.gather(*(guest(name) for name in names), loop_passes())

    asyncio.run(main())
    return "".join(order)


def test_long_slices_take_turns() -> None:
    """After a long slice, the event loop runs, so a new request waits for a slice or two."""
    text = turns_of("abc", 2 * TICK)
    assert all(len(turns.replace(".", "")) <= 1 for turns in text.split("..."))
    names = text.replace(".", "")
    for end in range(len(names)):
        counts = [names[:end].count(name) for name in "abc"]
        assert max(counts) - min(counts) <= 2
    assert sorted(names) == sorted("abc" * 3)


def test_short_slices_do_not_wait() -> None:
    """Guests that suspend quickly share a pass of the event loop."""
    assert "aaa" in turns_of("a", 0)


def test_turns_are_per_module() -> None:
    """Twenty busy guests of one module get as much time as one guest of another."""
    names = turns_of("a" * 20 + "b", 2 * TICK).replace(".", "")
    assert names.index("b") < 4
    assert names.rindex("b") < 10


def test_cancelled_turn_is_passed_on() -> None:
    async def main() -> None:
        clock = Clock()
        turns = FairScheduler(clock)
        await turns.next("a")
        clock.now += 2 * TICK
        waiting = [asyncio.ensure_future(turns.next("a")) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        waiting[1].cancel()
        await asyncio.wait_for(waiting[2], 5)

    asyncio.run(main())


def test_ticker_sleeps_while_no_guest_runs() -> None:
    """The ticker ticks only while guests run."""
    ticks: list[float] = []
    ticker = Ticker(lambda: ticks.append(time.monotonic()))
    ticker.begin_poll()
    deadline = time.monotonic() + 10
    while len(ticks) < 5:
        assert time.monotonic() < deadline
        time.sleep(TICK)
    ticker.end_poll()
    while True:
        before = len(ticks)
        time.sleep(0.2)
        if len(ticks) == before:
            break
        assert time.monotonic() < deadline
    ticker.begin_poll()
    while len(ticks) == before:
        assert time.monotonic() < deadline
        time.sleep(TICK)
    ticker.end_poll()
