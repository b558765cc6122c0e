"""The head of a request, as parsed. It is apart from the parser, which imports aiohttp."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Head(NamedTuple):
    """The head of a request.

    Attributes:
        method: Method as sent.
        target: Request target as sent; bytes that are not UTF-8 are surrogates.
        protocol: ``HTTP/1.1`` or ``HTTP/1.0``, the value of SERVER_PROTOCOL.
        headers: Header fields by case-insensitive name.
        raw_headers: Header fields in arrival order, undecoded.
        keep_alive: Whether the client supports a persistent connection.
        content_length: Size of the body in bytes; None for a chunked body.
    """

    method: str
    target: str
    protocol: str
    headers: Mapping[str, str]
    raw_headers: tuple[tuple[bytes, bytes], ...]
    keep_alive: bool
    content_length: int | None
