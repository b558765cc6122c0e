"""Time for guests: the ticker that makes busy ones yield, and the turns in which they go on.

A guest runs on the event loop's thread. What keeps the loop alive beside a guest that never stops
is that it yields at the next tick, and that at most one guest goes on in each pass of the loop.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable

TICK = 0.001
"""Seconds between two ticks."""
SLICE_TICKS = 2
"""A guest that does not wait yields at the second tick: after one to two milliseconds. At the first
it would now and then interrupt a guest that had only just begun."""
_IDLE_TICKS = 5
_SHORT = TICK / 2
_PASSES = 4  # from a new connection to its first slice the loop comes around four times


class Ticker:
    """Calls ``tick`` every millisecond, on a thread of its own, while guests run.

    With nothing to run the thread waits for the next guest and costs nothing.
    """

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick
        self._running = False
        self._polls = 0
        self._parked = False
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def enter(self) -> None:
        """A guest begins to run."""
        self._polls += 1
        self._running = True
        if self._parked:
            self._wake.set()
        elif self._thread is None:
            self._thread = threading.Thread(target=self._run, name="wagi-ticker", daemon=True)
            self._thread.start()

    def leave(self) -> None:
        """The guest has suspended or ended."""
        self._running = False

    def _run(self) -> None:
        idle, seen = 0, self._polls
        while True:
            time.sleep(TICK)
            self._tick()
            if self._running or self._polls != seen:
                idle, seen = 0, self._polls
                continue
            idle += 1
            if idle >= _IDLE_TICKS:
                self._park(seen)
                idle = 0

    def _park(self, seen: int) -> None:
        self._wake.clear()
        self._parked = True
        # A guest that began before it could see that we are parked would run without ticks.
        if self._polls == seen:
            self._wake.wait()
        self._parked = False


class Turns:
    """Lets guests go on without keeping the event loop from its sockets.

    In one pass of the loop guests go on while that takes no longer than a short slice; the others
    queue. After a long slice the loop comes around a few times, in which it takes connections,
    reads requests and starts their guests: a fresh request waits for a slice or two, however many
    guests are busy. An empty pass costs microseconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._watching = False
        self._pass_began = 0.0
        self._rest = 0

    async def next(self) -> None:
        """Wait for a turn."""
        loop = asyncio.get_running_loop()
        now = self._clock()
        if not self._watching:
            self._watching = True
            self._pass_began = now
            loop.call_soon(self._come_around)
        elif self._waiting or now - self._pass_began > _SHORT:
            turn = loop.create_future()
            self._waiting.append(turn)
            await turn

    def _come_around(self) -> None:
        now = self._clock()
        if now - self._pass_began > _SHORT:
            self._rest = _PASSES
        self._pass_began = now
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()  # cancelled
        if not self._waiting:
            self._watching = False
            return
        if self._rest:
            self._rest -= 1
        else:
            self._waiting.popleft().set_result(None)
        asyncio.get_running_loop().call_soon(self._come_around)
