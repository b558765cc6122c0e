"""From a guest's output to the client: at once if it is all there, else piece by piece."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus

from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time
from multidict import CIMultiDict

from wagi.cgi.response import BadResponse, ResponseHead, ResponseParser, whole_response
from wagi.refusal import Refusal

SERVER = "wagi"
_AT_ONCE = 32 * 1024  # bytes, less than a transport takes before it makes the writer wait


class Sent(web.StreamResponse):
    """A response that has been sent, whole, past aiohttp's writer: half the work of one through it.

    Attributes: ``sent`` bytes of its body.
    """

    def __init__(self, request: web.BaseRequest, sent: int) -> None:
        # Nothing of the base class: it would prepare what there is no use for.
        self._keep_alive = request.keep_alive
        self._eof_sent = True
        self.sent = sent

    async def prepare(self, request: web.BaseRequest) -> None:
        """It is."""

    async def write_eof(self, data: bytes = b"") -> None:
        """It was."""


def send_at_once(
    request: web.BaseRequest, output: bytes, header_limit: int, warnings: list[str]
) -> tuple[int, Sent] | None:
    """Send a guest's whole output as a response, if that needs no waiting for the client.

    Parameters: ``header_limit`` in bytes; ``warnings`` are added to.
    Returns: the status and the response; None if it has to go another way.
    Raises: Refusal if the output is no response.
    """
    transport = request.transport
    if (
        len(output) > _AT_ONCE
        or request.method == "HEAD"
        or transport is None
        or transport.get_write_buffer_size()
    ):
        return None
    try:
        head, body = whole_response(output, header_limit)
    except BadResponse as error:
        raise Refusal(error.status, str(error)) from None
    if head.status in _BODILESS or head.content_length not in (None, len(body)):
        return None
    warnings += head.warnings
    sent = Sent(request, len(body))
    small = len(output) - len(body) <= _SMALL_HEAD
    fixed, dated = (_fixed_part_again if small else _fixed_part)(head, request.version)
    if request.version < (1, 1):
        connection = "Connection: keep-alive\r\n" if sent.keep_alive else ""
    else:
        connection = "" if sent.keep_alive else "Connection: close\r\n"
    date = "" if dated else f"Date: {rfc822_formatted_time()}\r\n"
    rest = f"Content-Length: {len(body)}\r\n{date}{connection}\r\n"
    transport.write(b"".join((fixed, rest.encode(), body)))
    return head.status, sent


_BODILESS = frozenset((204, 304))


def _fixed_part(head: ResponseHead, version: tuple[int, int]) -> tuple[bytes, bool]:
    """Status line and headers as they are sent, and whether the guest's have a Date."""
    phrase = HTTPStatus(head.status).phrase if head.status in _KNOWN else ""
    lines = [f"HTTP/{version[0]}.{version[1]} {head.status} {phrase}"]
    lines += [f"{name}: {value}" for name, value in _headers(head).items()]
    names = {name.lower() for name, _ in head.headers}
    return ("\r\n".join(lines) + "\r\n").encode(), "date" in names


_KNOWN = frozenset(status.value for status in HTTPStatus)
_SMALL_HEAD = 512


# Most handlers print the same head every time; large ones would fill the memory.
@lru_cache(maxsize=256)
def _fixed_part_again(head: ResponseHead, version: tuple[int, int]) -> tuple[bytes, bool]:
    return _fixed_part(head, version)


