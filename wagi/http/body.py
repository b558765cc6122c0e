"""The body of a request: what has arrived of it, and how a worker reads it.

The connection feeds a ``BodyStream``. While more has arrived than is read, it stops reading from
the client. A ``BodyReader`` takes the bytes for one guest: with a lower limit on the client's rate,
and into a spool where the whole body has to be here first.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from wagi.http.errors import RETRY_SOON, HTTPError
from wagi.http.spool import Spool, SpoolFull, SpoolSpace

_RATE_GRACE_S = 5.0  # seconds of waiting before the lowest rate counts, as in Kestrel
# Bytes that have arrived and that are not read; then the client waits. It is what the event loop
# reads at a time: with less, it would stop and start to watch the socket for each read.
_BUFFER_LIMIT = 256 * 1024


class BodyStream:
    """What has arrived of a body and has not been taken.

    Attributes:
        is_complete: Whether all of it has arrived.
        last_arrival: When the last bytes have arrived, in seconds of ``time.monotonic``.
    """

    __slots__ = ("_error", "_on_room", "_pieces", "_size", "_waiter", "is_complete", "last_arrival")

    def __init__(self, is_complete: bool, on_room: Callable[[], None]) -> None:
        """Start a body.

        Args:
            is_complete: Whether it is empty.
            on_room: Called when a stream that was full has room again.
        """
        self.is_complete = is_complete
        self._on_room = on_room
        self.last_arrival = time.monotonic()
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be fed before some of it is taken."""
        return self._size >= _BUFFER_LIMIT

    @property
    def is_exhausted(self) -> bool:
        """Whether all of it has been taken."""
        return self.is_complete and not self._pieces

    def feed(self, data: bytes, is_last: bool) -> None:
        """Add what has arrived."""
        if data:
            self._pieces.append(data)
            self._size += len(data)
            self.last_arrival = time.monotonic()
        self.is_complete = is_last
        if data or is_last:
            self._wake_reader()

    def fail(self, error: Exception) -> None:
        """No more of it will arrive: reading raises ``error`` from now on."""
        if not self.is_complete:
            self._error = error
            self._wake_reader()

    def take(self) -> bytes:
        """Everything that has arrived and has not been taken; empty if there is nothing.

        Raises:
            Exception: What ``fail`` was called with.
        """
        if self._error is not None:
            raise self._error
        was_full = self.is_full
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        if was_full:
            self._on_room()
        return data

    def discard(self) -> None:
        """Drop what has not been taken: the response has been sent without it."""
        self._pieces.clear()
        self._size = 0

    async def wait(self) -> None:
        """Return when there is something to take, or when the body has ended or failed."""
        while not (self._pieces or self.is_complete or self._error):
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def _wake_reader(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@dataclass(slots=True)
class BodyLimits:
    """What request bodies may take of a worker; one for all of them.

    Attributes:
        spool_limit: Bytes of one body that is read ahead.
        spool_space: The space for all bodies that are read ahead.
        min_rate: Bytes per second that a client has to send while it is waited for; 0 for none.
    """

    spool_limit: int
    spool_space: SpoolSpace
    min_rate: int


class BodyReader:
    """Reads a body as it arrives. While nothing is read, the client is held back.

    Attributes:
        length: Bytes of it.
    """

    def __init__(
        self,
        stream: BodyStream,
        length: int,
        limits: BodyLimits,
        send_continue: Callable[[], None] | None,
    ) -> None:
        """Begin to read.

        Args:
            stream: What has arrived.
            length: Bytes of the body.
            limits: What it may take.
            send_continue: Asks a client that waits for it to send the body; None if it does not.
        """
        self.length = length
        self._stream = stream
        self._limits = limits
        self._send_continue = send_continue
        self._spool: Spool | None = None
        self._arrived = 0
        self._waited = 0.0  # seconds in which the client was waited for

    @property
    def is_complete(self) -> bool:
        """Whether the client has sent all of it."""
        return self._stream.is_complete

    @property
    def is_exhausted(self) -> bool:
        """Whether everything has been taken."""
        return not self._has_spooled and self._stream.is_exhausted

    @property
    def _has_spooled(self) -> bool:
        return self._spool is not None and self._spool.left > 0

    @property
    def quiet_seconds(self) -> float:
        """For how many seconds the client has sent nothing, although there was room for it."""
        return 0.0 if self._stream.is_full else time.monotonic() - self._stream.last_arrival

    @property
    def is_spooled(self) -> bool:
        """Whether ``spool`` has been called."""
        return self._spool is not None

    def take(self) -> bytes:
        """What can be had without waiting."""
        if self._spool is not None and self._spool.left:
            return self._spool.take()
        return self._stream.take()

    async def read(self, patience: float | None) -> bytes | None:
        """Wait for more.

        Args:
            patience: For how many seconds; None for as long as it takes.

        Returns:
            What has arrived, empty at the end; None if nothing did.

        Raises:
            HTTPError: 408 for a client that sends more slowly than it has to.
        """
        if self._has_spooled:
            return self.take()
        allowance = self._allowance()
        too_slow_first = allowance is not None and (patience is None or allowance <= patience)
        began = time.monotonic()
        try:
            async with asyncio.timeout(allowance if too_slow_first else patience):
                await self._stream.wait()
        except TimeoutError:
            self._waited += time.monotonic() - began
            if too_slow_first:
                raise _too_slow() from None
            return None
        data = self._stream.take()
        self._waited += time.monotonic() - began
        self._arrived += len(data)
        return data

    def _allowance(self) -> float | None:
        """Seconds for which the client may still be waited for."""
        if not self._limits.min_rate:
            return None
        return _RATE_GRACE_S + self._arrived / self._limits.min_rate - self._waited

    def invite(self) -> None:
        """Ask a client that waits for it to send (RFC 9110 §10.1.1). Before any response."""
        if self._send_continue is not None:
            self._send_continue()
            self._send_continue = None

    async def read_ahead(self, limit: int | None, seconds: float | None) -> None:
        """Read a body whole that is sent without its length, and set ``length``.

        CGI has no way to say "unknown": CONTENT_LENGTH is a number (RFC 3875 §4.1.2).

        Args:
            limit: Bytes that it may have; None for no limit besides ``spool_limit``.
            seconds: For how long it may take; None for no limit.

        Raises:
            HTTPError: 413 for a longer body, 408 for a slower one, 400 for an invalid one.
        """
        limit = self._limits.spool_limit if limit is None else min(limit, self._limits.spool_limit)
        self.invite()
        try:
            async with asyncio.timeout(seconds):
                self.length = await self.spool(limit, None)
        except TimeoutError:
            raise _too_slow() from None
        if self.length > limit:
            raise too_large("The request body is too large to be sent without a Content-Length.")

    async def spool(self, limit: int, patience: float | None) -> int:
        """Read on into a spool, to be taken later. Once.

        Args:
            limit: Bytes after which it stops.
            patience: For how many seconds it waits for the client to go on.

        Returns:
            The bytes that were read.

        Raises:
            HTTPError: 408 for a client that is too slow, 503 if there is no space.
        """
        assert self._spool is None
        spool = Spool(self._limits.spool_space)
        try:
            while spool.size <= limit:
                data = await self.read(patience)
                if not data:
                    break
                spool.write(data)
        except SpoolFull as error:
            raise _no_space(str(error)) from None
        finally:
            self._spool = spool
        return spool.size

    def close(self) -> None:
        """Free the spool. The connection discards what the client still sends."""
        if self._spool is not None:
            self._spool.close()


def too_large(message: str) -> HTTPError:
    """The response to a body that is longer than it may be."""
    return HTTPError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)


def _too_slow() -> HTTPError:
    return HTTPError(HTTPStatus.REQUEST_TIMEOUT, "The request body did not arrive in time.")


def _no_space(reason: str) -> HTTPError:
    return HTTPError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "There is not enough space for the request body.",
        f"not enough space for the request body: {reason}",
        RETRY_SOON,
    )
