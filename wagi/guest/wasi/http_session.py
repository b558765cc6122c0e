"""The outbound HTTP requests of one guest.

The guest's ``HttpClient`` decides which requests are allowed, and sends them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol, TypeVar

_NOTES_MAX = 20  # log messages per guest
T = TypeVar("T")


class ErrorCode(IntEnum):
    """The error codes of the interface, which host calls return; 0 is success."""

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
    """An outbound request failed: the guest receives the code, the log the reason."""

    def __init__(self, code: ErrorCode, reason: str = "") -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class OutboundRequest:
    """An outbound request."""

    method: str
    url: str
    headers: list[tuple[str, str]]
    body: bytes


class Response(Protocol):
    """A response whose body is read in pieces."""

    status: int
    headers: list[tuple[str, str]]

    async def read(self, size: int) -> bytes:
        """Read at most ``size`` bytes; b"" is the end.

        Raises:
            OutboundError: If reading fails.
        """

    def close(self) -> None:
        """Close the response, whether or not its body was read."""


class HttpClient(Protocol):
    """Sends the requests of a guest.

    Attributes:
        max_open: Maximum number of open responses.
    """

    max_open: int

    async def send(self, request: OutboundRequest) -> Response:
        """Send a request, and wait for the head of its response.

        Raises:
            OutboundError: If the request is not allowed or fails.
        """


class HttpSession:
    """The open responses of one guest, and the operation for which it waits."""

    def __init__(self, client: HttpClient | None, note: Callable[[str], None]) -> None:
        """Create a session without requests.

        Args:
            client: Sends the requests; None if outbound requests are not allowed.
            note: Callback that receives messages for the log.
        """
        self._client = client
        self._note = note
        self._notes = 0
        self._responses: dict[int, Response] = {}
        self._last = 0
        self._task: asyncio.Task[Any] | None = None

    def send(self, request: OutboundRequest) -> asyncio.Task[tuple[int, int]]:
        """Start a request.

        Returns:
            A task whose result is the handle of the response and its status code.

        Raises:
            OutboundError: If requests are not allowed, or if too many responses are open.
        """
        if self._client is None:
            raise OutboundError(ErrorCode.NOT_ALLOWED, "the handler has no allowed_hosts")
        if len(self._responses) >= self._client.max_open:
            what = f"{len(self._responses)} responses are open (http_max_concurrency)"
            raise OutboundError(ErrorCode.TOO_MANY, what)
        return self._begin(self._send(self._client, request))

    async def _send(self, client: HttpClient, request: OutboundRequest) -> tuple[int, int]:
        response = await client.send(request)
        self._last += 1
        self._responses[self._last] = response
        return self._last, response.status

    def read(self, response: Response, size: int) -> asyncio.Task[bytes]:
        """Start to read at most ``size`` bytes of a body."""
        return self._begin(response.read(size))

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        # A guest waits for one task at a time.
        task = asyncio.get_running_loop().create_task(work)
        self._task = task
        return task

    def find(self, handle: int) -> Response:
        """Return the response of a handle.

        Raises:
            OutboundError: If the handle is invalid.
        """
        try:
            return self._responses[handle]
        except KeyError:
            raise OutboundError(ErrorCode.INVALID_HANDLE) from None

    def close_response(self, handle: int) -> None:
        """Close a response.

        Raises:
            OutboundError: If the handle is invalid.
        """
        self.find(handle).close()
        del self._responses[handle]

    def note(self, error: OutboundError) -> None:
        """Log why a request failed."""
        if str(error) and self._notes < _NOTES_MAX:
            self._notes += 1
            self._note(f"outbound HTTP: {error}")

    def close(self) -> None:
        """Cancel the current task, and close all responses."""
        if self._task is not None and not self._task.cancel() and not self._task.cancelled():
            self._task.exception()  # retrieved, so that asyncio does not log it
        for response in self._responses.values():
            response.close()
        self._responses.clear()
