"""The outbound HTTP requests of one guest.

The guest's ``HttpClient`` decides which requests are allowed, and sends them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol, TypeVar

from wagi.guest.http_error_code import HttpErrorCode

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


_HTTP_CODES = {
    ErrorCode.NOT_ALLOWED: HttpErrorCode.HTTP_REQUEST_DENIED,
    ErrorCode.INVALID_METHOD: HttpErrorCode.HTTP_REQUEST_METHOD_INVALID,
    ErrorCode.INVALID_URL: HttpErrorCode.HTTP_REQUEST_URI_INVALID,
    ErrorCode.TOO_MANY: HttpErrorCode.CONNECTION_LIMIT_REACHED,
}
"""The codes of wasi:http that have the same meaning."""


class OutboundError(Exception):
    """An outbound request failed: the guest receives the code, the log the reason.

    Attributes:
        code: The code for guests that use ``wasi_experimental_http``.
        http_code: The code for guests that use wasi:http, which distinguishes more cases.
    """

    def __init__(
        self, code: ErrorCode, reason: str = "", http_code: HttpErrorCode | None = None
    ) -> None:
        super().__init__(reason)
        self.code = code
        if http_code is None:
            http_code = _HTTP_CODES.get(code, HttpErrorCode.INTERNAL_ERROR)
        self.http_code = http_code


@dataclass(frozen=True, slots=True)
class OutboundRequest:
    """An outbound request.

    Attributes:
        method: The method.
        url: The URL.
        headers: Names and values.
        body: The whole body, or its pieces as the guest produces them.
        follows_redirects: Whether the guest expects the client to follow redirects.
        connect_timeout: Time limit for connecting, in seconds; None for the default.
        first_byte_timeout: Time limit for the head of the response, in seconds; None for none.
        between_bytes_timeout: Time limit between pieces of the body, in seconds; None for none.
    """

    method: str
    url: str
    headers: list[tuple[str, str]]
    body: bytes | AsyncIterator[bytes]
    follows_redirects: bool = True
    connect_timeout: float | None = None
    first_byte_timeout: float | None = None
    between_bytes_timeout: float | None = None


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
    """The open responses of one guest, and the operations that run for it."""

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
        self._others = 0  # open responses that the guest does not know by these handles
        self._tasks: set[asyncio.Task[Any]] = set()

    def send(self, request: OutboundRequest) -> asyncio.Task[tuple[int, int]]:
        """Start a request.

        Returns:
            A task whose result is the handle of the response and its status code.

        Raises:
            OutboundError: If requests are not allowed, or if too many responses are open.
        """
        return self._begin(self._send(self._check_room(), request))

    def _check_room(self) -> HttpClient:
        """Return the client, if the guest may send another request."""
        if self._client is None:
            raise OutboundError(ErrorCode.NOT_ALLOWED, "the handler has no allowed_hosts")
        if len(self._responses) + self._others >= self._client.max_open:
            what = f"{self._client.max_open} responses are open (http_max_concurrency)"
            raise OutboundError(ErrorCode.TOO_MANY, what)
        return self._client

    async def _send(self, client: HttpClient, request: OutboundRequest) -> tuple[int, int]:
        response = await client.send(request)
        self._last += 1
        self._responses[self._last] = response
        return self._last, response.status

    def open(
        self, send: Callable[[HttpClient], Coroutine[Any, Any, Response]]
    ) -> asyncio.Task[Response]:
        """Start a request whose response the caller manages; ``release`` has to follow.

        Args:
            send: Sends the request with a client.

        Raises:
            OutboundError: If requests are not allowed, or if too many responses are open.
        """
        task = self._begin(send(self._check_room()))
        self._others += 1
        return task

    def release(self) -> None:
        """Note that a request of ``open`` has failed, or that its response is closed."""
        self._others -= 1

    def read(self, response: Response, size: int) -> asyncio.Task[bytes]:
        """Start to read at most ``size`` bytes of a body."""
        return self._begin(response.read(size))

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._end)
        return task

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not log it

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
        """Cancel all tasks, and close all responses."""
        for task in self._tasks:
            task.cancel()
        for response in self._responses.values():
            response.close()
        self._responses.clear()
