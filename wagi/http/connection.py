"""A client's connection: requests in, one at a time, and their responses out, in order.

========== ================================================== ============== ======================
state      meaning                                            at most        next
========== ================================================== ============== ======================
IDLE       between two requests                               keep_alive     HEAD ANSWERING
HEAD       a head has begun to arrive                         header_timeout ANSWERING
ANSWERING  a request is answered; its body may still arrive   route's limits IDLE DISCARDING LINGERING
DISCARDING the response is sent; the rest of the body is read 10 s           IDLE
LINGERING  the last response is sent; what arrives is dropped 10 s           CLOSED
CLOSED     nothing is received; what was written is flushed   10 s
========== ================================================== ============== ======================

CLOSED may follow every state. A new connection is IDLE for ``header_timeout`` seconds. A request
that is not valid HTTP is answered by the gateway itself, in ANSWERING, and then LINGERING follows:
closing a socket with unread data would reset the connection before the client has read the
response. Requests that are sent ahead (pipelining) wait unparsed until it is their turn, which
does not come before the client has read enough of the responses to those before.
"""  # noqa: E501 - a table

from __future__ import annotations

import asyncio
import logging
import math
import socket
import struct
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal, Protocol, cast

from wagi.http.body import BodyStream
from wagi.http.errors import HTTPError
from wagi.http.forwarded import ClientInfo, TrustedProxies
from wagi.http.parser import Data, Head, HeadLimits, RequestParser
from wagi.http.request import Endpoint, Request
from wagi.http.tasks import start

_TURN_S = 0.001  # how long one connection may parse and answer before others have their turn
_BUFFER_LIMIT = 64 * 1024  # bytes that are received and not parsed; then the client waits
_DISCARD_S = 10.0
_LINGER_S = 10.0
_LINGER_QUIET_S = 1.0  # without a byte, after which a client is taken to have read the response
_FLUSH_S = 10.0
FIRST_REQUEST_S = 0.5
"""How long a new connection is kept during shutdown: its first request may be on the way."""
_log = logging.getLogger("wagi")


State = Literal["IDLE", "HEAD", "ANSWERING", "DISCARDING", "LINGERING", "CLOSED"]
_NEXT: dict[State, frozenset[State]] = {
    "IDLE": frozenset(("HEAD", "ANSWERING")),
    "HEAD": frozenset(("ANSWERING",)),
    "ANSWERING": frozenset(("IDLE", "DISCARDING", "LINGERING")),
    "DISCARDING": frozenset(("IDLE",)),
    "LINGERING": frozenset(),
    "CLOSED": frozenset(),
}
_NO_BODY = BodyStream(is_complete=True, on_room=lambda: None)
_NOT_HTTP = Head("-", "-", "HTTP/1.1", {}, (), False, 0)


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """What clients may take and say.

    Attributes:
        head: How large a request head may be.
        header_timeout: Seconds for a head.
        keep_alive: Seconds for which an idle connection is kept.
        connections: Connections at a time.
        proxies: The peers that may say who the client is.
    """

    head: HeadLimits
    header_timeout: float
    keep_alive: float
    connections: int
    proxies: TrustedProxies


class Server(Protocol):
    """The server of a connection.

    Attributes:
        handle: Answers a request, as a coroutine for ``tasks.start``.
        reject: Answers at once what is not valid HTTP.
        options: What clients may take and say.
        is_draining: Whether connections end after the request that they are in.
        unread: The connections from which nothing is read at the moment.
    """

    handle: Callable[[Request], Coroutine[Any, Any, None]]
    reject: Callable[[Request, HTTPError], None]
    options: HttpOptions
    is_draining: bool
    unread: set[Connection]

    def add(self, connection: Connection) -> bool:
        """Count a connection. Returns: False if there are too many."""

    def remove(self, connection: Connection) -> None:
        """Forget a connection that has ended."""

    def enqueue(self, request: Request) -> None:
        """Have ``start_answer`` of its connection called in this pass of the event loop."""


