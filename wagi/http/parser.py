"""An incremental parser for HTTP/1.1 requests. It performs no I/O and never waits.

It wraps aiohttp's compiled parser (llhttp) and works around these limitations:

- aiohttp's parser drops requests that it has already parsed when a later one in the same buffer is
  invalid, and all data after an ``Upgrade`` that it does not support. It is therefore fed one head,
  or one piece of a body, at a time, and never a byte of the message that follows.
- It limits single fields only. This module limits the whole head, and chooses the status of the
  error response.
- It accepts any transfer coding before ``chunked``, and only the versions 1.0 and 1.1.

A head ends with an empty line, CR LF CR LF, and so does a chunked body (RFC 9112 §2.1, §7.1).
Splitting there separates messages; a CR LF CR LF within chunk data only makes one more piece.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from itertools import islice
from typing import Any, NamedTuple

from aiohttp import http_exceptions
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy
from aiohttp.streams import StreamReader

from wagi.errors import WagiError
from wagi.http.errors import HTTPError
from wagi.http.head import Head
from wagi.http.options import HeadLimits

MAX_FIELDS = 128
"""Maximum number of header fields; more are answered with 431. Apache allows 100."""
_EMPTY_LINE = b"\r\n\r\n"
_CHUNKED_READ_SIZE = 2 * 1024
"""Number of bytes of a chunked body that are parsed at a time. If all chunks have one byte, which
takes six, this takes about a millisecond; the connection can yield to others after each piece."""
_METHOD_PREFIX = re.compile(rb"[A-Z-]{1,32}(?: |\Z)")
_VERSION = re.compile(rb" HTTP/([0-9])\.([0-9])\Z")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_SPACE_AROUND_CODING = re.compile(
    rb"(\ntransfer-encoding:)[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)", re.IGNORECASE
)
_CODINGS = re.compile(rb"\ntransfer-encoding:([^\r\n]*)", re.IGNORECASE)
_STREAM_LIMIT = 1024**3  # bytes; never reached, because parsed data is read at once


class Data(NamedTuple):
    """A piece of a body, possibly empty. ``is_last`` marks the end of the body."""

    data: bytes
    is_last: bool


Event = Head | Data


class RequestParser:
    """Parses the requests of one connection into events.

    Attributes:
        received: Bytes that have been fed but not parsed.
    """

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        # A head of at most this many bytes cannot exceed either limit.
        self._unchecked_size = min(limits.target, limits.fields)
        # aiohttp's limits apply to a single line or field, and are never reached before ours.
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
        self._searched = 0  # bytes of it that have been searched for the end of a head
        self._body: StreamReader | None = None  # of the body that is being parsed
        self._body_remaining: int | None = (
            None  # bytes that have not arrived; None if it is chunked
        )
        self._last_bytes = b""  # the last three parsed bytes of a chunked body

    def feed(self, data: bytes) -> None:
        """Append bytes from the client. They are parsed by the next call of ``next_event``."""
        self.received = self.received + data if self.received else data

    def next_event(self) -> Event | None:
        """Parse the next event.

        Returns:
            A head, or a piece of the body that belongs to the last head; None if more bytes are
            needed.

        Raises:
            HTTPError: The bytes are not valid HTTP or exceed a limit. What follows them cannot be
                parsed.
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
        """Return the first error of a head that may be incomplete, or None if it can be valid.

        An error is detected at the first byte that makes it certain, so the result does not depend
        on how the bytes were split.

        Args:
            head: The bytes received so far.
            checked: Number of bytes that an earlier call has checked.
        """
        if not _METHOD_PREFIX.match(head):
            return _bad_request("it does not begin with a method")
        bare_lf = _BARE_LF.search(head, checked)
        certain_at = bare_lf.start() if bare_lf else len(head)
        for position, error in self._size_errors(head):
            if position < certain_at:
                return error
        return _bad_request("a line ends without a carriage return") if bare_lf else None

    def _size_errors(self, head: bytes) -> Iterator[tuple[int, HTTPError]]:
        """Yield the errors of exceeded limits with the position of the first excess byte."""
        limits = self._limits
        line_end = head.find(b"\r\n")
        line = head if line_end < 0 else head[:line_end]
        target = line.find(b" ") + 1
        version = _VERSION.search(line)
        # Until the line has ended, its last bytes may be the version rather than the target.
        position = target + limits.target + len(" HTTP/1.1\r")
        if line_end >= 0:
            target_end = version.start() if version else line_end
            fits = target_end - target <= limits.target
            position = len(head) if fits else min(position, line_end + 1)
        if position < len(head):
            yield (
                position,
                HTTPError(
                    HTTPStatus.REQUEST_URI_TOO_LONG,
                    "The request target is too long (--max-request-line).",
                ),
            )
        if line_end < 0:
            return
        position = line_end + limits.fields + len(_EMPTY_LINE)
        message = "The request header fields are too large (--max-request-header)."
        if head.count(b"\n") > MAX_FIELDS + 2:
            ends = (match.start() for match in re.finditer(b"\n", head))
            excess = next(islice(ends, MAX_FIELDS + 2, None))
            if excess < position:
                position = excess
                message = f"The request has more than {MAX_FIELDS} header fields."
        if position < len(head):
            yield (
                position,
                HTTPError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, message),
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
        if b"\t" in head:  # which the parser rejects around a transfer coding: RFC 9110 §5.6.3
            head = _SPACE_AROUND_CODING.sub(rb"\1 \2", head)
        try:
            messages, upgraded, _ = self._parser.feed_data(head)
        except http_exceptions.HttpProcessingError as error:
            raise _to_http_error(error, head) from None
        if upgraded:
            self._parser.set_upgraded(False)  # the offer is ignored: RFC 9110 §7.8
        if len(messages) != 1:
            raise _bad_request("its header fields have no end")
        message, payload = messages[0]
        if message.version not in _VERSIONS:
            raise _unknown_version()  # the parser treats a line without a version as HTTP/0.9
        headers = message.headers
        if "Transfer-Encoding" in headers and not _is_chunked(headers):
            raise _unknown_coding()
        content_length: int | None = 0
        if isinstance(payload, StreamReader) and not payload.is_eof():
            self._body = payload
            self._last_bytes = b""
            content_length = None if message.chunked else int(headers["Content-Length"])
            self._body_remaining = content_length
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
        size = self._chunked_read_size() if self._body_remaining is None else self._body_remaining
        piece, self.received = self.received[:size], self.received[size:]
        if self._body_remaining is None:
            self._last_bytes = (self._last_bytes + piece)[-len(_EMPTY_LINE) + 1 :]
        else:
            self._body_remaining -= len(piece)
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

    def _chunked_read_size(self) -> int:
        """Return how many bytes of a chunked body to parse, none of them after its end."""
        text = self._last_bytes + self.received[:_CHUNKED_READ_SIZE]
        end = text.find(_EMPTY_LINE)
        if end < 0:
            return _CHUNKED_READ_SIZE
        return end + len(_EMPTY_LINE) - len(self._last_bytes)


