"""aiohttp's HTTP server with our limits: on heads, on slow and dead clients, on connections.

aiohttp parses strictly and reads bodies only as fast as they are taken. What it leaves open is
here: how long and how large a head may be, which status a bad one gets, a client that goes away
while nothing is read from it, one that never reads, and how a connection ends when the server does.
"""

from __future__ import annotations

import asyncio
import logging
import select
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

from aiohttp import http_exceptions, web, web_protocol
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD

from wagi.intake import Endpoint, Request
from wagi.refusal import Refusal

Handler = Callable[[Request], Awaitable[web.StreamResponse]]
Refuser = Callable[[Request, Refusal], Awaitable[web.StreamResponse]]

MAX_FIELDS = 128
"""Header fields of a request; 431 beyond. Apache allows 100."""
_LINGER = 1.0  # seconds in which a client that still sends can read why it is refused
_FLUSH = 10.0  # seconds for the client to read the end of the last response
_FIRST_REQUEST = 0.5  # seconds in which a new connection's request still counts when we stop
_LOOK_AFTER = 0.5  # seconds between two looks at clients from which nothing is read
_REPORT_EVERY = 60.0  # seconds
_VERSIONS = ((1, 0), (1, 1))
_GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR
_log = logging.getLogger("wagi")

# A client may send requests ahead (pipelining); each that is parsed takes memory.
web_protocol.MAX_MSG_QUEUE_SIZE = 4


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What a client may take.

    Attributes: ``request_line`` bytes of a request target; ``header`` bytes of a head;
    ``header_timeout`` seconds for a head; ``keep_alive`` seconds of an idle connection;
    ``connections`` at a time.
    """

    request_line: int
    header: int
    header_timeout: float
    keep_alive: float
    connections: int


class HttpServer(web.Server):
    """Makes a connection for each client; a factory for asyncio's servers.

    Attributes: ``draining`` whether connections end after the request that they are in.
    """

    def __init__(self, handler: Handler, refuse: Refuser, limits: HttpLimits) -> None:
        """Parameters: ``refuse`` answers what is no HTTP."""
        super().__init__(
            cast("Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]", handler),
            request_factory=_make_request,
            # A client that goes away cancels the handler, and with it the guest.
            handler_cancellation=True,
            # The body is the guest's to decode: it gets the bytes that CONTENT_LENGTH counts.
            auto_decompress=False,
            access_log=None,
            keepalive_timeout=limits.keep_alive,
            max_line_size=limits.request_line,
            # Different from the one for lines: its number tells which one a client has exceeded.
            max_field_size=limits.header + (limits.header == limits.request_line),
            max_headers=MAX_FIELDS,
        )
        self.refuse = refuse
        self.limits = limits
        self.draining = False
        self.unread: set[Connection] = set()
        self._reported_at = -_REPORT_EVERY

    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)

    def has_room(self) -> bool:
        """Whether one more connection may be taken."""
        if len(self._connections) < self.limits.connections:
            return True
        now = time.monotonic()
        if now - self._reported_at >= _REPORT_EVERY:
            self._reported_at = now
            _log.warning("connections are closed: there are %d", self.limits.connections)
        return False

    @property
    def running(self) -> int:
        """How many requests are being answered."""
        return sum(connection._request_in_progress for connection in self._connections)

    def end_idle(self) -> int:
        """Close connections without a request. Returns: how many connections there are still."""
        for connection in list(self._connections):
            if isinstance(connection, Connection) and connection.is_idle:
                connection.force_close()
        return len(self._connections)

    async def look_after_unread(self) -> None:
        """Notice clients that go away while nothing is read from them; for ever.

        The event loop looks at a connection only while it reads from it.
        """
        while True:
            await asyncio.sleep(_LOOK_AFTER)
            poller = select.poll()
            watched: dict[int, Connection] = {}
            for connection in self.unread:
                if (descriptor := connection.descriptor) is not None:
                    watched[descriptor] = connection
                    poller.register(descriptor, _GONE)
            for descriptor, _ in poller.poll(0):
                watched[descriptor].abort()


class _Request(Request):
    """A request whose response says that the connection ends, once the server is stopping."""

    @property
    def endpoint(self) -> Endpoint:  # type: ignore[override]
        """What its connection says about itself."""
        protocol: Any = self._protocol
        endpoint: Endpoint = protocol.endpoint
        return endpoint

    @property
    def keep_alive(self) -> bool:
        """Whether the connection goes on after the response."""
        protocol: Any = self._protocol
        return not self._message.should_close and not protocol.draining


def _make_request(
    message: RawRequestMessage,
    payload: Any,
    protocol: Any,
    writer: Any,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    return _Request(message, payload, protocol, writer, task, protocol._loop)


class Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ("_body", "_born", "_head_size", "_head_timer", "_refused", "_server", "endpoint")

    def __init__(self, server: HttpServer, **options: Any) -> None:
        super().__init__(server, **options)
        self._server = server
        self._born = self._loop.time()
        self._body: Any = None  # of the last request that was parsed
        self._head_size = 0  # bytes of the head that is arriving
        self._head_timer: asyncio.TimerHandle | None = None
        self._refused = False

    @property
    def draining(self) -> bool:
        """Whether this connection ends after its request."""
        return self._server.draining

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request that need not come."""
        if self._waiter is None or self._messages or self.transport is None:
            return False
        expected = not self._request_count and self._loop.time() - self._born < _FIRST_REQUEST
        return not expected and not self.transport.get_write_buffer_size()

    @property
    def descriptor(self) -> int | None:
        """The file descriptor, while there is one."""
        connection = None if self.transport is None else self.transport.get_extra_info("socket")
        descriptor: int = -1 if connection is None else connection.fileno()
        return descriptor if descriptor >= 0 else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or close it if there are too many."""
        if not self._server.has_room():
            self._manager = None
            assert isinstance(transport, asyncio.Transport)
            transport.abort()
            return
        self.endpoint = Endpoint.of(transport)
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client is gone."""
        self._stop_head_timer()
        self._server.unread.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser and keep count of the head."""
        if self._refused:
            return
        before = self._request_count
        in_body = self._body is not None and not self._body.is_eof()
        super().data_received(data)
        if self._request_count != before:
            self._requests_arrived(self._request_count - before, len(data))
        elif data and not in_body:
            self._head_size += len(data)
            limits = self._server.limits
            if self._head_size > limits.request_line + limits.header:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            elif self._head_timer is None:
                self._await_head()

    def _requests_arrived(self, count: int, size: int) -> None:
        self._stop_head_timer()
        may_be_large = self._head_size + size > self._server.limits.header
        self._head_size = 0
        for index in range(len(self._messages) - count, len(self._messages)):
            message, self._body = self._messages[index]
            if not isinstance(message, RawRequestMessage):
                self._refused = True
                self._tell_reader()
            elif message.version not in _VERSIONS:
                self._refuse(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, index)
            elif may_be_large and self._is_too_large(message):
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, index)
            if self._refused:
                return

    def _tell_reader(self) -> None:
        """Tell a handler that reads when its request's body turns out broken.

        aiohttp queues the error behind the request that it belongs to, whose handler would wait
        for the rest of the body until its time is over.
        """
        request = self._current_request
        if request is not None and not request.content.is_eof():
            request.content.set_exception(web.RequestPayloadError("the body is not valid"))

    def _is_too_large(self, message: RawRequestMessage) -> bool:
        fields = sum(len(name) + len(value) + 4 for name, value in message.raw_headers)
        return fields > self._server.limits.header

    def _refuse(self, status: HTTPStatus, index: int | None = None) -> None:
        """Queue a refusal. Parameters: ``index`` of the message whose place it takes, if any."""
        self._refused = True
        while index is not None and len(self._messages) > index:
            self._messages.pop()
        error = web_protocol._ErrInfo(status.value, http_exceptions.BadHttpMessage(""), "")
        self._messages.append((error, EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _await_head(self) -> None:
        seconds = self._server.limits.header_timeout
        self._head_timer = self._loop.call_later(seconds, self._head_overdue)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_overdue(self) -> None:
        self._head_timer = None
        if self._waiter is None:  # the request before it still runs
            self._await_head()
        elif self._head_size:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self.force_close()

    def _make_error_handler(self, err_info: Any) -> Any:
        async def refuse(request: web.BaseRequest) -> web.StreamResponse:
            refusal = _refusal(err_info, self._server.limits)
            response = await self._server.refuse(cast(Request, request), refusal)
            await self._linger()
            return response

        return refuse

    async def _linger(self) -> None:
        """Read on for a moment: an answer to a client that still sends is lost by a reset."""
        if self.transport is not None and self.transport.can_write_eof():
            self.transport.write_eof()
            await asyncio.sleep(_LINGER)

    async def start(self) -> None:
        """Handle requests until the connection ends; see that it does."""
        await super().start()
        if self.transport is not None and self.transport.get_write_buffer_size():
            self._loop.call_later(_FLUSH, self.abort)

    def abort(self) -> None:
        """End the connection, whatever has not been sent."""
        if self.transport is not None:
            self.transport.abort()

    def force_close(self) -> None:
        """End an idle connection; a client that has not read its responses will not."""
        transport = self.transport
        super().force_close()
        if transport is not None and transport.get_write_buffer_size():
            transport.abort()

    def handle_error(self, *_: Any, exc: BaseException | None = None, **__: Any) -> Any:
        """What gets past the gateway ends the connection; the gateway has logged it."""
        raise ConnectionResetError("the request cannot be answered") from exc

    def _pause_transport_reading(self) -> None:
        self._server.unread.add(self)
        super()._pause_transport_reading()

    def _resume_transport_reading(self) -> None:
        self._server.unread.discard(self)
        super()._resume_transport_reading()


def _refusal(error: Any, limits: HttpLimits) -> Refusal:
    """What to answer to something that is not HTTP, or too much of it (RFC 9110 §15.5)."""
    status = HTTPStatus(error.status)
    match error.exc:
        case http_exceptions.LineTooLong(args=(_, size, *_)) if int(size) == limits.request_line:
            status = HTTPStatus.REQUEST_URI_TOO_LONG
        case http_exceptions.LineTooLong():
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        case http_exceptions.BadHttpMessage(message="Too many headers received"):
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        case http_exceptions.BadStatusLine(message=text) if "Invalid HTTP version" in text:
            status = HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
    reason = str(getattr(error.exc, "message", "")).partition("\n")[0].rstrip(":")
    return Refusal(status, _MESSAGES.get(status, "The request is not valid HTTP."), reason)


_MESSAGES = {
    HTTPStatus.REQUEST_TIMEOUT: "The request's header fields did not arrive in time.",
    HTTPStatus.REQUEST_URI_TOO_LONG: "The request's target is too long.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "The request's header fields are too large.",
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED: "Only HTTP/1.0 and HTTP/1.1 are spoken here.",
}
