"""Places for guests: who may run at once, who waits, and for how long.

A worker has a number of places, and each entry of modules.toml a share of them. Two rules keep one
module's flood from starving the others:

- A share may hold at most four times as many places as are free (dynamic thresholds, Choudhury and
  Hahne 1998): a flood alone gets four fifths, and there is always a place for somebody new.
- A place that gets free goes to the shares in turn, not to the longest queue.
"""

from __future__ import annotations

import asyncio
from collections import deque

_GREED = 4


class Busy(Exception):
    """No place could be had: the queue is full, or the wait took too long."""


class Share:
    """An entry's share of the places. All its routes have one.

    Attributes: ``held`` places that its guests have.
    """

    def __init__(
        self, max_concurrency: int | None, max_queue: int, queue_timeout: float | None
    ) -> None:
        """Parameters: ``max_concurrency`` guests at a time, None for no limit of its own;
        ``max_queue`` requests that wait; ``queue_timeout`` seconds that they do, None for ever.
        """
        self.max_concurrency = max_concurrency
        self.max_queue = max_queue
        self.queue_timeout = queue_timeout
        self.held = 0
        self.waiting: deque[asyncio.Future[None]] = deque()


class Admission:
    """The places of a worker. Every ``enter`` that returns is followed by one ``leave``."""

    def __init__(self, places: int, shares: int) -> None:
        """Parameters: ``shares`` among which the places are divided; one alone may hold all."""
        self._free = places
        self._greed = _GREED if shares > 1 else places
        self._queue: deque[Share] = deque()  # those in which somebody waits, next one first

    async def enter(self, share: Share) -> None:
        """Take a place, or wait for one. Raises: Busy if none can be had."""
        if not self.enter_at_once(share):
            await self._wait(share)

    def enter_at_once(self, share: Share) -> bool:
        """Take a place if there is one for whom nobody waits."""
        if share.waiting or not self._may_take(share):
            return False
        self._take(share)
        return True

    def leave(self, share: Share) -> None:
        """Give a place back, to whoever is next."""
        share.held -= 1
        self._free += 1
        self._hand_out()

    def _may_take(self, share: Share) -> bool:
        if share.max_concurrency is not None and share.held >= share.max_concurrency:
            return False
        return share.held < self._greed * self._free

    def _take(self, share: Share) -> None:
        share.held += 1
        self._free -= 1

    async def _wait(self, share: Share) -> None:
        if len(share.waiting) >= share.max_queue:
            raise Busy(f"{share.max_queue} requests are waiting already")
        place = asyncio.get_running_loop().create_future()
        if not share.waiting:
            self._queue.append(share)
        share.waiting.append(place)
        try:
            async with asyncio.timeout(share.queue_timeout):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self.leave(share)  # it was granted, but too late
            else:
                self._forget(share, place)
            if isinstance(error, TimeoutError):
                raise Busy(f"no place in {share.queue_timeout:g} seconds") from None
            raise

    def _forget(self, share: Share, place: asyncio.Future[None]) -> None:
        if place in share.waiting:
            share.waiting.remove(place)
        if not share.waiting and share in self._queue:
            self._queue.remove(share)

    def _hand_out(self) -> None:
        passed_over = 0
        while self._free and passed_over < len(self._queue):
            share = self._queue.popleft()
            while share.waiting and share.waiting[0].done():
                share.waiting.popleft()  # given up in this pass of the loop
            if not share.waiting:
                continue
            if self._may_take(share):
                self._take(share)
                share.waiting.popleft().set_result(None)
                passed_over = 0
            else:
                passed_over += 1
            if share.waiting:
                self._queue.append(share)
