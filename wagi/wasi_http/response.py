"""The response that a handler of wasi:http sets, checked before it is sent. Pure.

The output of a guest is not trusted: host calls check each header field when the guest makes it,
and here nothing that could split the response gets into a ``ResponseHead``, whatever a host call
let pass.
"""

from __future__ import annotations

from functools import lru_cache

from wagi.cgi.response import (
    HOP_BY_HOP,
    BadResponse,
    ResponseHead,
    bounded,
    content_length,
    header_problem,
    shown,
)
from wagi.guest.http_exchange import HeaderFields, HttpExchange

_CACHED_SIZE = 512  # bytes
_NOT_IN_TRAILERS = HOP_BY_HOP | frozenset(
    (b"content-length", b"content-encoding", b"content-type", b"content-range", b"host")
)
"""Fields that describe the body or its framing: a recipient that merged them into the head of the
response could misread it (RFC 9110, section 6.5.1)."""


class HandlerResponse:
    """The response of a handler, from which a ``ResponseWriter`` writes it.

    Attributes:
        buffered: Size in bytes of the body that was fed and not taken.
    """

    __slots__ = ("_body", "_exchange", "_has_ended", "_head", "_limit", "_was_fed", "buffered")

    def __init__(self, exchange: HttpExchange, header_limit: int) -> None:
        """Create a response.

        Args:
            exchange: What the guest sets.
            header_limit: Maximum size of all header fields in bytes.
        """
        self._exchange = exchange
        self._limit = header_limit
        self._head: ResponseHead | None = None
        self._body: list[bytes] = []
        self._was_fed = self._has_ended = False
        self.buffered = 0

    @property
    def is_complete(self) -> bool:
        """Whether the handler has finished the body.

        The body of a handler that ends without having written or dropped it is empty, as in
        wasmtime: this is how the engine of componentize-js answers after an exception.
        """
        exchange = self._exchange
        is_empty = self._has_ended and not self._was_fed and not exchange.is_abandoned
        return exchange.is_finished or is_empty

    @property
    def trailers(self) -> HeaderFields:
        """The trailer fields that can be sent."""
        return tuple(
            (name, value)
            for name, value in self._exchange.trailers
            if name.lower() not in _NOT_IN_TRAILERS and header_problem(name, value) is None
        )

    def feed(self, data: bytes) -> None:
        """Add a piece of the body."""
        self._was_fed = True
        self._body.append(data)
        self.buffered += len(data)

    def take_body(self) -> bytes:
        """Return the pieces of the body that have not been taken yet."""
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self.buffered = 0
        return body

    def head(self) -> ResponseHead | None:
        """Return the head, or None until the handler has set the response.

        Raises:
            BadResponse: The handler has set an error, or a response that cannot be sent.
        """
        if self._head is None:
            exchange = self._exchange
            if exchange.error:
                raise BadResponse("The handler reported an error.", 502, exchange.error.encode())
            if exchange.status:
                self._head = _make_head(exchange.status, exchange.headers, self._limit)
        return self._head

    def end(self) -> ResponseHead:
        """Return the head once the guest has ended.

        Raises:
            BadResponse: As for ``head``, or the handler has not set a response.
        """
        self._has_ended = True
        head = self.head()
        if head is None:
            raise BadResponse("The handler ended without setting a response.")
        return head


def header_block(exchange: HttpExchange) -> bytes:
    """Return the head of a response as a CGI program would print it, for records of the exchange.

    Returns:
        Nothing if the handler has not set the response.
    """
    if not exchange.status:
        return b""
    lines = [b"Status: %d" % exchange.status]
    lines += [b"%b: %b" % field for field in exchange.headers]
    return b"\n".join([*lines, b"", b""])


def _make_head(status: int, headers: HeaderFields, limit: int) -> ResponseHead:
    size = sum([len(name) + len(value) for name, value in headers])
    if size > limit:
        raise BadResponse("The handler's response headers are too large (header_limit).")
    return (_check_cached if size <= _CACHED_SIZE else _check)(status, headers)


def _check(status: int, headers: HeaderFields) -> ResponseHead:
    """Make a head from what a handler has set.

    Raises:
        BadResponse: The status code cannot end a request.
    """
    if not 200 <= status <= 599:
        found = str(status).encode()
        raise BadResponse("The handler's status code is not from 200 to 599.", 502, found)
    fields: list[tuple[bytes, bytes]] = []
    lengths: list[bytes] = []
    warnings: list[str] = []
    for name, value in headers:
        key = name.lower()
        if key == b"content-length":
            lengths.append(value)
        elif problem := header_problem(name, value):
            warnings.append(f"dropped header {shown(name)}: {problem}")
        elif key not in HOP_BY_HOP and not key.startswith(b"proxy-"):
            fields.append((name, value))
    length = content_length(lengths, warnings)
    is_small = sum([len(name) + len(value) for name, value in headers]) <= _CACHED_SIZE
    return ResponseHead(status, tuple(fields), length, tuple(bounded(warnings)), is_small)


# Most handlers set the same head every time. Large ones are not cached to save memory.
_check_cached = lru_cache(maxsize=256)(_check)
