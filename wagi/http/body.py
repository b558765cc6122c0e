"""Request bodies: buffering what the client sends and reading it for a guest.

The connection feeds a ``BodyStream`` and stops reading from the client while the stream is full
(back-pressure). A ``BodyReader`` reads the stream for one guest. It enforces a minimum upload rate,
and spools the body where all of it has to arrive first.
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

_RATE_GRACE_S = 5.0  # before the minimum upload rate is enforced, as in Kestrel
# Number of buffered bytes beyond which the buffer is full. This is the size of one read of the
# event loop: if a single read filled the buffer, the loop would unregister and register the socket
# for each read.
_BUFFER_LIMIT = 256 * 1024


class BodyStream:
    """The bytes of a body that have arrived but have not been read.

    Attributes:
        is_complete: Whether the whole body has arrived.
        last_arrival: Time of the last arrival, in seconds of ``time.monotonic``.
        received: Bytes of the body that have arrived.
    """

    __slots__ = (
        "_error",
        "_on_drain",
        "_pieces",
        "_size",
        "_waiter",
        "is_complete",
        "last_arrival",
        "received",
    )

    def __init__(self, is_complete: bool, on_drain: Callable[[], None]) -> None:
        """Create a stream.

        Args:
            is_complete: Whether the body is empty.
            on_drain: Called when a full stream can be fed again.
        """
        self.is_complete = is_complete
        self._on_drain = on_drain
        self.last_arrival = time.monotonic()
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self.received = 0
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether the buffer is full, so that nothing more should be fed until it is read."""
        return self._size > _BUFFER_LIMIT

    @property
    def is_exhausted(self) -> bool:
        """Whether the whole body has been read."""
        return self.is_complete and not self._pieces

    def feed(self, data: bytes, is_last: bool) -> None:
        """Append bytes that have arrived; ``is_last`` marks the end of the body."""
        if data:
            self._pieces.append(data)
            self._size += len(data)
            self.received += len(data)
            self.last_arrival = time.monotonic()
        self.is_complete = is_last
        if data or is_last:
            self._wake_reader()

    def fail(self, error: Exception) -> None:
        """Mark an incomplete body as failed: further reads raise ``error``."""
        if not self.is_complete:
            self._error = error
            self._wake_reader()

    def take(self) -> bytes:
        """Return and remove all buffered bytes; empty if there are none.

        Raises:
            Exception: The error passed to ``fail``.
        """
        if self._error is not None:
            raise self._error
        was_full = self.is_full
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        if was_full:
            self._on_drain()
        return data

    def discard(self) -> None:
        """Drop the buffered bytes: the response was sent without them."""
        self._pieces.clear()
        self._size = 0

    async def wait(self) -> None:
        """Wait until there are bytes to take, or the body has ended or failed."""
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
    """Limits shared by all request bodies of a worker.

    Attributes:
        spool_limit: Maximum size of one spooled body in bytes.
        spool_space: The space that all spools share.
        min_rate: Minimum upload rate in bytes per second; 0 disables it.
    """

    spool_limit: int
    spool_space: SpoolSpace
    min_rate: int


