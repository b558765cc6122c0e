"""The requests of one guest to other servers: what it holds open, and what it waits for.

How requests are sent, and whether they may be, is up to the ``HttpClient`` that a guest is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol, TypeVar

_MAX_NOTES = 20  # for the log, of one guest
T = TypeVar("T")


class Failure(IntEnum):
    """What a host call returns instead of 0."""

    INVALID_HANDLE = 1
    MEMORY_NOT_FOUND = 2
    MEMORY_ACCESS = 3
    BUFFER_TOO_SMALL = 4
    HEADER_NOT_FOUND = 5
    UTF8 = 6
    NOT_ALLOWED = 7
    INVALID_METHOD = 8
    INVALID_ENCODING = 9
    INVALID_URL = 10
    REQUEST = 11
    RUNTIME = 12
    TOO_MANY = 13


class OutboundError(Exception):
    """A request that failed: the guest gets the number, the log the reason."""

    def __init__(self, failure: Failure, reason: str = "") -> None:
        super().__init__(reason)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class OutboundRequest:
    """What a guest wants to have sent."""

    method: str
    url: str
    headers: list[tuple[str, str]]
    body: bytes


class Response(Protocol):
    """A response whose body has not been read."""

    status: int
    headers: list[tuple[str, str]]

    async def read(self, size: int) -> bytes:
        """At most ``size`` bytes, b"" at the end. Raises: OutboundError."""

    def close(self) -> None:
        """Close it, read or not."""


class HttpClient(Protocol):
    """Sends a guest's requests. Attributes: ``max_open`` responses at a time."""

    max_open: int

    async def send(self, request: OutboundRequest) -> Response:
        """Send a request. Raises: OutboundError."""


class HttpSession:
    """The requests of one guest: the responses that it holds open, and what it waits for."""

    def __init__(self, client: HttpClient | None, note: Callable[[str], None]) -> None:
        """Begin without a request.

        Args:
            client: Sends the requests; None if the guest may send none.
            note: Is called with what the log should say.
        """
        self._client = client
        self._note = note
        self._notes = 0
        self._responses: dict[int, Response] = {}
        self._last = 0
        self._task: asyncio.Task[Any] | None = None

    def send(self, request: OutboundRequest) -> asyncio.Task[tuple[int, int]]:
        """Begin a request; it ends with handle and status. Raises: OutboundError."""
        if self._client is None:
            raise OutboundError(Failure.NOT_ALLOWED, "the handler has no allowed_hosts")
        if len(self._responses) >= self._client.max_open:
            what = f"{len(self._responses)} responses are open (http_max_concurrency)"
            raise OutboundError(Failure.TOO_MANY, what)
        return self._begin(self._send(self._client, request))

    async def _send(self, client: HttpClient, request: OutboundRequest) -> tuple[int, int]:
        response = await client.send(request)
        self._last += 1
        self._responses[self._last] = response
        return self._last, response.status

    def read(self, response: Response, size: int) -> asyncio.Task[bytes]:
        """Begin to read."""
        return self._begin(response.read(size))

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        # A guest waits for one thing at a time.
        task = asyncio.get_running_loop().create_task(work)
        self._task = task
        return task

    def find(self, handle: int) -> Response:
        """The response of a handle. Raises: OutboundError."""
        try:
            return self._responses[handle]
        except KeyError:
            raise OutboundError(Failure.INVALID_HANDLE) from None

    def forget(self, handle: int) -> None:
        """Close a response. Raises: OutboundError."""
        self.find(handle).close()
        del self._responses[handle]

    def note(self, error: OutboundError) -> None:
        """Log why a request has failed."""
        if str(error) and self._notes < _MAX_NOTES:
            self._notes += 1
            self._note(f"outbound HTTP: {error}")

    def close(self) -> None:
        """Cancel what is under way, and close all responses."""
        if self._task is not None and not self._task.cancel() and not self._task.cancelled():
            self._task.exception()  # seen: the guest may have gone before it could ask
        for response in self._responses.values():
            response.close()
        self._responses.clear()
