"""Scheduling of guests: a ticker that makes busy guests yield, and the order of their turns.

Guests run on the event loop's thread. The loop stays responsive, even if a guest never stops,
because the guest yields at the next tick, or at its first host call after the end of its slice, and
because at most one such guest continues in each pass of the loop.
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
"""Seconds between two ticks while all guests end or suspend quickly. Each tick takes the GIL from
the serving thread and costs 150 µs on a virtual machine: with an interval of 1 ms that would be a
seventh of all requests."""
_CALM_AFTER = 0.1  # seconds without a busy guest
SLICE_TICKS = 2
"""A guest that does not wait yields at the second tick, after one to two milliseconds. Yielding at
the first tick would sometimes interrupt a guest that had only just started."""
SLICE = SLICE_TICKS * TICK
"""Seconds after which a host call makes the guest yield, even if the ticker has not run."""
_IDLE_TICKS = 5
_SHORT = TICK / 2
_PASSES_AFTER_SLICE = 4  # a new connection's first slice comes in the fourth pass


class Ticker:
    """Calls ``tick`` at intervals, on a thread of its own, while guests run.

    While no guest runs, the thread sleeps.
    """

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick
        self._running = False
        self._polls = 0
        self._busy_at = -_CALM_AFTER
        self._parked = False
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def begin_poll(self) -> None:
        """Announce that a guest starts to run."""
        self._polls += 1
        self._running = True
        if self._parked:
            self._wake.set()
        elif self._thread is None:
            self._thread = threading.Thread(target=self._run, name="wagi-ticker", daemon=True)
            self._thread.start()

    def end_poll(self) -> None:
        """Announce that the guest has suspended or ended."""
        self._running = False

    def _run(self) -> None:
        idle, seen = 0, self._polls
        while True:
            calm = time.monotonic() - self._busy_at > _CALM_AFTER
            polls = self._polls
            time.sleep(CALM_TICK if calm else TICK)
            self._tick()
            if self._running and self._polls == polls:
                self._busy_at = time.monotonic()  # one guest ran for the whole tick
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
        # A guest that started before ``_parked`` was set would otherwise run without ticks.
        if self._polls == seen:
            self._wake.wait()
        self._parked = False


class FairScheduler:
    """Divides time among suspended guests without starving the event loop's sockets.

    In one pass of the loop, guests continue until they have used a short slice. The others wait in
    one queue per module, and the queues are served round-robin: a module with a hundred busy guests
    gets no more time than a module with one. After a long slice, the loop makes a few passes in
    which it accepts connections, reads requests and starts their guests, so that a new request
    waits for a slice or two, however many guests are busy. An empty pass costs little.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._queues: dict[Hashable, deque[asyncio.Future[None]]] = {}  # the first is next
        self._watching = False
        self._pass_began = 0.0
        self._passes_left = 0

    async def next(self, module: Hashable) -> None:
        """Wait for a turn.

        Args:
            module: Identifies the queue of the guest: guests of one module share their turns.
        """
        loop = asyncio.get_running_loop()
        now = self._clock()
        if not self._watching:
            self._watching = True
            self._pass_began = now
            loop.call_soon(self._begin_pass)
        elif self._queues or now - self._pass_began > _SHORT:
            turn = loop.create_future()
            self._queues.setdefault(module, deque()).append(turn)
            await turn

    def _begin_pass(self) -> None:
        now = self._clock()
        if now - self._pass_began > _SHORT:
            self._passes_left = _PASSES_AFTER_SLICE
        self._pass_began = now
        turn = None if self._passes_left else self._take()
        if turn is not None:
            turn.set_result(None)
        elif not self._passes_left:
            self._watching = False
            return
        self._passes_left = max(0, self._passes_left - 1)
        asyncio.get_running_loop().call_soon(self._begin_pass)

    def _take(self) -> asyncio.Future[None] | None:
        """Remove the next turn of the first queue, and move the queue to the end."""
        while self._queues:
            module, turns = next(iter(self._queues.items()))
            del self._queues[module]
            while turns:
                turn = turns.popleft()
                if not turn.done():  # not cancelled
                    if turns:
                        self._queues[module] = turns
                    return turn
        return None