class Connection(asyncio.Protocol):
    """One client's connection. Requests and responses see it as a ``Channel``.

    Attributes:
        endpoint: Its two ends.
    """

    __slots__ = (
        "_body",
        "_closes",
        "_deadline",
        "_drain_waiter",
        "_has_turn_scheduled",
        "_is_broken",
        "_is_new",
        "_is_reading",
        "_is_write_paused",
        "_linger_until",
        "_loop",
        "_made_at",
        "_parser",
        "_server",
        "_state",
        "_stranger",
        "_task",
        "_timer",
        "_transport",
        "endpoint",
    )

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        # As long as the connection
        self._server = server
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser = RequestParser(server.options.head)
        self.endpoint: Endpoint
        self._stranger: ClientInfo | None = None  # the client, if the peer is not a trusted proxy
        self._made_at = loop.time()
        self._timer: asyncio.TimerHandle | None = None
        # Changes as it goes on
        self._state: State = "IDLE"
        self._deadline = math.inf  # of the state, in seconds of the loop's clock
        self._linger_until = 0.0
        self._is_new = True  # no request has been received
        self._is_broken = False  # what follows cannot be parsed
        self._is_reading = True
        self._is_write_paused = False
        self._drain_waiter: asyncio.Future[None] | None = None
        self._has_turn_scheduled = False
        # Of the request that is answered
        self._task: asyncio.Task[None] | None = None
        self._body: BodyStream | None = None  # of which more has to arrive
        self._closes = False  # whether its response is the last one

    # What the server asks

    @property
    def is_answering(self) -> bool:
        """Whether a request is being answered."""
        return self._state == "ANSWERING"

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request that may never come."""
        if self._state != "IDLE" or self._transport is None:
            return False
        is_expected = self._is_new and self._loop.time() - self._made_at < FIRST_REQUEST_S
        return not is_expected and not self._transport.get_write_buffer_size()

    @property
    def descriptor(self) -> int | None:
        """The file descriptor, while there is one."""
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        descriptor: int = -1 if sock is None else sock.fileno()
        return descriptor if descriptor >= 0 else None

    def cancel(self) -> asyncio.Task[None] | None:
        """Cancel the request that is being answered.

        Returns:
            Its task, if it has one.
        """
        if self._task is not None:
            self._task.cancel()
        return self._task

    def close(self) -> None:
        """End the connection; what has been written is sent first."""
        if self._transport is not None and self._state != "CLOSED":
            self._enter("CLOSED", _FLUSH_S)
            self._transport.close()

    def abort(self) -> None:
        """End the connection, whatever has not been sent."""
        if self._transport is not None:
            self._enter("CLOSED", math.inf)
            self._transport.abort()

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or close it if there are too many."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        if not self._server.add(self):
            self.abort()
            return
        self.endpoint = Endpoint.of(transport)
        self._stranger = self._server.options.proxies.stranger(self.endpoint.peer)
        sock = transport.get_extra_info("socket")
        if sock is not None:  # a client that vanished is noticed in the end
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._set_deadline(self._server.options.header_timeout)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Cancel the request that is being answered: the client is gone."""
        self._transport = None
        self._enter("CLOSED", math.inf)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._server.remove(self)
        if self._body is not None:
            self._body.fail(_gone())
        if self._drain_waiter is not None and not self._drain_waiter.done():
            self._drain_waiter.set_exception(_gone())
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """Take what the client has sent."""
        if self._state == "LINGERING":
            remaining = self._linger_until - self._loop.time()
            self._set_deadline(max(0.0, min(remaining, _LINGER_QUIET_S)))
        elif self._state != "CLOSED" and not self._is_broken:
            self._parser.feed(data)
            if not self._has_turn_scheduled:
                self._take_turn()

    def pause_writing(self) -> None:
        """Have ``drain`` and further requests wait: the client does not read what is sent."""
        self._is_write_paused = True

    def resume_writing(self) -> None:
        """End the wait of ``drain`` and of further requests."""
        self._is_write_paused = False
        if self._parser.received:
            self._schedule_turn()
        if self._drain_waiter is not None and not self._drain_waiter.done():
            self._drain_waiter.set_result(None)

    # What requests and responses call: Channel

    @property
    def can_write(self) -> bool:
        """Whether the client has read everything so far."""
        return self._transport is not None and not self._transport.get_write_buffer_size()

    @property
    def is_draining(self) -> bool:
        """Whether the server stops."""
        return self._server.is_draining

    def write(self, data: bytes) -> None:
        """Send bytes, or keep them until the client reads."""
        if self._transport is None or self._transport.is_closing():
            raise _gone()
        self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the client has read enough. Raises: ConnectionError if it is gone."""
        if self._transport is None:
            raise _gone()
        if self._is_write_paused:
            self._drain_waiter = self._loop.create_future()
            await self._drain_waiter

    def close_after_response(self) -> None:
        """End the connection when the response has been sent."""
        self._closes = True

    def abort_response(self, has_framing: bool) -> None:
        """Break the connection so that the client notices that the response is not whole.

        Where only the end of the connection ends the response, as in HTTP/1.0, an orderly close
        would look like success: it has to be a reset.
        """
        if self._transport is None:
            return
        if has_framing and not self._transport.get_write_buffer_size():
            self.close()
            return
        sock = self._transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.abort()

    # States

    def _enter(self, state: State, seconds: float) -> None:
        """Go to a state. ``seconds`` for which it may last."""
        assert state == "CLOSED" or state in _NEXT[self._state], (self._state, state)
        self._state = state
        if seconds == math.inf:
            self._deadline = math.inf
        else:
            self._set_deadline(seconds)

    def _set_deadline(self, seconds: float) -> None:
        """Set when the current state ends.

        One timer serves all deadlines: to put one off, as each request of a busy connection does,
        costs nothing.
        """
        self._deadline = deadline = self._loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= deadline:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._deadline == math.inf:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._on_timer)
        elif self._state == "HEAD":
            message = "The request header fields did not arrive in time."
            self._reject(HTTPError(HTTPStatus.REQUEST_TIMEOUT, message))
        elif self._state == "CLOSED":
            self.abort()
        elif self._state == "IDLE" and not self.can_write:
            self.abort()  # a client that has not read its responses will not
        else:
            self.close()

    # Requests

    def _take_turn(self) -> None:
        """Parse and answer what has been received, for about a millisecond."""
        self._has_turn_scheduled = False
        parser, turn_ends = self._parser, 0.0
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
                self._answer(event)
            if parser.received:
                now = time.monotonic()
                turn_ends = turn_ends or now + _TURN_S
                if now >= turn_ends:
                    self._schedule_turn()
                    break
        if parser.received or not self._is_reading or self._body is not None:
            is_in_head = not self._has_turn_scheduled and not self._is_write_paused
            if self._state == "IDLE" and parser.received and is_in_head:
                self._enter("HEAD", self._server.options.header_timeout)
            self._adjust_reading()

    def _can_parse(self) -> bool:
        if self._state == "ANSWERING":
            return self._body is not None and not self._body.is_full and not self._is_broken
        if self._state == "IDLE" and self._is_write_paused:
            return False
        return self._state not in ("LINGERING", "CLOSED") and not self._is_broken

    def _schedule_turn(self) -> None:
        if not self._has_turn_scheduled and self._state != "CLOSED":
            self._has_turn_scheduled = True
            self._loop.call_soon(self._take_turn)

    def _adjust_reading(self) -> None:
        """Read from the client only what there is room for."""
        if self._transport is None or self._state == "CLOSED":
            return
        is_full = self._body is not None and self._body.is_full
        # The parser bounds a head itself.
        is_in_head = self._state == "HEAD" and not self._has_turn_scheduled
        reads = not is_full and (is_in_head or len(self._parser.received) < _BUFFER_LIMIT)
        if self._is_broken or self._state == "LINGERING":
            reads = True  # and dropped
        if reads is self._is_reading:
            return
        self._is_reading = reads
        if reads:
            self._server.unread.discard(self)
            self._transport.resume_reading()
        else:
            self._server.unread.add(self)
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

    def _answer(self, head: Head) -> None:
        self._enter("ANSWERING", math.inf)
        self._is_new = False
        self._closes = False
        body = _NO_BODY
        if head.content_length != 0:
            body = self._body = BodyStream(is_complete=False, on_room=self._schedule_turn)
            # A short body has often arrived with its head.
            try:
                event = self._parser.next_event()
            except HTTPError as error:
                self._reject(error)
            else:
                if isinstance(event, Data):
                    self._take_data(event)
        self._server.enqueue(Request(head, self._client(head), self.endpoint, body, self))

    def _client(self, head: Head) -> ClientInfo:
        if self._stranger is not None:
            return self._stranger
        return self._server.options.proxies.client(self.endpoint.peer, head.raw_headers)

    def start_answer(self, request: Request) -> None:
        """Answer a request that has been enqueued, as far as that needs no waiting."""
        if self._state == "CLOSED":
            return  # the client has gone meanwhile
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
        """Go on with the connection, or end it, after a whole response."""
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
            self._schedule_turn()
        elif not self._is_reading:
            self._adjust_reading()

    def _linger(self) -> None:
        self._enter("LINGERING", _LINGER_QUIET_S)
        self._linger_until = self._loop.time() + _LINGER_S
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()

    def _reject(self, error: HTTPError) -> None:
        """Answer what is not HTTP; nothing that follows can be understood."""
        self._is_broken = True
        if self._state == "ANSWERING":
            assert self._body is not None
            self._body.fail(error)  # its reader gets the error
        elif self._state == "DISCARDING":
            self.close()
        else:
            self._enter("ANSWERING", math.inf)
            try:
                client = self._client(_NOT_HTTP)
                request = Request(_NOT_HTTP, client, self.endpoint, _NO_BODY, self)
                self._server.reject(request, error)
            except ConnectionError:
                self.abort()
            else:
                self._end_response()


def _gone() -> ConnectionResetError:
    return ConnectionResetError("the client has closed the connection")