class BodyReader:
    """Reads a body as it arrives. If it does not read, back-pressure stops the client.

    Attributes:
        length: Size of the body in bytes.
    """

    def __init__(
        self,
        stream: BodyStream,
        length: int,
        limits: BodyLimits,
        write_continue: Callable[[], None] | None,
    ) -> None:
        """Create a reader.

        Args:
            stream: The body as it arrives.
            length: Size of the body in bytes.
            limits: The limits of the worker.
            write_continue: Sends ``100 Continue``; None if the client does not expect it.
        """
        self.length = length
        self._stream = stream
        self._limits = limits
        self._write_continue = write_continue
        self._spool: Spool | None = None
        self._size_limit: int | None = None
        self._arrived = 0
        self._waited = 0.0  # seconds spent waiting for the client

    @property
    def is_complete(self) -> bool:
        """Whether the client has sent the whole body."""
        return self._stream.is_complete

    @property
    def received(self) -> int:
        """Bytes of the body that have arrived."""
        return self._stream.received

    @property
    def is_exhausted(self) -> bool:
        """Whether the whole body has been read."""
        return not self._has_spooled and self._stream.is_exhausted

    @property
    def _has_spooled(self) -> bool:
        return self._spool is not None and self._spool.remaining > 0

    @property
    def idle_seconds(self) -> float:
        """Seconds since the client last sent data; 0 while the buffer is full."""
        return 0.0 if self._stream.is_full else time.monotonic() - self._stream.last_arrival

    @property
    def is_spooled(self) -> bool:
        """Whether ``spool`` has been called."""
        return self._spool is not None

    def limit_size(self, limit: int | None) -> None:
        """Limit the size of a body of unknown length that is not read ahead.

        Args:
            limit: Maximum size in bytes; None for no limit.
        """
        self._size_limit = limit

    def take(self) -> bytes:
        """Return the bytes that are available without waiting.

        Raises:
            HTTPError: 413 if the body exceeds its limit.
        """
        if self._spool is not None and self._spool.remaining:
            return self._spool.take()
        return self._take()

    def _take(self) -> bytes:
        data = self._stream.take()
        if self._size_limit is not None and self._stream.received > self._size_limit:
            raise too_large("The request body is too large (body_limit).")
        return data

    async def read(self, max_wait: float | None) -> bytes | None:
        """Wait for more data.

        Args:
            max_wait: Maximum wait in seconds; None for no limit.

        Returns:
            The data, empty at the end of the body; None if nothing arrived in time.

        Raises:
            HTTPError: 408 if the client is below the minimum upload rate, 413 if the body exceeds
                its limit.
        """
        if self._has_spooled:
            return self.take()
        allowance = self._allowance()
        too_slow_first = allowance is not None and (max_wait is None or allowance <= max_wait)
        began = time.monotonic()
        try:
            async with asyncio.timeout(allowance if too_slow_first else max_wait):
                await self._stream.wait()
        except TimeoutError:
            self._waited += time.monotonic() - began
            if too_slow_first:
                raise _too_slow("--min-body-rate") from None
            return None
        data = self._take()
        self._waited += time.monotonic() - began
        self._arrived += len(data)
        return data

    def _allowance(self) -> float | None:
        """Return the seconds left before the client falls below the minimum rate."""
        if not self._limits.min_rate:
            return None
        return _RATE_GRACE_S + self._arrived / self._limits.min_rate - self._waited

    def send_continue(self) -> None:
        """Send ``100 Continue`` if the client expects it (RFC 9110 §10.1.1).

        Must be called before the response begins.
        """
        if self._write_continue is not None:
            self._write_continue()
            self._write_continue = None

    async def read_ahead(self, limit: int | None, seconds: float | None) -> None:
        """Read a body of unknown length to its end, and set ``length``.

        CGI cannot express an unknown length: CONTENT_LENGTH is a number (RFC 3875 §4.1.2).

        Args:
            limit: Maximum size in bytes; None for no limit other than ``spool_limit``.
            seconds: Maximum duration in seconds; None for no limit.

        Raises:
            HTTPError: 413 if the body is too long, 408 if it is too slow, 400 if it is invalid.
        """
        spool_limit = self._limits.spool_limit
        key = "--spool-limit"
        if limit is None or limit > spool_limit:
            limit = spool_limit
        else:
            key = "body_limit"
        self.send_continue()
        try:
            async with asyncio.timeout(seconds):
                self.length = await self.spool(limit, None)
        except TimeoutError:
            raise _too_slow("timeout") from None
        if self.length > limit:
            message = "The request body is too large to be sent without a Content-Length"
            raise too_large(f"{message} ({key}).")

    async def spool(self, limit: int, max_wait: float | None) -> int:
        """Read into a spool, from which ``take`` returns the data later.

        May be called once. It stops at the end of the body, beyond ``limit``, or when the client
        pauses.

        Args:
            limit: Number of bytes beyond which reading stops.
            max_wait: Maximum pause of the client in seconds; None for no limit.

        Returns:
            The number of bytes read.

        Raises:
            HTTPError: 408 if the client is too slow, 503 if there is no space.
        """
        assert self._spool is None
        spool = Spool(self._limits.spool_space)
        try:
            while spool.size <= limit:
                data = await self.read(max_wait)
                if not data:
                    break
                spool.write(data)
        except SpoolFull as error:
            raise _no_space(str(error)) from None
        finally:
            self._spool = spool
        return spool.size

    def close(self) -> None:
        """Free the spool. The connection discards the rest of the body."""
        if self._spool is not None:
            self._spool.close()


def too_large(message: str) -> HTTPError:
    """Return the error for a body that exceeds a limit."""
    return HTTPError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)


def _too_slow(limit: str) -> HTTPError:
    message = f"The request body did not arrive in time ({limit})."
    return HTTPError(HTTPStatus.REQUEST_TIMEOUT, message)


def _no_space(reason: str) -> HTTPError:
    return HTTPError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "There is not enough space for the request body.",
        f"not enough space for the request body: {reason}",
        RETRY_SOON,
    )
