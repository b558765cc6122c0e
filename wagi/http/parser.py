"""From the bytes of a connection to requests. Fed and asked; it never reads and never waits.

aiohttp's compiled parser (llhttp) reads heads and bodies. What it leaves open is done here:

- It drops requests that it has parsed when a later one in the same bytes is invalid, and everything
  behind an ``Upgrade`` that it does not support. So it gets one head, or a piece of one body, at a
  time, and never a byte of what comes behind.
- It has limits for single fields. Here are those for the whole head, and the status that a client
  gets for exceeding one.
- It accepts every transfer coding before ``chunked``, and only the versions 1.0 and 1.1.

Heads end, and so do chunked bodies, with an empty line: CR LF CR LF (RFC 9112 §2.1, §7.1). Cutting
there separates messages; a CR LF CR LF within chunk data only makes one more piece.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from typing import Any, NamedTuple

from aiohttp import http_exceptions
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy
from aiohttp.streams import StreamReader

from wagi.errors import WagiError
from wagi.http.errors import HTTPError

MAX_FIELDS = 128
"""Header fields of a request; 431 beyond. Apache allows 100."""
_EMPTY_LINE = b"\r\n\r\n"
_CHUNKED_PIECE = 2 * 1024
"""Bytes of a chunked body that are parsed at a time. With one-byte chunks, six bytes each, parsing
them takes about a millisecond; the connection lets others have their turn between two pieces."""
_METHOD_SO_FAR = re.compile(rb"[A-Z-]{1,32}(?: |\Z)")
_VERSION = re.compile(rb" HTTP/([0-9])\.([0-9])\Z")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_SPACE_AROUND_CODING = re.compile(
    rb"(\ntransfer-encoding:)[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)", re.IGNORECASE
)
_CODINGS = re.compile(rb"\ntransfer-encoding:([^\r\n]*)", re.IGNORECASE)
_STREAM_LIMIT = 1024**3  # bytes, never reached: what the parser has read is taken at once


class Head(NamedTuple):
    """The head of a request.

    Attributes:
        method: As sent.
        target: The request target as sent; bytes that are not UTF-8 are surrogates.
        protocol: ``HTTP/1.1`` or ``HTTP/1.0``, as SERVER_PROTOCOL has it.
        headers: By their names, in any letter case.
        raw_headers: In the order of arrival, undecoded.
        keep_alive: Whether the client would send another request on the connection.
        content_length: Bytes of the body; None for a chunked one.
    """

    method: str
    target: str
    protocol: str
    headers: Mapping[str, str]
    raw_headers: tuple[tuple[bytes, bytes], ...]
    keep_alive: bool
    content_length: int | None


class Data(NamedTuple):
    """A piece of a body, perhaps empty. ``is_last`` if the body has ended with it."""

    data: bytes
    is_last: bool


Event = Head | Data


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """How large a head may be.

    Attributes:
        target: Bytes of the request target; 414 beyond.
        fields: Bytes of all header fields together; 431 beyond.
    """

    target: int
    fields: int


class RequestParser:
    """The requests of one connection, one event after the other.

    Attributes:
        received: What has been fed and not parsed.
    """

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        # A head of this many bytes has neither a target nor fields that are too large.
        self._unchecked_size = min(limits.target, limits.fields)
        # aiohttp's own limits hold for a line or a field. They are never reached before ours.
        self._parser = HttpRequestParser(
            _FLOW,
            _NO_LOOP,
            _STREAM_LIMIT,
            max_line_size=limits.target + limits.fields,
            max_field_size=limits.target + limits.fields,
            max_headers=MAX_FIELDS,
            auto_decompress=False,
        )
        self.received = b""
        self._searched = 0  # bytes of it in which no head ends
        self._body: StreamReader | None = None  # of the request whose body is being parsed
        self._body_left: int | None = None  # bytes of it to come; None for a chunked one
        self._last_bytes = b""  # the last three that were parsed of a chunked body

    def feed(self, data: bytes) -> None:
        """Add what the client has sent. Nothing is parsed before the next question."""
        self.received = self.received + data if self.received else data

    def next_event(self) -> Event | None:
        """Parse on.

        Returns:
            A head, or a piece of the body of the last head; None while there is not enough.

        Raises:
            HTTPError: The client sent something that is not HTTP, or too much of it. Nothing that
                follows can be understood.
        """
        if not self.received:
            return None
        if self._body is not None:
            return self._next_data(self._body)
        if self.received[0] in b"\r\n":  # RFC 9112 §2.2: empty lines before a request
            self.received = self.received.lstrip(b"\r\n")
            self._searched = 0
        end = self.received.find(_EMPTY_LINE, self._searched)
        if end < 0:
            if self.received and (error := self._early_error(self.received, self._searched)):
                raise error
            self._searched = max(0, len(self.received) - len(_EMPTY_LINE) + 1)
            return None
        end += len(_EMPTY_LINE)
        head, self.received, self._searched = self.received[:end], self.received[end:], 0
        return self._parse_head(head)

    def _early_error(self, head: bytes, checked: int = 0) -> HTTPError | None:
        """The first reason why bytes cannot be, or become, the head of a request.

        It is found as soon as the byte has arrived that makes it certain, so that the error is the
        same wherever the bytes are cut.

        Args:
            head: The bytes so far.
            checked: How many of them have been checked before.
        """
        if not _METHOD_SO_FAR.match(head):
            return _bad_request("it does not begin with a method")
        bare_lf = _BARE_LF.search(head, checked)
        certain_at = bare_lf.start() if bare_lf else len(head)
        for position, error in self._size_errors(head):
            if position < certain_at:
                return error
        return _bad_request("a line ends without a carriage return") if bare_lf else None

    def _size_errors(self, head: bytes) -> Iterator[tuple[int, HTTPError]]:
        """What is too large, and the position of the byte that is too many, in order."""
        limits = self._limits
        line_end = head.find(b"\r\n")
        line = head if line_end < 0 else head[:line_end]
        target = line.find(b" ") + 1
        version = _VERSION.search(line)
        # While the line has not ended, as much as a version has may not belong to the target.
        position = target + limits.target + len(" HTTP/1.1\r")
        if line_end >= 0:
            target_end = version.start() if version else line_end
            fits = target_end - target <= limits.target
            position = len(head) if fits else min(position, line_end + 1)
        if position < len(head):
            yield (
                position,
                HTTPError(HTTPStatus.REQUEST_URI_TOO_LONG, "The request target is too long."),
            )
        if line_end < 0:
            return
        position = line_end + limits.fields + len(_EMPTY_LINE)
        if head.count(b"\n") > MAX_FIELDS + 2:
            ends = (match.start() for match in re.finditer(b"\n", head))
            position = min(position, next(islice(ends, MAX_FIELDS + 2, None)))
        if position < len(head):
            yield (
                position,
                HTTPError(
                    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                    "The request header fields are too large.",
                ),
            )

    def _parse_head(self, head: bytes) -> Head:
        is_within_limits = len(head) <= self._unchecked_size and head.count(b"\n") <= MAX_FIELDS
        if not is_within_limits and (error := self._early_error(head)):
            raise error
        try:
            return self._parse_whole_head(head)
        except HTTPError as late_error:
            raise (self._early_error(head) or late_error) from None

    def _parse_whole_head(self, head: bytes) -> Head:
        line_end = head.find(b"\r\n")
        if head[line_end - 9 : line_end] not in _KNOWN_VERSIONS:
            head = _with_known_version(head, line_end)
        if b"\t" in head:  # the parser takes no tab behind a transfer coding: RFC 9110 §5.6.3
            head = _SPACE_AROUND_CODING.sub(rb"\1 \2", head)
        try:
            messages, upgraded, _ = self._parser.feed_data(head)
        except http_exceptions.HttpProcessingError as error:
            raise _explain(error, head) from None
        if upgraded:
            self._parser.set_upgraded(False)  # an offer that is not taken: RFC 9110 §7.8
        if len(messages) != 1:
            raise _bad_request("its header fields have no end")
        message, payload = messages[0]
        if message.version not in _VERSIONS:
            raise _unknown_version()  # the parser takes a line without one for HTTP/0.9
        headers = message.headers
        if "Transfer-Encoding" in headers and not _is_chunked(headers):
            raise _unknown_coding()
        content_length: int | None = 0
        if isinstance(payload, StreamReader) and not payload.is_eof():
            self._body = payload
            self._last_bytes = b""
            content_length = None if message.chunked else int(headers["Content-Length"])
            self._body_left = content_length
        return Head(
            message.method,
            message.path,
            _VERSIONS[message.version],
            headers,
            message.raw_headers,
            not message.should_close,
            content_length,
        )

    def _next_data(self, body: StreamReader) -> Data:
        size = self._chunked_piece() if self._body_left is None else self._body_left
        piece, self.received = self.received[:size], self.received[size:]
        if self._body_left is None:
            self._last_bytes = (self._last_bytes + piece)[-len(_EMPTY_LINE) + 1 :]
        else:
            self._body_left -= len(piece)
        try:
            self._parser.feed_data(piece)
        except http_exceptions.HttpProcessingError as error:
            reason = f"the request body is not validly chunked: {_first_line(error)}"
            raise HTTPError(
                HTTPStatus.BAD_REQUEST, "The request body is not validly chunked.", reason
            ) from None
        if body.is_eof():
            self._body = None
        return Data(body.read_nowait(), is_last=self._body is None)

    def _chunked_piece(self) -> int:
        """How many bytes to parse of a chunked body: none behind its end."""
        text = self._last_bytes + self.received[:_CHUNKED_PIECE]
        end = text.find(_EMPTY_LINE)
        if end < 0:
            return _CHUNKED_PIECE
        return end + len(_EMPTY_LINE) - len(self._last_bytes)


_VERSIONS = {(1, 0): "HTTP/1.0", (1, 1): "HTTP/1.1"}
_KNOWN_VERSIONS = (b" HTTP/1.1", b" HTTP/1.0")


def _with_known_version(head: bytes, line_end: int) -> bytes:
    """The same head in HTTP/1.1, if it has a later minor version of it (RFC 9110 §2.5)."""
    line = head[:line_end]
    version = _VERSION.search(line)
    if version is None and (b" HTTP/" in line.upper() or line.count(b" ") != 1):
        return head  # not valid, for which the parser has the reason
    if version is None or version[1] != b"1":
        raise _unknown_version()
    return line[: -len(version[0])] + _KNOWN_VERSIONS[0] + head[line_end:]


def _unknown_version() -> HTTPError:
    return HTTPError(
        HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "Only HTTP/1.0 and HTTP/1.1 are supported."
    )


def _is_chunked(headers: Any) -> bool:
    """Whether ``chunked`` is the only transfer coding, and named once."""
    codings: list[str] = headers.getall("Transfer-Encoding")
    return len(codings) == 1 and codings[0].strip(" \t").lower() == "chunked"


def _explain(error: http_exceptions.HttpProcessingError, head: bytes) -> HTTPError:
    """The response to a head that the parser rejects."""
    codings = [coding.strip(b" \t").lower() for coding in _CODINGS.findall(head)]
    if codings and codings != [b"chunked"]:
        return _unknown_coding()
    return _bad_request(_first_line(error))


def _first_line(error: http_exceptions.HttpProcessingError) -> str:
    return str(error.message).partition("\n")[0].rstrip(":")


def _bad_request(reason: str) -> HTTPError:
    return HTTPError(
        HTTPStatus.BAD_REQUEST, "The request is not valid HTTP.", f"not valid HTTP: {reason}"
    )


def _unknown_coding() -> HTTPError:
    """RFC 9112 §6.1: a transfer coding that is not understood."""
    return HTTPError(
        HTTPStatus.NOT_IMPLEMENTED,
        "The only supported transfer coding is chunked.",
        "the request has a Transfer-Encoding other than chunked",
    )


class _Flow:
    """The connection as aiohttp's stream of a body sees it, for which there is no flow control:
    each piece is taken as soon as it is parsed.
    """

    connected = True

    def pause_reading(self) -> None:
        """Called for a stream that holds a lot."""

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Called at the end of a body."""


