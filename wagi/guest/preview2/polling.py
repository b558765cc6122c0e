"""Events that guests wait for, and pollables, by which they do.

``Event`` is the interface of everything that a guest can wait for: a stream, a time, the response
to an outbound request. A ``Pollable`` is a resource of the guest that refers to one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Sequence
from typing import Any

from wagi.guest.wasi.context import WaitReason


class Event:
    """Something that a guest can wait for.

    This and its abstract subclasses are no ABCs: each call on a stream checks the class of its
    handle, which would take four times as long.
    """

    @property
    def is_ready(self) -> bool:
        """Whether it has happened, so that the guest need not wait."""
        raise NotImplementedError

    def wait_on(self, wait: WaitReason) -> None:
        """Note what has to happen before ``is_ready`` can change.

        Args:
            wait: The wait of the guest, which may include other events. ``wait.turn`` is for an
                event that the gateway itself brings about, such as room in the output buffer.
        """
        raise NotImplementedError


class Timer(Event):
    """A point in time."""

    def __init__(self, at: float) -> None:
        """Make a timer.

        Args:
            at: The time, in seconds of ``time.monotonic``.
        """
        self._at = at

    @property
    def is_ready(self) -> bool:
        """As ``Event.is_ready``."""
        return time.monotonic() >= self._at

    def wait_on(self, wait: WaitReason) -> None:
        """As ``Event.wait_on``."""
        wait.wake_at = self._at if wait.wake_at is None else min(wait.wake_at, self._at)


class Completion(Event):
    """The end of a task or a future of the event loop."""

    def __init__(self, future: asyncio.Future[Any]) -> None:
        """Make an event of a future."""
        self._future = future

    @property
    def is_ready(self) -> bool:
        """As ``Event.is_ready``."""
        return self._future.done()

    def wait_on(self, wait: WaitReason) -> None:
        """As ``Event.wait_on``."""
        wait.futures = (*wait.futures, self._future)


class Pollable:
    """The resource ``pollable`` of ``wasi:io/poll``."""

    __slots__ = ("event",)

    def __init__(self, event: Event) -> None:
        self.event = event


def wait_for(wait: WaitReason, events: Sequence[Event]) -> Generator[None, None, list[int]]:
    """Suspend the guest until at least one event is ready.

    Args:
        wait: The wait of the guest.
        events: The events.

    Returns:
        The indices of the events that are ready.
    """
    while True:
        ready = [index for index, event in enumerate(events) if event.is_ready]
        if ready:
            return ready
        for event in events:
            event.wait_on(wait)
        yield
