"""Bodies of ``wasi:http/types``: resources, and their streams."""

from __future__ import annotations

import math
import time
from abc import abstractmethod

from wagi.guest.http_error_code import HttpErrorCode
from wagi.guest.http_exchange import HeaderFields
from wagi.guest.preview2.http_errors import HttpError, HttpIoError
from wagi.guest.preview2.polling import Event
from wagi.guest.preview2.streams import (
    InputStream,
    OutputStream,
    StreamClosedError,
    StreamFailedError,
)
from wagi.guest.wasi.context import WaitReason

_UNBOUNDED_S = 3600.0  # seconds; the time limit of the request ends such a wait


class IncomingBody:
    """The resource ``incoming-body``.

    Attributes:
        stream: Its bytes; None after the guest has taken the stream.
    """

    def __init__(self, stream: InputStream) -> None:
        self.stream: InputStream | None = stream

    def close(self) -> None:
        """Close the stream, unless the guest has taken it."""
        close = getattr(self.stream, "close", None)
        if close is not None:
            close()


class FutureTrailers(Event):
    """The resource ``future-trailers``. Trailers of messages that are received are discarded.

    Attributes:
        was_read: Whether the guest has got the result, which it may do once.
    """

    was_read = False

    @property
    def is_ready(self) -> bool:
        """As ``Event.is_ready``."""
        return True

    def wait_on(self, wait: WaitReason) -> None:
        """As ``Event.wait_on``."""


class BodySink(OutputStream):
    """Where the bytes of an outgoing body go."""

    @abstractmethod
    def finish(self, trailers: HeaderFields) -> None:
        """Note that the body is complete."""

    @abstractmethod
    def abandon(self) -> None:
        """Note that the body will not be completed."""


class OutgoingBody:
    """The resource ``outgoing-body``.

    Attributes:
        is_taken: Whether the guest has taken the stream.
    """

    def __init__(self, sink: BodySink, fields: HeaderFields, code: HttpErrorCode) -> None:
        """Create a body.

        Args:
            sink: Where the bytes go.
            fields: The header fields of its message, which may have a Content-Length.
            code: The error if the body does not have that length.
        """
        self.is_taken = False
        self._sink = sink
        self._code = code
        lengths = [value for name, value in fields if name == b"content-length"]
        self._length = int(lengths[0]) if lengths else None
        self._written = 0
        self._is_open = True

    def open(self) -> OutgoingBodyStream:
        """Return its stream. Must be called once."""
        self.is_taken = True
        return OutgoingBodyStream(self)

    @property
    def sink(self) -> BodySink:
        """Where the bytes go.

        Raises:
            StreamClosedError: The body is finished, or was dropped.
        """
        if not self._is_open:
            raise StreamClosedError
        return self._sink

    def write(self, data: bytes) -> None:
        """Write bytes.

        Raises:
            StreamFailedError: They exceed the Content-Length.
        """
        sink, before = self.sink, self._written
        self._written += len(data)
        if self._length is not None and self._written > self._length:
            data = data[: max(0, self._length - before)]
            if data:
                sink.write(data)
            raise StreamFailedError(HttpIoError(HttpError(self._code, self._written)))
        sink.write(data)

    def finish(self, trailers: HeaderFields) -> HttpError | None:
        """Complete the body.

        Returns:
            An error if the body does not have the announced length; it is then incomplete.
        """
        if self._length is not None and self._written != self._length:
            self.close()
            return HttpError(self._code, self._written)
        self._is_open = False
        self._sink.finish(trailers)
        return None

    def close(self) -> None:
        """Abandon the body if it is not finished."""
        if self._is_open:
            self._is_open = False
            self._sink.abandon()


class OutgoingBodyStream(OutputStream):
    """The stream of an outgoing body."""

    def __init__(self, body: OutgoingBody) -> None:
        self._body = body

    @property
    def is_ready(self) -> bool:
        """As ``Event.is_ready``."""
        try:
            return self._body.sink.is_ready
        except StreamClosedError:
            return True

    def wait_on(self, wait: WaitReason) -> None:
        """As ``Event.wait_on``."""
        self._body.sink.wait_on(wait)

    def check(self) -> int:
        """As ``OutputStream.check``."""
        return self._body.sink.check()

    def write(self, data: bytes) -> None:
        """As ``OutputStream.write``."""
        self._body.write(data)


def wait_for_nothing(wait: WaitReason) -> None:
    """Wait for an event that only the guest itself could bring about."""
    at = time.monotonic() + _UNBOUNDED_S
    wait.wake_at = min(math.inf if wait.wake_at is None else wait.wake_at, at)
