"""The connection of a client, which processes one request at a time."""

from __future__ import annotations

import asyncio
import logging
import math
import select
import socket
import time
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Protocol, cast

from wagi.http.body import BodyStream
from wagi.http.client_channel import ClientChannel, disconnected_error
from wagi.http.errors import HTTPError
from wagi.http.forwarded import ClientInfo
from wagi.http.head import Head
from wagi.http.options import HttpOptions
from wagi.http.parser import Data, RequestParser
from wagi.http.request import Endpoint, Request
from wagi.http.tasks import start

_TIME_SLICE_S = 0.001  # after which a connection yields to the others
_BUFFER_LIMIT = 64 * 1024  # maximum number of unparsed bytes before reading pauses
_DISCARD_S = 10.0
_LINGER_S = 10.0
_LINGER_IDLE_S = 1.0  # without input, after which the client is assumed to have read the response
NEW_CONNECTION_GRACE_S = 0.5
"""Minimum age before a shutdown closes an unused connection: its request may be in flight."""
_log = logging.getLogger("wagi")


_NO_BODY = BodyStream(is_complete=True, on_drain=lambda: None)
_INVALID_HEAD = Head("-", "-", "HTTP/1.1", {}, (), False, 0)


class Server(Protocol):
    """The interface of the server for its connections.

    Attributes:
        handle: Coroutine function that answers a request, run by ``tasks.start``.
        reject: Function that answers a request that is not valid HTTP.
        options: Limits and timeouts of connections.
        is_draining: Whether connections close after their current request.
        paused: Connections that do not read from their client at the moment.
    """

    handle: Callable[[Request], Coroutine[Any, Any, None]]
    reject: Callable[[Request, HTTPError], None]
    options: HttpOptions
    is_draining: bool
    paused: set[Connection]

    def add(self, connection: Connection) -> bool:
        """Track a connection.

        Returns:
            False if the limit is reached; the connection has to be closed.
        """

    def remove(self, connection: Connection) -> None:
        """Stop tracking a connection that has ended."""

    def enqueue(self, request: Request) -> None:
        """Schedule a call of ``dispatch`` in the next iteration of the event loop."""