class Delivery:
    """The response to one request. Fed the guest's output, it sends what can be sent.

    Attributes: ``started`` whether the client has got the head; ``status`` of it; ``sent`` bytes of
    the body so far; ``warnings`` for the module's log.
    """

    def __init__(self, request: web.BaseRequest, header_limit: int, warnings: list[str]) -> None:
        """Parameters: ``header_limit`` in bytes."""
        self.status = 0
        self.sent = 0
        self.warnings = warnings
        self._request = request
        self._parser = ResponseParser(header_limit)
        self._head: ResponseHead | None = None
        self._stream: web.StreamResponse | None = None
        self._left: int | None = None  # bytes that the guest's Content-Length still allows
        self._was_cut = False

    @property
    def started(self) -> bool:
        return self._stream is not None

    @property
    def held(self) -> int:
        """Bytes of output that have not been sent."""
        return self._parser.held

    @property
    def fits_at_once(self) -> bool:
        """Whether the connection takes what is held without waiting for the client."""
        transport = self._request.transport
        return (
            self.held <= _AT_ONCE
            and transport is not None
            and not transport.get_write_buffer_size()
        )

    def feed(self, output: bytes) -> None:
        """Take output of the guest."""
        if output:
            self._parser.feed(output)

    async def flush(self) -> None:
        """Send what is there while the guest goes on: a slow client holds the caller back.

        Raises: Refusal if the output cannot become a response.
        """
        if self._stream is None:
            head = self._parse(self._parser.head)
            if head is None:
                return
            await self._start(head)
        await self._write(self._parser.take_body())

    async def finish(self) -> web.StreamResponse:
        """Send the rest, once the guest has ended; all of it, if nothing has been sent.

        Raises: Refusal if the output is no response.
        """
        if self._stream is None:
            head = self._parse(self._parser.end)
            assert head is not None
            return await self._send_whole(head, self._parser.take_body())
        await self._write(self._parser.take_body())
        if self._left and not self._bodiless(self.status):
            return self._end_short()
        await self._stream.write_eof()
        return self._stream

    def abort(self) -> web.StreamResponse:
        """Break the connection, so that the client can tell that the response is not whole."""
        assert self._stream is not None
        framed = self._request.version >= (1, 1) or self._stream.content_length is not None
        break_connection(self._request.transport, framed)
        return self._stream

    def _parse(self, question: Callable[[], ResponseHead | None]) -> ResponseHead | None:
        try:
            head = question()
        except BadResponse as error:
            raise Refusal(error.status, str(error)) from None
        if head is not None and self._head is None:
            self._head = head
            self.status = head.status
            self._left = head.content_length
            self.warnings += head.warnings
        return head

    def _bodiless(self, status: int) -> bool:
        return self._request.method == "HEAD" or status in _BODILESS

    async def _start(self, head: ResponseHead) -> None:
        stream = self._stream = web.StreamResponse(status=head.status, headers=_headers(head))
        if head.content_length is not None:
            stream.content_length = head.content_length
        elif self._request.version < (1, 1):
            stream.force_close()  # the end of the connection is the end of the body
        await stream.prepare(self._request)
        if self._bodiless(head.status):
            # The client has all it will get; the guest may go on, what it prints goes nowhere.
            await stream.write_eof()

    async def _write(self, body: bytes) -> None:
        assert self._stream is not None
        if not body or self._bodiless(self.status):
            return
        body = self._cut(body)
        self.sent += len(body)
        if body:
            await self._stream.write(body)

    def _cut(self, body: bytes) -> bytes:
        if self._left is None:
            return body
        if len(body) > self._left and not self._was_cut:
            self._was_cut = True
            self.warnings.append("output beyond the Content-Length was cut")
        body = body[: self._left]
        self._left -= len(body)
        return body

    async def _send_whole(self, head: ResponseHead, body: bytes) -> web.StreamResponse:
        bodiless = self._bodiless(head.status)
        if not bodiless:
            if head.content_length is not None and len(body) < head.content_length:
                await self._start(head)
                await self._write(body)
                return self._end_short()
            body = self._cut(body)
            self.sent = len(body)
        response = web.Response(status=head.status, headers=_headers(head), body=body)
        self._stream = response
        if bodiless and head.content_length is not None:
            response.headers["Content-Length"] = str(head.content_length)
        await response.prepare(self._request)
        await response.write_eof()
        return response

    def _end_short(self) -> web.StreamResponse:
        self.warnings.append(f"the body ended {self._left} bytes before its Content-Length")
        return self.abort()


def _headers(head: ResponseHead) -> CIMultiDict[str]:
    headers = CIMultiDict(head.headers)
    headers.setdefault("Server", SERVER)
    return headers


async def send_text(
    request: web.BaseRequest,
    status: HTTPStatus,
    text: str,
    *headers: tuple[str, str],
    closes: bool = False,
) -> web.Response:
    """Send a short response of the gateway's own. Parameters: ``closes`` the connection."""
    response = web.Response(status=status, text=text, headers=[("Server", SERVER), *headers])
    if closes:
        response.force_close()
    await response.prepare(request)
    await response.write_eof()
    return response


async def send_refusal(
    request: web.BaseRequest,
    refusal: Refusal,
    request_id: str,
    notice: str = "",
    closes: bool = False,
) -> web.Response:
    """Send an error page: short, plain, with the request id that the log has too.

    Parameters: ``notice`` for those who develop handlers; ``closes`` the connection, where the
    refusal itself need not.
    """
    return await send_text(
        request,
        refusal.status,
        f"{refusal.status.value} {refusal.status.phrase}\n\n{refusal.message}\n\n"
        f"Request id: {request_id}\n" + (f"\n{notice}\n" if notice else ""),
        ("X-Request-Id", request_id),
        *refusal.headers,
        closes=closes or refusal.closes,
    )


def break_connection(transport: asyncio.Transport | None, framed: bool) -> None:
    """Close a connection in the middle of a response.

    Parameters: ``framed`` whether the response has a length or chunks, so that the client sees
    that it is not whole. Where only the end of the connection ends the response, as in HTTP/1.0, an
    orderly close would look like success: it has to be a reset.
    """
    if transport is None:
        return
    if framed and not transport.get_write_buffer_size():
        transport.close()
        return
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