_VERSIONS = {(1, 0): "HTTP/1.0", (1, 1): "HTTP/1.1"}
_KNOWN_VERSIONS = (b" HTTP/1.1", b" HTTP/1.0")


def _with_known_version(head: bytes, line_end: int) -> bytes:
    """Replace a later minor version of HTTP/1 in a head with 1.1 (RFC 9110 §2.5)."""
    line = head[:line_end]
    version = _VERSION.search(line)
    if version is None and (b" HTTP/" in line.upper() or line.count(b" ") != 1):
        return head  # invalid: the parser reports the reason
    if version is None or version[1] != b"1":
        raise _unknown_version()
    return line[: -len(version[0])] + _KNOWN_VERSIONS[0] + head[line_end:]


def _unknown_version() -> HTTPError:
    return HTTPError(
        HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "Only HTTP/1.0 and HTTP/1.1 are supported."
    )


def _is_chunked(headers: Any) -> bool:
    """Return whether ``chunked`` is the only transfer coding and appears once."""
    codings: list[str] = headers.getall("Transfer-Encoding")
    return len(codings) == 1 and codings[0].strip(" \t").lower() == "chunked"


def _to_http_error(error: http_exceptions.HttpProcessingError, head: bytes) -> HTTPError:
    """Return the error response to a head that the parser rejects."""
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
    """Return the error for an unsupported transfer coding (RFC 9112 §6.1)."""
    return HTTPError(
        HTTPStatus.NOT_IMPLEMENTED,
        "The only supported transfer coding is chunked.",
        "the request has a Transfer-Encoding other than chunked",
    )


class _Flow:
    """The flow control interface that aiohttp's body stream requires.

    It does nothing, because each piece is read as soon as it is parsed.
    """

    connected = True

    def pause_reading(self) -> None:
        """Ignore that the buffer of the stream is full."""

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Ignore that the buffer of the stream has been read."""


_FLOW: Any = _Flow()
_NO_LOOP: Any = object()  # the stream needs a loop only to wait for data


def check_parser() -> None:
    """Check that the installed aiohttp provides the parser that this module relies on.

    Raises:
        WagiError: It has only the pure-Python parser, or one that behaves differently.
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
check_parser()  # fail at import rather than at the first request
