"""Sends a guest's output as an HTTP response, in one write or streamed."""

from __future__ import annotations

import time
from collections.abc import Iterable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Protocol

from wagi.cgi.response import BODILESS, ResponseHead
from wagi.http.request import Channel, Request

_ONE_WRITE_MAX = 32 * 1024  # bytes; below the high-water mark of a transport's write buffer
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class ResponseSource(Protocol):
    """The response of a guest, as far as the guest has produced it."""

    @property
    def buffered(self) -> int:
        """Number of bytes that were fed and not taken."""

    @property
    def is_complete(self) -> bool:
        """Whether the whole body has been fed."""

    @property
    def trailers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The fields that follow a complete body."""

    def feed(self, data: bytes) -> None:
        """Append output of the guest."""

    def head(self) -> ResponseHead | None:
        """Return the head, or None if it is not known yet.

        Raises:
            BadResponse: There will be no valid head.
        """

    def take_body(self) -> bytes:
        """Remove and return the fed part of the body."""

    def end(self) -> ResponseHead:
        """Note that the guest has ended, and return the head.

        Raises:
            BadResponse: There is no valid head.
        """


class ResponseWriter:
    """Writes the response to one request from the guest's output.

    Attributes:
        status: Status code; 0 until the response is started.
        sent: Number of body bytes sent.
        is_started: Whether the head has been sent.
        warnings: Problems with the output, for the log.
    """

    # Initial values, on the class because most responses never change all of them
    status = 0
    sent = 0
    is_started = False
    _is_chunked = False
    _remaining: int | None = None  # of the guest's Content-Length, in bytes
    _was_cut = False
    _has_ended = False
    _is_broken = False
    _has_no_body = False  # because of the method or the status code

    def __init__(self, request: Request, source: ResponseSource, warnings: list[str]) -> None:
        """Create a response.

        Args:
            request: The request to answer.
            source: The response of the guest.
            warnings: List to which warnings are appended.
        """
        # Of the request
        self._channel = request.channel
        self._protocol = request.head.protocol
        self._keep_alive = request.head.keep_alive
        self._is_head = request.head.method == "HEAD"
        self._request_headers = request.head.headers
        # Of the output
        self._source = source
        self.warnings = warnings

    @property
    def buffered(self) -> int:
        """Number of bytes of output that have not been sent."""
        return self._source.buffered

    @property
    def fits_in_one_write(self) -> bool:
        """Whether the buffered output can be sent without waiting for the client."""
        return self.buffered <= _ONE_WRITE_MAX and self._channel.can_write

    @property
    def is_complete(self) -> bool:
        """Whether the response is complete according to its head."""
        is_whole = self._remaining == 0 or self._has_no_body or self._has_ended
        return self.is_started and is_whole

    def feed(self, output: bytes) -> None:
        """Append output of the guest."""
        if output:
            self._source.feed(output)

    async def flush(self) -> None:
        """Send the buffered output while the guest is running.

        Waits for slow clients, so that back-pressure reaches the guest.

        Raises:
            BadResponse: The output is not a valid response.
            ConnectionError: The client has disconnected.
        """
        source = self._source
        if self.is_started:
            self._write(source.take_body())
        else:
            head = source.head()
            if head is None:
                return
            self._begin(head)
        if source.is_complete:
            self._end()
        await self.drain()

    def finish(self) -> None:
        """Send the rest after the guest has ended, in one write if the response is not started.

        Raises:
            BadResponse: The output is not a valid response.
            ConnectionError: The client has disconnected.
        """
        head = self._source.end()
        if self.is_started:
            self._write(self._source.take_body())
        else:
            self._begin(head)
        self._end()

    async def drain(self) -> None:
        """Wait for the client to read most of what was sent.

        Raises:
            ConnectionError: The client has disconnected.
        """
        if not self._is_broken:
            await self._channel.drain()

    def _begin(self, head: ResponseHead) -> None:
        """Send the head and the fed part of the body."""
        source = self._source
        is_whole = source.is_complete and not source.trailers
        self._start(head, source.take_body(), is_whole)

    def _end(self) -> None:
        """Complete the response, or break the connection if its body is not complete."""
        if self._has_ended:
            return
        self._has_ended = True
        if self._has_no_body or self._remaining == 0:
            return
        if not self._source.is_complete:
            self.warnings.append("the handler ended before it finished the response body")
            self.abort()
        elif self._remaining:
            self.warnings.append(
                f"the body ended {self._remaining} bytes before its Content-Length"
            )
            self.abort()
        elif self._is_chunked:
            self._channel.write(b"0\r\n%b\r\n" % self._trailer_section())

    def _trailer_section(self) -> bytes:
        """Return the trailer fields, if the client accepts them (RFC 9110 §6.5.1)."""
        trailers = self._source.trailers
        if not trailers or "trailers" not in self._request_headers.get("TE", "").lower():
            return b""
        return b"".join([b"%b: %b\r\n" % field for field in trailers])

    def abort(self) -> None:
        """Break the connection so that the client detects the truncated response."""
        self._is_broken = True
        self._channel.abort_response(self._is_chunked or self._remaining is not None)

    def _start(self, head: ResponseHead, body: bytes, is_whole: bool) -> None:
        """Send the head with the body, or with its beginning."""
        self.is_started = True
        self.status = head.status
        self.warnings += head.warnings
        self._remaining = head.content_length
        self._has_no_body = self._is_head or head.status in BODILESS
        lines, has_date = _fixed_lines(head, self._protocol)
        rest = self._framing(head, len(body) if is_whole else None)
        if not has_date:
            rest += _date_field()
        rest += _connection_field(self._channel, self._protocol, self._keep_alive)
        self._channel.write(b"".join((lines, rest.encode(), b"\r\n", *self._framed(body))))

    def _framing(self, head: ResponseHead, size: int | None) -> str:
        """Return the header field that delimits the body (RFC 9112 §6).

        Args:
            head: The head that the guest printed.
            size: Size of the body in bytes; None if it is unknown.
        """
        length = size if head.content_length is None else head.content_length
        if head.status == 205:
            return "Content-Length: 0\r\n"
        if head.status == 204 or (head.status == 304 and head.content_length is None):
            return ""
        if length is not None:
            return f"Content-Length: {length}\r\n"
        if self._protocol == "HTTP/1.0":
            self._keep_alive = False  # the body ends when the connection closes
        elif not self._is_head:
            self._is_chunked = True
            return "Transfer-Encoding: chunked\r\n"
        return ""

    def _write(self, body: bytes) -> None:
        pieces = self._framed(body)
        if pieces:
            self._channel.write(b"".join(pieces))

    def _framed(self, body: bytes) -> tuple[bytes, ...]:
        """Return what to send for a part of the body; count it as sent."""
        if self._has_no_body:
            return ()  # the body that the guest prints is discarded
        body = self._cut(body)
        if not body:
            return ()
        self.sent += len(body)
        return (b"%x\r\n" % len(body), body, b"\r\n") if self._is_chunked else (body,)

    def _cut(self, body: bytes) -> bytes:
        if self._remaining is None:
            return body
        if len(body) > self._remaining and not self._was_cut:
            self._was_cut = True
            self.warnings.append("output beyond the Content-Length was cut")
        body = body[: self._remaining]
        self._remaining -= len(body)
        return body


def _fixed_lines(head: ResponseHead, protocol: str) -> tuple[bytes, bool]:
    """Return status line and header fields of the guest, and whether they include Date."""
    format_lines = _cached_lines if head.is_small else _format_lines
    return format_lines(head.status, head.headers, protocol)


def _format_lines(
    status: int, headers: tuple[tuple[bytes, bytes], ...], protocol: str
) -> tuple[bytes, bool]:
    lines = [f"{protocol} {status} {_PHRASES.get(status, '')}".encode()]
    lines += [b"%b: %b" % field for field in headers]
    names = {name.lower() for name, _ in headers}
    if b"server" not in names:
        lines.append(b"Server: wagi")
    return b"\r\n".join(lines) + b"\r\n", b"date" in names


# Most handlers print the same head every time. Large heads are not cached to save memory.
_cached_lines = lru_cache(maxsize=256)(_format_lines)


def _date_field() -> str:
    return _date_field_of(int(time.time()))


@lru_cache(maxsize=1)
def _date_field_of(second: int) -> str:
    return f"Date: {formatdate(second, usegmt=True)}\r\n"


def _connection_field(channel: Channel, protocol: str, keep_alive: bool) -> str:
    """Return the Connection field of a response, and close the connection after it if needed."""
    keep_alive = keep_alive and not channel.is_draining
    if not keep_alive:
        channel.close_after_response()
        return "Connection: close\r\n" if protocol == "HTTP/1.1" else ""
    return "Connection: keep-alive\r\n" if protocol == "HTTP/1.0" else ""


def send_text(
    request: Request,
    status: HTTPStatus,
    text: str,
    headers: tuple[tuple[str, str], ...] = (),
    closes: bool = False,
    content_type: str = "text/plain; charset=utf-8",
) -> int:
    """Send a response that the gateway generates.

    Args:
        request: The request to answer.
        status: Status of the response.
        text: Body of the response.
        headers: Additional header fields.
        closes: Whether to close the connection after the response.
        content_type: Media type of the body.

    Returns:
        The size of the body in bytes.

    Raises:
        ConnectionError: The client has disconnected.
    """
    body = text.encode()
    fields = [
        ("Content-Type", content_type),
        *headers,
        ("Content-Length", str(len(body))),
    ]
    head = format_head(request, status, fields, closes)
    request.channel.write(head + (b"" if request.head.method == "HEAD" else body))
    return len(body)


def format_head(
    request: Request,
    status: HTTPStatus,
    fields: Iterable[tuple[str, str]],
    closes: bool = False,
) -> bytes:
    """Format the head of a response that the gateway generates.

    Args:
        request: The request to answer.
        status: Status of the response.
        fields: Header fields. Server, Date and Connection are added.
        closes: Whether to close the connection after the response.
    """
    head = request.head
    lines = [f"{head.protocol} {status.value} {status.phrase}", "Server: wagi"]
    lines += [f"{name}: {value}" for name, value in fields]
    last = _connection_field(request.channel, head.protocol, head.keep_alive and not closes)
    return ("\r\n".join(lines) + "\r\n" + _date_field() + last + "\r\n").encode()
