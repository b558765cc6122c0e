"""Pipelined connections: a request followed by other requests, malformed ones, or other bytes.

``python -m tests.hostile.pipelined`` prints the table of docs/security.md.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.hostile import malformed
from tests.hostile.malformed import CHUNKS, get, post
from tests.support.wire import Answer, Case, Reply, table

WEBSOCKET = b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
H2C = b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"


@dataclass(frozen=True)
class _Part:
    """A request, or other bytes, in a sequence.

        Attributes:
    name: Description, with an article.
            data: The bytes.
    reply: Response of wagi; None if the bytes are ignored.
    closes: Whether wagi closes the connection afterwards.
    why: Why other servers respond differently, if any does.
    """

    name: str
    data: bytes
    reply: Reply | None
    closes: bool = False
    why: str = ""


def _sequence(*parts: _Part, why: str = "") -> Case:
    """Make a case of several parts; each gets a response until one closes the connection."""
    replies: list[Reply] = []
    closes = False
    for part in parts:
        if part.reply is not None and not closes:
            replies.append(part.reply)
        closes = closes or part.closes
    name = ", then ".join(part.name for part in parts)
    reasons = [*dict.fromkeys(part.why for part in parts if part.why), *([why] if why else [])]
    data = b"".join(part.data for part in parts)
    return Case(name, data, Answer(tuple(replies), closes), "; ".join(reasons))


def _line(method: str, path: str, version: str = "1.1") -> bytes:
    return f"{method} {path} HTTP/{version}".encode()


SMUGGLED = get(line=_line("GET", "/smuggled"))
GET = _Part("GET", get(line=_line("GET", "/a")), "GET /a\n")
POST = _Part(
    "POST with a length",
    post(b"Content-Length: 5\r\n", b"hello", _line("POST", "/a")),
    "POST /a\nhello",
)
CHUNKED = _Part(
    "POST with chunks",
    post(b"Transfer-Encoding: chunked\r\n", CHUNKS, _line("POST", "/a")),
    "POST /a\nhello",
)
TRAILER = _Part(
    "POST with chunks, an extension and a trailer",
    post(
        b"Transfer-Encoding: chunked\r\n",
        b"5;x=y\r\nhello\r\n0\r\nX: y\r\n\r\n",
        _line("POST", "/a"),
    ),
    "POST /a\nhello",
)
NEXT_GET = _Part("GET", get(line=_line("GET", "/b")), "GET /b\n")
NEXT_POST = _Part(
    "POST whose body looks like a request",
    post(b"Content-Length: %d\r\n" % len(SMUGGLED), SMUGGLED, _line("POST", "/b")),
    "POST /b\n" + SMUGGLED.decode(),
)
NEXT_CHUNKED = _Part(
    "POST whose chunk looks like a request",
    post(
        b"Transfer-Encoding: chunked\r\n",
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED),
        _line("POST", "/b"),
    ),
    "POST /b\n" + SMUGGLED.decode(),
)
EMPTY_LINES = _Part("empty lines", b"\r\n\r\n", None)
NEXT = (NEXT_GET, NEXT_POST, NEXT_CHUNKED)
_SAMPLES = (
    "bytes that are not HTTP",
    "a TLS handshake",
    "no Host",
    "a target of 70,000 bytes",
    "a field of 100,000 bytes",
    "two lengths",
    "a length and chunks",
    "Transfer-Encoding: gzip, chunked",
    "a chunk size that is a word",
    "a chunk longer than its size",
    "bare LF",
    "HTTP/2.0",
    "the preface of HTTP/2",
    "CONNECT",
)
_UPGRADES = (
    ("Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n" + H2C),
    ("Upgrade: TLS/1.0", b"Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n"),
    ("Upgrade: websocket", b"Connection: Upgrade\r\nUpgrade: websocket\r\n" + WEBSOCKET),
    ("Upgrade: h2c, websocket", b"Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n"),
    ("two Upgrade fields", b"Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: TLS/1.0\r\n"),
    ("Upgrade: H2C, in mixed case", b"cOnNeCtIoN: uPgRaDe\r\nuPgRaDe: H2C\r\n"),
    ("Upgrade in a list of options", b"Connection: keep-alive, Upgrade, x\r\nUpgrade: h2c\r\n"),
    ("Upgrade in a second field", b"Connection: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n"),
    ("Upgrade: h2c without Connection", b"Upgrade: h2c\r\n"),
    ("Connection: Upgrade without Upgrade", b"Connection: Upgrade\r\n"),
    ("an empty Upgrade", b"Connection: Upgrade\r\nUpgrade:\r\n"),
)
_CLOSES = (
    ("Connection: close", b"Connection: close\r\n", "1.1"),
    ("Connection: Close", b"Connection: Close\r\n", "1.1"),
    ("CONNECTION:CLOSE", b"CONNECTION:CLOSE\r\n", "1.1"),
    ("Connection: keep-alive, close", b"Connection: keep-alive, close\r\n", "1.1"),
    ("Connection: close, keep-alive", b"Connection: close, keep-alive\r\n", "1.1"),
    ("Connection: x,close", b"Connection: x,close\r\n", "1.1"),
    ("close in a second field", b"Connection: x\r\nConnection: close\r\n", "1.1"),
    ("close and Upgrade: h2c", b"Connection: close, Upgrade\r\nUpgrade: h2c\r\n", "1.1"),
    ("HTTP/1.0", b"", "1.0"),
    ("HTTP/1.0 and Connection: close", b"Connection: close\r\n", "1.0"),
    ("HTTP/1.0 and Upgrade: h2c", b"Connection: Upgrade\r\nUpgrade: h2c\r\n", "1.0"),
    ("HTTP/1.2 and Connection: close", b"Connection: close\r\n", "1.2"),
)
IGNORED = (
    NEXT_GET,
    NEXT_POST,
    _Part("bytes that are not HTTP", b"\x00\x01\x02\r\n\r\n", None),
    _Part("half a head", b"GET /b HTTP/1.1\r\nHos", None),
)


def _malformed_part(case: Case) -> _Part:
    return _Part(case.name, case.data, case.expected.replies[0], True, case.why)


MALFORMED = tuple(_malformed_part(case) for case in malformed.CASES)
SAMPLES = tuple(part for part in MALFORMED if part.name in _SAMPLES)
assert len(SAMPLES) == len(_SAMPLES)


def _requests(name: str, fields: bytes, version: str = "1.1", closes: bool = False) -> list[_Part]:
    """Requests with the given fields: without a body, with a length, and chunked."""
    with_length = b"Content-Length: 5\r\n" + fields
    with_chunks = b"Transfer-Encoding: chunked\r\n" + fields
    line = _line("POST", "/a", version)
    parts = [
        _Part(f"GET with {name}", get(fields, _line("GET", "/a", version)), "GET /a\n", closes),
        _Part(f"POST with {name}", post(with_length, b"hello", line), "POST /a\nhello", closes),
    ]
    if version != "1.0":
        parts.append(
            _Part(
                f"POST with chunks and {name}",
                post(with_chunks, CHUNKS, line),
                "POST /a\nhello",
                closes,
            )
        )
    return parts


def _sequences() -> Iterator[Case]:
    for first in (GET, POST, CHUNKED, TRAILER):
        for second in NEXT:
            yield _sequence(first, second)
        for second in SAMPLES:
            yield _sequence(first, second, NEXT_GET)
    for second in MALFORMED:
        if second not in SAMPLES:
            yield _sequence(GET, second)
    yield _sequence(GET, POST, CHUNKED, TRAILER, *NEXT)
    why = "RFC 9112 §2.2 asks a server to skip them"
    yield _sequence(GET, EMPTY_LINES, NEXT_GET, why=why)
    yield _sequence(*[NEXT_POST] * 10)


def _upgrades() -> Iterator[Case]:
    for name, fields in _UPGRADES:
        for first in _requests(name, fields):
            yield _sequence(first, NEXT_GET)
            yield _sequence(first, NEXT_POST)
    h2c = _requests(*_UPGRADES[0])
    yield _sequence(*h2c, *h2c, NEXT_GET)
    for first in h2c:
        for second in SAMPLES:
            yield _sequence(first, second)
    connect = _Part(
        "CONNECT",
        get(line=b"CONNECT a:443 HTTP/1.1"),
        400,
        True,
        "wagi is not a proxy; others call their handler",
    )
    for second in IGNORED:
        yield _sequence(connect, second)


def _closes() -> Iterator[Case]:
    for name, fields, version in _CLOSES:
        for first in _requests(name, fields, version, closes=True):
            for second in IGNORED:
                yield _sequence(first, second)
    why = "Apache does not know the length of a CGI response when it sends the head"
    for first in _requests("HTTP/1.0 and keep-alive", b"Connection: keep-alive\r\n", "1.0"):
        for second in NEXT:
            yield _sequence(first, second, why=why)
    for first in _requests("HTTP/1.2", b"", "1.2"):
        for second in NEXT:
            yield _sequence(first, second)


CASES = tuple({case.name: case for case in (*_sequences(), *_upgrades(), *_closes())}.values())


def _is_listed(case: Case) -> bool:
    """Whether docs/security.md lists the case: it has one of each kind."""
    first, _, rest = case.name.partition(", then ")
    second, _, third = rest.partition(", then ")
    if third:
        return first == "GET" and third == "GET"
    if first == "GET" and second in (part.name for part in MALFORMED):
        return False
    is_first = first in ("GET", "CONNECT") or first.startswith("GET with ")
    return is_first and second in (NEXT_GET.name, NEXT_POST.name)


LISTED = tuple(case for case in CASES if _is_listed(case))


def cuts(data: bytes) -> list[int]:
    """Return the offsets at which a case is split: all offsets of short data, otherwise those
    around line ends, both ends of the data and common buffer sizes.
    """
    if len(data) <= 400:
        return list(range(1, len(data)))
    found = {*range(1, 40), *range(len(data) - 40, len(data)), len(data) // 2}
    found |= {size + by for size in (4096, 8192, 16384, 65536) for by in (-1, 0, 1)}
    line_ends = [at for at, byte in enumerate(data) if byte == ord("\n")]
    if len(line_ends) > 100:
        line_ends = line_ends[:20] + line_ends[-20:]
    found |= {at + by for at in line_ends for by in (-1, 0, 1, 2)}
    return sorted(at for at in found if 0 < at < len(data))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(table(Path(folder), LISTED))