_FLOW: Any = _Flow()
_NO_LOOP: Any = object()  # the stream would use a loop only to wait for data


def check_parser() -> None:
    """Check that the installed aiohttp has the parser that this file relies on.

    Raises:
        WagiError: It has only the parser in Python, or one that works differently.
    """
    if HttpRequestParser is HttpRequestParserPy:
        raise WagiError(
            "aiohttp cannot be used without its compiled parser: the one in Python is slow, and"
            " accepts invalid requests; unset AIOHTTP_NO_EXTENSIONS, or install an aiohttp wheel"
            " for this platform: pip install --force-reinstall aiohttp"
        )
    parser = RequestParser(HeadLimits(1000, 1000))
    parser.feed(b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    parser.feed(b"1\r\nx\r\n0\r\n\r\n")
    try:
        head, data = parser.next_event(), parser.next_event()
        works = isinstance(head, Head) and head.target == "/a" and data == Data(b"x", True)
    except Exception as error:
        raise WagiError(f"{_OTHER_PARSER}: {error!r}") from error
    if not works:
        raise WagiError(_OTHER_PARSER)


_OTHER_PARSER = (
    "the installed aiohttp cannot be used: its parser differs from that of aiohttp 3.14;"
    " pip install 'aiohttp>=3.14.5,<3.15'"
)
check_parser()  # before anything relies on it
