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

TICK = 0.002
"""Seconds between two ticks: the longest that a guest keeps the thread."""
_IDLE_TICKS = 5


class Ticker:
    """Calls ``tick`` every two milliseconds, on a thread of its own, while guests run.

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
    """Lets guests go on one after the other, one in each pass of the event loop.

    Between two turns the loop looks at its sockets: a fresh request waits for one slice, however
    many guests are busy.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._taken = False

    async def next(self) -> None:
        """Wait for a turn."""
        loop = asyncio.get_running_loop()
        if not self._taken:
            self._taken = True
            loop.call_soon(self._give)
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _give(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                asyncio.get_running_loop().call_soon(self._give)
                return
        self._taken = False