class Connection(ClientChannel):
    """The connection of one client, which implements ``Channel`` for requests and responses.

    Attributes:
        endpoint: Addresses of the connection.
    """

    __slots__ = (
        "_body",
        "_created_at",
        "_direct_client",
        "_is_broken",
        "_is_new",
        "_is_processing_scheduled",
        "_is_reading",
        "_linger_until",
        "_parser",
        "_server",
        "_task",
        "endpoint",
    )

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        # Constant for the connection
        self._server = server
        self._parser = RequestParser(server.options.head)
        self.endpoint: Endpoint
        self._direct_client: ClientInfo | None = (
            None  # the client, if the peer is not a trusted proxy
        )
        self._created_at = loop.time()
        # Mutable state of the connection
        self._linger_until = 0.0
        self._is_new = True  # before the first request
        self._is_broken = False  # the rest of the input cannot be parsed
        self._is_reading = True
        self._is_processing_scheduled = False
        # State of the current request
        self._task: asyncio.Task[None] | None = None
        self._body: BodyStream | None = None  # if it has not arrived completely

    # Interface for the server

    @property
    def is_answering(self) -> bool:
        """Whether a request is being answered."""
        return self._state == "ANSWERING"

    @property
    def is_idle(self) -> bool:
        """Whether the connection waits for a request, and may be closed."""
        if self._state != "IDLE" or self._transport is None:
            return False
        is_expected = self._is_new and self._loop.time() - self._created_at < NEW_CONNECTION_GRACE_S
        if is_expected or self._transport.get_write_buffer_size():
            return False
        return self.descriptor is None or not has_input(self.descriptor)

    def cancel(self) -> asyncio.Task[None] | None:
        """Cancel the current request.

        Returns:
            The task of the request; None if it has none.
        """
        if self._task is not None:
            self._task.cancel()
        return self._task

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Initialize the connection, or abort it if the limit is reached."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transport is not a subclass
        if not self._server.add(self):
            self.abort()
            return
        self.endpoint = Endpoint.of(transport)
        self._direct_client = self._server.options.proxies.direct_client(self.endpoint.peer)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            _configure(sock)
        self._set_deadline(self._server.options.header_timeout)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Cancel the current request and release the connection."""
        super().connection_lost(exc)
        self._server.remove(self)
        if self._body is not None:
            self._body.fail(disconnected_error())
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse input, and answer the requests in it."""
        if self._state == "LINGERING":
            remaining = self._linger_until - self._loop.time()
            self._set_deadline(max(0.0, min(remaining, _LINGER_IDLE_S)))
        elif self._state != "CLOSED" and not self._is_broken:
            self._parser.feed(data)
            if not self._is_processing_scheduled:
                self._process_received()

    def resume_writing(self) -> None:
        """Unblock ``drain`` and further requests."""
        if self._parser.received:
            self._schedule_processing()
        super().resume_writing()

    @property
    def is_draining(self) -> bool:
        """Whether the server is draining."""
        return self._server.is_draining

    # Requests

    def _process_received(self) -> None:
        """Parse received bytes and answer requests, for at most about a millisecond."""
        self._is_processing_scheduled = False
        parser, slice_end = self._parser, 0.0
        while parser.received and self._can_parse():
            try:
                event = parser.next_event()
            except HTTPError as error:
                self._reject(error)
                break
            if event is None:
                break
            if isinstance(event, Data):
                self._take_data(event)
            else:
                self._begin_request(event)
            if parser.received:
                now = time.monotonic()
                slice_end = slice_end or now + _TIME_SLICE_S
                if now >= slice_end:
                    self._schedule_processing()
                    break
        if parser.received or not self._is_reading or self._body is not None:
            is_in_head = not self._is_processing_scheduled and not self._is_write_paused
            if self._state == "IDLE" and parser.received and is_in_head:
                self._enter("HEAD", self._server.options.header_timeout)
            self._adjust_reading()

    def _can_parse(self) -> bool:
        if self._state == "ANSWERING":
            return self._body is not None and not self._body.is_full and not self._is_broken
        if self._state == "IDLE" and self._is_write_paused:
            return False
        return self._state not in ("LINGERING", "CLOSED") and not self._is_broken

    def _schedule_processing(self) -> None:
        if not self._is_processing_scheduled and self._state != "CLOSED":
            self._is_processing_scheduled = True
            self._loop.call_soon(self._process_received)

    def _adjust_reading(self) -> None:
        """Pause or resume reading, depending on how much input is buffered."""
        if self._transport is None or self._state == "CLOSED":
            return
        is_full = self._body is not None and self._body.is_full
        # The parser limits the size of a head.
        is_in_head = self._state == "HEAD" and not self._is_processing_scheduled
        reads = not is_full and (is_in_head or len(self._parser.received) < _BUFFER_LIMIT)
        if self._is_broken or self._state == "LINGERING":
            reads = True  # input is dropped
        if reads is self._is_reading:
            return
        self._is_reading = reads
        if reads:
            self._server.paused.discard(self)
            self._transport.resume_reading()
        else:
            self._server.paused.add(self)
            self._transport.pause_reading()

    def _take_data(self, event: Data) -> None:
        body = self._body
        assert body is not None
        if event.is_last:
            self._body = None
        if self._state == "ANSWERING":
            body.feed(event.data, event.is_last)
        elif event.is_last:
            self._enter("IDLE", self._server.options.keep_alive)

    def _begin_request(self, head: Head) -> None:
        self._enter("ANSWERING", math.inf)
        self._is_new = False
        self._closes = False
        body = _NO_BODY
        if head.content_length != 0:
            body = self._body = BodyStream(is_complete=False, on_drain=self._schedule_processing)
            # A short body often arrives together with its head.
            try:
                event = self._parser.next_event()
            except HTTPError as error:
                self._reject(error)
            else:
                if isinstance(event, Data):
                    self._take_data(event)
        self._server.enqueue(Request(head, self._client(head), self.endpoint, body, self))

    def _client(self, head: Head) -> ClientInfo:
        if self._direct_client is not None:
            return self._direct_client
        return self._server.options.proxies.client(self.endpoint.peer, head.raw_headers)

    def dispatch(self, request: Request) -> None:
        """Start to answer a request that has been enqueued, in a task only if it has to wait."""
        if self._state == "CLOSED":
            return  # the client has disconnected in the meantime
        try:
            self._task = start(self._server.handle(request))
        except ConnectionError:
            self.abort()
        except Exception:
            _log.exception("internal error while answering a request")
            self.abort()
        else:
            if self._task is None:
                self._end_response()
            else:
                self._task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            self.abort()
        elif error := task.exception():
            if not isinstance(error, ConnectionError):
                _log.error("internal error while answering a request", exc_info=error)
            self.abort()
        else:
            self._end_response()

    def _end_response(self) -> None:
        """Reuse or close the connection after a complete response."""
        if self._state == "CLOSED":
            return
        if self._closes or self._is_broken:
            if self._body is not None or self._parser.received or self._is_broken:
                self._linger()
            else:
                self.close()
        elif self._body is not None:
            self._enter("DISCARDING", _DISCARD_S)
            self._body.discard()
        else:
            self._enter("IDLE", self._server.options.keep_alive)
        if self._parser.received:
            self._schedule_processing()
        elif not self._is_reading:
            self._adjust_reading()

    def _linger(self) -> None:
        self._enter("LINGERING", _LINGER_IDLE_S)
        self._linger_until = self._loop.time() + _LINGER_S
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()

    def _on_head_timeout(self) -> None:
        message = "The request header fields did not arrive in time (--header-timeout)."
        self._reject(HTTPError(HTTPStatus.REQUEST_TIMEOUT, message))

    def _reject(self, error: HTTPError) -> None:
        """Answer a request that is not valid HTTP. Further input cannot be parsed."""
        self._is_broken = True
        if self._state == "ANSWERING":
            assert self._body is not None
            self._body.fail(error)  # the error is raised by the reader
        elif self._state == "DISCARDING":
            self.close()
        else:
            self._enter("ANSWERING", math.inf)
            try:
                client = self._client(_INVALID_HEAD)
                request = Request(_INVALID_HEAD, client, self.endpoint, _NO_BODY, self)
                self._server.reject(request, error)
            except ConnectionError:
                self.abort()
            else:
                self._end_response()


def has_input(descriptor: int) -> bool:
    """Whether a socket has bytes, or the end of the stream, that the event loop has not read yet.

    After a stall of the process, timers may run before the event loop reads what has arrived.
    """
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(0))


def _configure(sock: socket.socket) -> None:
    """Set the options of a client's socket."""
    # To detect clients that vanish without closing
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sock.family != socket.AF_UNIX:
        # Otherwise the last bytes of a streamed response may wait for a delayed acknowledgement, 40
        # ms. asyncio sets it only if the listening socket was made with IPPROTO_TCP.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
