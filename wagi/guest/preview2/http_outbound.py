"""Outbound requests of ``wasi:http``: the bodies in both directions, and the pending response."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from wagi.guest.http_error_code import HttpErrorCode
from wagi.guest.http_exchange import HeaderFields
from wagi.guest.preview2.http_bodies import BodySink, wait_for_nothing
from wagi.guest.preview2.http_errors import HttpError, HttpIoError
from wagi.guest.preview2.http_fields import FORBIDDEN
from wagi.guest.preview2.polling import Event
from wagi.guest.preview2.streams import (
    READ_MAX,
    InputStream,
    StreamClosedError,
    StreamFailedError,
)
from wagi.guest.wasi.context import WaitReason
from wagi.guest.wasi.http_session import ErrorCode, HttpSession, OutboundError, Response

_BUFFER_SIZE = 64 * 1024  # bytes of a request body that are not sent yet


class RequestBody(BodySink):
    """The body of an outbound request, from the guest to the client."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._is_sending = False
        self._is_finished = False
        self._is_closed = False  # abandoned by the guest, or no longer read by the client
        self._changed: asyncio.Future[None] | None = None

    def begin(self) -> None:
        """Note that the request is sent."""
        self._is_sending = True

    @property
    def is_ready(self) -> bool:
        """As ``Event.is_ready``."""
        return self._is_closed or self._size < _BUFFER_SIZE

    def wait_on(self, wait: WaitReason) -> None:
        """As ``Event.wait_on``."""
        if self._is_sending:
            wait.futures = (*wait.futures, self._next_change())
        else:
            wait_for_nothing(wait)

    def check(self) -> int:
        """As ``OutputStream.check``."""
        if self._is_closed:
            raise StreamClosedError
        return _BUFFER_SIZE - self._size

    def write(self, data: bytes) -> None:
        """As ``OutputStream.write``."""
        if self._is_closed:
            raise StreamClosedError
        if data:
            self._pieces.append(data)
            self._size += len(data)
            self._notify()

    def finish(self, trailers: HeaderFields) -> None:
        """As ``BodySink.finish``. Trailers are not sent."""
        self._is_finished = True
        self._notify()

    def abandon(self) -> None:
        """As ``BodySink.abandon``: the request fails."""
        self.stop()

    def stop(self) -> None:
        """Discard the body: it is no longer needed."""
        self._is_closed = True
        self._pieces.clear()
        self._size = 0
        self._notify()

    def whole(self) -> bytes | None:
        """Return the body if the guest has finished it."""
        if not self._is_finished or self._is_closed:
            return None
        return b"".join(self._pieces)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as the guest produces it.

        Raises:
            OutboundError: The guest has abandoned it.
        """
        try:
            while True:
                while self._pieces:
                    data = self._pieces.popleft()
                    self._size -= len(data)
                    self._notify()
                    yield data
                if self._is_finished:
                    return
                if self._is_closed:
                    message = "the handler has not finished the body of the request"
                    raise OutboundError(
                        ErrorCode.REQUEST, message, HttpErrorCode.HTTP_PROTOCOL_ERROR
                    )
                await self._next_change()
        finally:
            self.stop()

    def _next_change(self) -> asyncio.Future[None]:
        if self._changed is None or self._changed.done():
            self._changed = asyncio.get_running_loop().create_future()
        return self._changed

    def _notify(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)


class PendingResponse(Event):
    """The resource ``future-incoming-response``.

    Attributes:
        was_read: Whether the guest has got the result, which it may do once.
    """

    def __init__(self, task: asyncio.Task[Response], session: HttpSession) -> None:
        """Create a pending response.

        Args:
            task: The request.
            session: Where the request was opened.
        """
        self.was_read = False
        self._task = task
        self._session = session

    @property
    def is_ready(self) -> bool:
        """As ``Event.is_ready``."""
        return self._task.done()

    def wait_on(self, wait: WaitReason) -> None:
        """As ``Event.wait_on``."""
        wait.futures = (*wait.futures, self._task)

    def take(self) -> IncomingResponse:
        """Return the response. Must be called once, when it is ready.

        Raises:
            OutboundError: The request has failed.
        """
        self.was_read = True
        try:
            return IncomingResponse(self._task.result(), self._session)
        except OutboundError:
            self._session.release()
            raise

    def close(self) -> None:
        """Cancel the request, unless the guest has the response."""
        if self.was_read:
            return
        self.was_read = True
        self._session.release()
        if not self._task.cancel() and not self._task.cancelled() and not self._task.exception():
            self._task.result().close()


class IncomingResponse:
    """The resource ``incoming-response``.

    Attributes:
        status: Status code.
        headers: The header fields.
        body: The body; None after the guest has taken it.
    """

    def __init__(self, response: Response, session: HttpSession) -> None:
        self.status = response.status
        fields = (
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in response.headers
        )
        self.headers: HeaderFields = tuple(item for item in fields if item[0] not in FORBIDDEN)
        self.body: ResponseBodyStream | None = ResponseBodyStream(response, session)

    def close(self) -> None:
        """Close the response, unless the guest has taken the body."""
        if self.body is not None:
            self.body.close()


class ResponseBodyStream(InputStream):
    """The body of a response to an outbound request. One piece is read ahead."""

    def __init__(self, response: Response, session: HttpSession) -> None:
        """Create a stream.

        Args:
            response: The response.
            session: Where its request was opened.
        """
        self._response = response
        self._session = session
        self._data = b""
        self._task: asyncio.Task[bytes] | None = None
        self._has_ended = False
        self._is_closed = False

    @property
    def is_ready(self) -> bool:
        """As ``Event.is_ready``."""
        return bool(self._data) or self._has_ended or self._reading().done()

    def wait_on(self, wait: WaitReason) -> None:
        """As ``Event.wait_on``."""
        wait.futures = (*wait.futures, self._reading())

    def read(self, length: int) -> bytes:
        """As ``InputStream.read``."""
        if not self._data and not self._has_ended and self._reading().done():
            self._take()
        if not self._data and self._has_ended:
            raise StreamClosedError
        data, self._data = self._data[:length], self._data[length:]
        return data

    def _reading(self) -> asyncio.Task[bytes]:
        if self._task is None:
            self._task = self._session.read(self._response, READ_MAX)
        return self._task

    def _take(self) -> None:
        assert self._task is not None
        task, self._task = self._task, None
        try:
            self._data = task.result()
        except OutboundError as error:
            self._has_ended = True
            self._session.note(error)
            raise StreamFailedError(HttpIoError(HttpError(error.http_code))) from None
        self._has_ended = not self._data

    def close(self) -> None:
        """Close the response."""
        if self._is_closed:
            return
        self._is_closed = self._has_ended = True
        self._data = b""
        if self._task is not None:
            self._task.cancel()
        self._response.close()
        self._session.release()
