"""Turns and ticks."""

from __future__ import annotations

import asyncio
import time

from wagi.guest.scheduler import TICK, Ticker, Turns


def test_one_turn_in_each_pass_of_the_loop() -> None:
    """Between two turns the loop comes around: nobody waits for more than one slice."""
    order: list[str] = []

    async def main() -> None:
        turns = Turns()

        async def guest(name: str) -> None:
            for _ in range(3):
                await turns.next()
                order.append(name)

        async def loop_passes() -> None:
            for _ in range(30):
                await asyncio.sleep(0)
                order.append(".")

        await asyncio.gather(*(guest(name) for name in "abc"), loop_passes())

    asyncio.run(main())
    text = "".join(order)
    assert all(len(turns) <= 2 for turns in text.split("."))
    names = text.replace(".", "")
    assert sorted(names) == sorted("abc" * 3)
    for end in range(len(names)):
        counts = [names[:end].count(name) for name in "abc"]
        assert max(counts) - min(counts) <= 2


def test_a_cancelled_turn_is_not_lost() -> None:
    async def main() -> None:
        turns = Turns()
        await turns.next()
        waiting = [asyncio.ensure_future(turns.next()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        waiting[1].cancel()
        await asyncio.wait_for(waiting[2], 5)

    asyncio.run(main())


def test_the_ticker_rests_when_nothing_runs() -> None:
    """An epoch ticker that runs only while a guest does."""
    ticks: list[float] = []
    ticker = Ticker(lambda: ticks.append(time.monotonic()))
    ticker.enter()
    deadline = time.monotonic() + 10
    while len(ticks) < 5:
        assert time.monotonic() < deadline
        time.sleep(TICK)
    ticker.leave()
    while True:
        before = len(ticks)
        time.sleep(0.2)
        if len(ticks) == before:
            break
        assert time.monotonic() < deadline
    ticker.enter()
    while len(ticks) == before:
        assert time.monotonic() < deadline
        time.sleep(TICK)
    ticker.leave()
