"""The channel to a client: the states of a connection with their deadlines, sending and closing.

========== ================================================== ============== ======================
state      meaning                                            timeout        next
========== ================================================== ============== ======================
IDLE       waiting for a request                              keep_alive     HEAD ANSWERING
HEAD       part of a head has arrived                         header_timeout ANSWERING
ANSWERING  answering a request; its body may still arrive     route's limits IDLE DISCARDING LINGERING
DISCARDING response sent; reading the rest of the body        10 s           IDLE
LINGERING  last response sent; dropping further input         10 s           CLOSED
CLOSED     not reading; flushing the write buffer             10 s
========== ================================================== ============== ======================

Every state may change to CLOSED. The IDLE timeout of a new connection is ``header_timeout``. If a
request is not valid HTTP, the gateway sends an error response (ANSWERING) and lingers (LINGERING):
closing a socket with unread data would reset the connection before the client has read the
response. Pipelined requests stay unparsed until the previous response has been sent and the write
buffer is below its high-water mark.
"""  # noqa: E501 - a table

from __future__ import annotations

import asyncio
import math
import socket
import struct
from abc import ABC, abstractmethod
from typing import Literal

_FLUSH_S = 10.0

State = Literal["IDLE", "HEAD", "ANSWERING", "DISCARDING", "LINGERING", "CLOSED"]
_NEXT: dict[State, frozenset[State]] = {
    "IDLE": frozenset(("HEAD", "ANSWERING")),
    "HEAD": frozenset(("ANSWERING",)),
    "ANSWERING": frozenset(("IDLE", "DISCARDING", "LINGERING")),
    "DISCARDING": frozenset(("IDLE",)),
    "LINGERING": frozenset(),
    "CLOSED": frozenset(),
}


class ClientChannel(asyncio.Protocol, ABC):
    """The channel to one client; ``Connection`` adds requests."""

    __slots__ = (
        "_closes",
        "_deadline",
        "_drain_waiter",
        "_is_write_paused",
        "_loop",
        "_state",
        "_timer",
        "_transport",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._state: State = "IDLE"
        self._deadline = math.inf  # of the current state, in seconds of the loop's clock
        self._is_write_paused = False
        self._drain_waiter: asyncio.Future[None] | None = None
        self._closes = False  # whether the connection closes after the current response

    @property
    def descriptor(self) -> int | None:
        """The file descriptor of the socket; None if it is closed."""
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        descriptor: int = -1 if sock is None else sock.fileno()
        return descriptor if descriptor >= 0 else None

    def close(self) -> None:
        """Close the connection after flushing the write buffer."""
        if self._transport is not None and self._state != "CLOSED":
            self._enter("CLOSED", _FLUSH_S)
            self._transport.close()

    def abort(self) -> None:
        """Close the connection immediately, without flushing the write buffer."""
        if self._transport is not None:
            self._enter("CLOSED", math.inf)
            self._transport.abort()

    # asyncio.Protocol

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the timer, and every ``drain``."""
        self._transport = None
        self._enter("CLOSED", math.inf)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._drain_waiter is not None and not self._drain_waiter.done():
            self._drain_waiter.set_exception(disconnected_error())

    def pause_writing(self) -> None:
        """Block ``drain``: the write buffer is full."""
        self._is_write_paused = True

    def resume_writing(self) -> None:
        """Unblock ``drain``."""
        self._is_write_paused = False
        if self._drain_waiter is not None and not self._drain_waiter.done():
            self._drain_waiter.set_result(None)

    # Channel

    @property
    def can_write(self) -> bool:
        """Whether the write buffer is empty."""
        return self._transport is not None and not self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Send bytes, or buffer them until the client reads.

        Raises:
            ConnectionError: The client has disconnected.
        """
        if self._transport is None or self._transport.is_closing():
            raise disconnected_error()
        self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the write buffer has room.

        Raises:
            ConnectionError: The client has disconnected.
        """
        if self._transport is None:
            raise disconnected_error()
        if self._is_write_paused:
            self._drain_waiter = self._loop.create_future()
            await self._drain_waiter

    def close_after_response(self) -> None:
        """Close the connection after the current response."""
        self._closes = True

    def abort_response(self, has_framing: bool) -> None:
        """Break the connection so that the client detects the truncated response.

        If the response is delimited by the end of the connection, as in HTTP/1.0, an orderly close
        would indicate success, so the connection is reset.

        Args:
            has_framing: Whether the response has a Content-Length or is chunked.
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
        """Change to a state that times out after ``seconds``."""
        assert state == "CLOSED" or state in _NEXT[self._state], (self._state, state)
        self._state = state
        if seconds == math.inf:
            self._deadline = math.inf
        else:
            self._set_deadline(seconds)

    def _set_deadline(self, seconds: float) -> None:
        """Set the deadline of the current state.

        One timer serves all deadlines: extending a deadline, as each request of a busy connection
        does, does not touch the timer.
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
            self._on_head_timeout()
        elif self._state == "CLOSED":
            self.abort()
        elif self._state == "IDLE" and not self.can_write:
            self.abort()  # closing would wait for a client that does not read
        else:
            self.close()

    @abstractmethod
    def _on_head_timeout(self) -> None:
        """Answer a request whose head has not arrived in time."""


def disconnected_error() -> ConnectionResetError:
    """Make the error of a channel whose client has disconnected."""
    return ConnectionResetError("the client has closed the connection")
