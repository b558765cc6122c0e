"""Time for guests: the ticker that makes busy ones yield, and the turns in which they go on.

A guest runs on the event loop's thread. What keeps the loop alive beside a guest that never stops
is that it yields at the next tick, and that at most one guest goes on in each pass of the loop.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable

TICK = 0.001
"""Seconds between two ticks while guests are busy."""
CALM_TICK = 0.005
"""Seconds between two ticks while all guests are short. Every tick takes the GIL from a thread that
serves, and costs 150 µs on a virtual machine: at 1 ms a seventh of all requests."""
_CALM_AFTER = 0.1  # seconds without a busy guest
SLICE_TICKS = 2
"""A guest that does not wait yields at the second tick: after one to two milliseconds. At the first
it would now and then interrupt a guest that had only just begun."""
_IDLE_TICKS = 5
_SHORT = TICK / 2
_PASSES = 4  # from a new connection to its first slice the loop comes around four times


class Ticker:
    """Calls ``tick`` at intervals, on a thread of its own, while guests run.

    With nothing to run the thread waits for the next guest and costs nothing.
    """

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick
        self._running = False
        self._polls = 0
        self._busy_at = -_CALM_AFTER
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
            calm = time.monotonic() - self._busy_at > _CALM_AFTER
            polls = self._polls
            time.sleep(CALM_TICK if calm else TICK)
            self._tick()
            if self._running and self._polls == polls:
                self._busy_at = time.monotonic()  # one guest, all the time
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
    queue, each in the line of its module, and the lines have turns: a module with a hundred busy
    guests gets no more time than one with a single guest. After a long slice the loop comes around
    a few times, in which it takes connections, reads requests and starts their guests: a fresh
    request waits for a slice or two, however many guests are busy. An empty pass costs little.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lines: dict[Hashable, deque[asyncio.Future[None]]] = {}  # the first is next
        self._watching = False
        self._pass_began = 0.0
        self._rest = 0

    async def next(self, line: Hashable) -> None:
        """Wait for a turn. Parameters: ``line`` of those that share their turns."""
        loop = asyncio.get_running_loop()
        now = self._clock()
        if not self._watching:
            self._watching = True
            self._pass_began = now
            loop.call_soon(self._come_around)
        elif self._lines or now - self._pass_began > _SHORT:
            turn = loop.create_future()
            self._lines.setdefault(line, deque()).append(turn)
            await turn

    def _come_around(self) -> None:
        now = self._clock()
        if now - self._pass_began > _SHORT:
            self._rest = _PASSES
        self._pass_began = now
        turn = None if self._rest else self._take()
        if turn is not None:
            turn.set_result(None)
        elif not self._rest:
            self._watching = False
            return
        self._rest = max(0, self._rest - 1)
        asyncio.get_running_loop().call_soon(self._come_around)

    def _take(self) -> asyncio.Future[None] | None:
        """The next turn of the first line, which then is the last."""
        while self._lines:
            line, turns = next(iter(self._lines.items()))
            del self._lines[line]
            while turns:
                turn = turns.popleft()
                if not turn.done():  # not cancelled
                    if turns:
                        self._lines[line] = turns
                    return turn
        return None
