"""From a guest's output to the client: in one write if it is all there, else piece by piece."""

from __future__ import annotations

import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from wagi.cgi.response import BODILESS, ResponseHead, ResponseParser
from wagi.http.request import Channel, Request

_ONE_WRITE_MAX = 32 * 1024  # bytes, less than a transport takes before its writer has to wait
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class ResponseWriter:
    """The response to one request. It is fed the guest's output and sends it.

    Attributes:
        status: Of the response; 0 while it is not started.
        sent: Bytes of the body that have been sent.
        is_started: Whether the client has been sent the head.
        warnings: What the log should say of the output.
    """

    def __init__(self, request: Request, header_limit: int, warnings: list[str]) -> None:
        """Prepare a response.

        Args:
            request: What it answers.
            header_limit: Bytes that the guest's header block may have.
            warnings: Added to.
        """
        # What it belongs to
        self._channel = request.channel
        self._protocol = request.head.protocol
        self._keep_alive = request.head.keep_alive
        self._is_head = request.head.method == "HEAD"
        # What the guest has printed
        self._parser = ResponseParser(header_limit)
        self.warnings = warnings
        # What the client has got
        self.status = 0
        self.sent = 0
        self.is_started = False
        self._is_chunked = False
        self._left: int | None = None  # bytes that the guest's Content-Length still allows
        self._was_cut = False

    @property
    def held(self) -> int:
        """Bytes of output that have not been sent."""
        return self._parser.held

    @property
    def fits_in_one_write(self) -> bool:
        """Whether everything held can be sent without waiting for the client."""
        return self.held <= _ONE_WRITE_MAX and self._channel.can_write

    @property
    def is_complete(self) -> bool:
        """Whether everything that the head promises has been sent."""
        return self.is_started and (self._left == 0 or self._has_no_body)

    def feed(self, output: bytes) -> None:
        """Take output of the guest."""
        if output:
            self._parser.feed(output)

    async def flush(self) -> None:
        """Send what is there while the guest goes on: a slow client holds the caller back.

        Raises:
            BadResponse: The output is not a response.
            ConnectionError: The client is gone.
        """
        if not self.is_started:
            head = self._parser.head()
            if head is None:
                return
            self._start(head, None)
        self._write(self._parser.take_body())
        await self._channel.drain()

    async def finish(self) -> None:
        """Send the rest once the guest has ended: all of it in one write if nothing was sent.

        Raises:
            BadResponse: The output is not a response.
            ConnectionError: The client is gone.
        """
        if not self.is_started:
            self._start(self._parser.end(), self._parser.take_body())
        else:
            self._write(self._parser.take_body())
        if self._left and not self._has_no_body:
            self.warnings.append(f"the body ended {self._left} bytes before its Content-Length")
            self.abort()
            return
        if self._is_chunked:
            self._channel.write(b"0\r\n\r\n")
        await self._channel.drain()

    def abort(self) -> None:
        """Break the connection: the client can tell that the response is not whole."""
        self._channel.abort_response(self._is_chunked or self._left is not None)

    @property
    def _has_no_body(self) -> bool:
        return self._is_head or self.status in BODILESS

    def _start(self, head: ResponseHead, whole: bytes | None) -> None:
        """Send the head, together with the whole body if it is known."""
        self.is_started = True
        self.status = head.status
        self.warnings += head.warnings
        self._left = head.content_length
        lines, has_date = _fixed_lines(head, self._protocol)
        rest = self._framing(head, None if whole is None else len(whole))
        if not has_date:
            rest += f"Date: {_date()}\r\n"
        rest += _connection_field(self._channel, self._protocol, self._keep_alive)
        body = b"" if whole is None or self._has_no_body else self._cut(whole)
        self.sent += len(body)
        self._channel.write(b"".join((lines, rest.encode(), b"\r\n", body)))

    def _framing(self, head: ResponseHead, size: int | None) -> str:
        """The field that says where the body ends (RFC 9112 §6). ``size`` of it, if known."""
        length = size if head.content_length is None else head.content_length
        if head.status == 205:
            return "Content-Length: 0\r\n"
        if head.status == 204 or (head.status == 304 and head.content_length is None):
            return ""
        if length is not None:
            return f"Content-Length: {length}\r\n"
        if self._protocol == "HTTP/1.0":
            self._keep_alive = False  # the end of the connection is the end of the body
        elif not self._is_head:
            self._is_chunked = True
            return "Transfer-Encoding: chunked\r\n"
        return ""

    def _write(self, body: bytes) -> None:
        if self._has_no_body:
            return  # the client has all it will get; what the guest prints goes nowhere
        body = self._cut(body)
        if not body:
            return
        self.sent += len(body)
        if self._is_chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body)
        self._channel.write(body)

    def _cut(self, body: bytes) -> bytes:
        if self._left is None:
            return body
        if len(body) > self._left and not self._was_cut:
            self._was_cut = True
            self.warnings.append("output beyond the Content-Length was cut")
        body = body[: self._left]
        self._left -= len(body)
        return body


def _fixed_lines(head: ResponseHead, protocol: str) -> tuple[bytes, bool]:
    """Status line and the guest's header fields, and whether these include Date."""
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


# Most handlers print the same head every time; large ones would fill the memory.
_cached_lines = lru_cache(maxsize=256)(_format_lines)


def _date() -> str:
    return _date_of(int(time.time()))


@lru_cache(maxsize=1)
def _date_of(second: int) -> str:
    return formatdate(second, usegmt=True)


def _connection_field(channel: Channel, protocol: str, keep_alive: bool) -> str:
    """The Connection field of a response, and what follows from it for the connection."""
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
) -> int:
    """Send a short response of the gateway's own.

    Args:
        request: What it answers.
        status: Its status.
        text: Its body.
        headers: Further header fields.
        closes: Whether it ends the connection.

    Returns:
        The bytes of the body.
    """
    body = text.encode()
    head = request.head
    fields = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Server", "wagi"),
        *headers,
        ("Content-Length", str(len(body))),
        ("Date", _date()),
    ]
    lines = [f"{head.protocol} {status.value} {status.phrase}"]
    lines += [f"{name}: {value}" for name, value in fields]
    last = _connection_field(request.channel, head.protocol, head.keep_alive and not closes)
    text = "\r\n".join(lines) + "\r\n" + last + "\r\n"
    request.channel.write(text.encode() + (b"" if head.method == "HEAD" else body))
    return len(body)
