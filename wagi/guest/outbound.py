"""The ``wasi_experimental_http`` import module: outbound HTTP for guests.

Here is what a guest sees: pointers, handles, numbers of errors. How requests are sent, and whether
they may be, is the business of the ``Client`` that a guest is given. A guest that waits for a
response is suspended like one that waits for input.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import IntEnum
from functools import wraps
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from wagi.guest.capi import Continuation, Linker
from wagi.guest.errno import GuestFault, NoMemoryFault

if TYPE_CHECKING:
    from wagi.guest.guest import Guest

MODULE = "wasi_experimental_http"
_MAX_READ = 1024 * 1024
_MAX_NOTES = 20  # for the log, of one guest
T = TypeVar("T")


class Failure(IntEnum):
    """What a host call answers instead of 0."""

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
    """A request that cannot be: the guest gets the number, the log the reason."""

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
        """End it, wherever it is."""


class Client(Protocol):
    """Who sends a guest's requests. Attributes: ``max_open`` responses at a time."""

    max_open: int

    async def send(self, request: OutboundRequest) -> Response:
        """Send a request. Raises: OutboundError."""


class Outbound:
    """The requests of one guest: the responses that it holds open, and what it waits for."""

    def __init__(self, client: Client | None, note: Callable[[str], None]) -> None:
        """Parameters: ``client`` None if the guest may ask nobody; ``note`` takes what the log
        should say.
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

    async def _send(self, client: Client, request: OutboundRequest) -> tuple[int, int]:
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
        """Tell the log why a request has failed."""
        if str(error) and self._notes < _MAX_NOTES:
            self._notes += 1
            self._note(f"outbound HTTP: {error}")

    def close(self) -> None:
        """End everything, whatever it waits for."""
        if self._task is not None and not self._task.cancel() and not self._task.cancelled():
            self._task.exception()  # seen: the guest may have gone before it could ask
        for response in self._responses.values():
            response.close()
        self._responses.clear()


def define(linker: Linker) -> None:
    """Put the functions into a linker."""
    linker.define_async(MODULE, "req", "IIIIIIIIII", _numbered(req))
    linker.define(MODULE, "close", "I", _numbered(close))
    linker.define(MODULE, "header_get", "IIIIII", _numbered(header_get))
    linker.define(MODULE, "headers_get_all", "IIII", _numbered(headers_get_all))
    linker.define_async(MODULE, "body_read", "IIII", _numbered(body_read))


def _numbered(call: Callable[..., Any]) -> Callable[..., Any]:
    """Turn what a call raises into the number that a guest gets for it."""

    def number(guest: Guest, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except NoMemoryFault:
            return Failure.MEMORY_NOT_FOUND
        except GuestFault:
            return Failure.MEMORY_ACCESS
        except UnicodeDecodeError:
            return Failure.UTF8
        except OutboundError as error:
            guest.outbound.note(error)
            return error.failure

    @wraps(call)
    def numbered(guest: Guest, *arguments: int) -> Any:
        outcome = number(guest, lambda: call(guest, *arguments))
        if callable(outcome):
            return lambda: number(guest, outcome)
        return outcome

    return numbered


def req(
    guest: Guest,
    url: int,
    url_length: int,
    method: int,
    method_length: int,
    headers: int,
    headers_length: int,
    body: int,
    body_length: int,
    status: int,
    handle: int,
) -> Continuation:
    """Send a request, and wait for the head of its response."""
    memory = guest.memory
    memory.require(status, 2)
    memory.require(handle, 4)
    request = OutboundRequest(
        memory.read(method, method_length).decode(),
        memory.read(url, url_length).decode(),
        _parse_headers(memory.read(headers, headers_length).decode()),
        memory.read(body, body_length),
    )
    task = guest.outbound.send(request)

    def receive() -> int | None:
        if not task.done():
            guest.wait_for(task)
            return None
        number, code = task.result()
        memory.write_u32(handle, number)
        memory.write_u16(status, code)
        return 0

    return receive


def close(guest: Guest, handle: int) -> int:
    """Close a response."""
    guest.outbound.forget(handle)
    return 0


def header_get(
    guest: Guest, handle: int, name: int, name_length: int, value: int, room: int, written: int
) -> int:
    """Copy the value of a header into the guest: the first one of this name."""
    response = guest.outbound.find(handle)
    wanted = guest.memory.read(name, name_length).decode().lower()
    for key, found in response.headers:
        if key.lower() == wanted:
            return _copy(guest, found.encode("latin-1"), value, room, written)
    raise OutboundError(Failure.HEADER_NOT_FOUND)


def headers_get_all(guest: Guest, handle: int, buffer: int, room: int, written: int) -> int:
    """Copy all headers into the guest, as lines of ``name:value``."""
    response = guest.outbound.find(handle)
    text = "".join(f"{name}:{value}\n" for name, value in response.headers)
    return _copy(guest, text.encode("latin-1"), buffer, room, written)


def body_read(
    guest: Guest, handle: int, buffer: int, room: int, read: int
) -> int | Continuation:  # fmt: skip
    """Copy some of the body into the guest, going on where the last read ended; 0 at the end."""
    memory = guest.memory
    response = guest.outbound.find(handle)
    memory.require(buffer, room)
    memory.require(read, 4)
    if room == 0:
        memory.write_u32(read, 0)
        return 0
    task = guest.outbound.read(response, min(room, _MAX_READ))

    def receive() -> int | None:
        if not task.done():
            guest.wait_for(task)
            return None
        data = task.result()
        memory.write(buffer, data)
        memory.write_u32(read, len(data))
        return 0

    return receive


def _copy(guest: Guest, data: bytes, buffer: int, room: int, written: int) -> int:
    if len(data) > room:
        raise OutboundError(Failure.BUFFER_TOO_SMALL)
    guest.memory.write(buffer, data)
    guest.memory.write_u32(written, len(data))
    return 0


def _parse_headers(text: str) -> list[tuple[str, str]]:
    """Lines of ``name:value``. Raises: OutboundError."""
    headers = []
    for line in filter(None, text.split("\n")):
        name, colon, value = line.partition(":")
        if not colon:
            raise OutboundError(Failure.INVALID_ENCODING, f"not a header line: {line[:64]!r}")
        headers.append((name.strip(), value.strip()))
    return headers
