"""The request parser."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wagi.http.errors import HTTPError
from wagi.http.head import Head
from wagi.http.options import HeadLimits
from wagi.http.parser import MAX_FIELDS, Data, RequestParser

pytestmark = pytest.mark.fast
LIMITS = HeadLimits(target=100, fields=4000)
HOST = b"Host: a\r\n"
GET = b"GET /a HTTP/1.1\r\n" + HOST + b"\r\n"
CHUNKED = b"POST /c HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"


def summarize(pieces: list[bytes]) -> list[object]:
    """Return what the parser yields: heads, complete bodies and the final error."""
    parser = RequestParser(LIMITS)
    found: list[object] = []
    for piece in pieces:
        parser.feed(piece)
        try:
            while (event := parser.next_event()) is not None:
                add(found, event)
        except HTTPError as error:
            return [*found, error.status.value]
    return found


def add(found: list[object], event: Head | Data) -> None:
    if isinstance(event, Head):
        found.append((event.method, event.target, event.protocol, event.keep_alive))
        if event.content_length != 0:
            found.append((b"", False))
        return
    last = found.pop()
    assert isinstance(last, tuple)
    body, has_ended = last
    assert not has_ended
    found.append((body + event.data, event.is_last))


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


A = ("GET", "/a", "HTTP/1.1", True)
SEQUENCES: dict[str, tuple[bytes, list[object]]] = {
    "two requests": (GET + GET, [A, A]),
    "empty lines before and between": (b"\r\n" + GET + b"\r\n\r\n" + GET, [A, A]),
    "HTTP/1.0": (b"GET /a HTTP/1.0\r\n\r\n", [("GET", "/a", "HTTP/1.0", False)]),
    "a body, then a request": (
        b"POST /p HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello" + GET,
        [("POST", "/p", "HTTP/1.1", True), (b"hello", True), A],
    ),
    "chunks, trailers, then a request": (
        CHUNKED + b"5;x=y\r\nhello\r\n4\r\n\r\n\r\n\r\n0\r\nX: y\r\n\r\n" + GET,
        [("POST", "/c", "HTTP/1.1", True), (b"hello\r\n\r\n", True), A],
    ),
    "an upgrade that is not taken": (
        b"GET /a HTTP/1.1\r\n" + HOST + b"Connection: Upgrade, HTTP2-Settings\r\n"
        b"Upgrade: h2c\r\n\r\nPOST /p HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc" + GET,
        [A, ("POST", "/p", "HTTP/1.1", True), (b"abc", True), A],
    ),
    "a websocket upgrade": (
        b"GET /a HTTP/1.1\r\n" + HOST + b"Connection: upgrade\r\nUpgrade: WebSocket\r\n\r\n" + GET,
        [A, A],
    ),
    "an upgrade with a body": (
        b"POST /p HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n"
        b"Content-Length: 2\r\n\r\nhi" + GET,
        [("POST", "/p", "HTTP/1.1", True), (b"hi", True), A],
    ),
    "an upgrade with chunks": (
        CHUNKED.replace(b"Host", b"Connection: Upgrade\r\nUpgrade: h2c\r\nHost")
        + b"2\r\nhi\r\n0\r\n\r\n" + GET,
        [("POST", "/c", "HTTP/1.1", True), (b"hi", True), A],
    ),
    "an invalid request behind a valid one": (GET + b"nonsense\r\n\r\n", [A, 400]),
    "no Host behind a valid one": (GET + b"GET / HTTP/1.1\r\n\r\n", [A, 400]),
    "bad chunks behind a valid one": (
        GET + CHUNKED + b"xyz\r\n\r\n", [A, ("POST", "/c", "HTTP/1.1", True), (b"", False), 400],
    ),
    "a later minor version": (GET.replace(b"1.1", b"1.2"), [A]),
    "the last minor version": (GET.replace(b"1.1", b"1.9"), [A]),
}  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences(name: str, size: int) -> None:
    data, expected = SEQUENCES[name]
    assert summarize(cut(data, size)) == expected


@given(
    st.lists(st.sampled_from([data for data, _ in SEQUENCES.values()]), min_size=1, max_size=4),
    st.lists(st.integers(1, 40), min_size=1, max_size=20),
)
def test_events_do_not_depend_on_splits(parts: list[bytes], sizes: list[int]) -> None:
    data = b"".join(parts)
    pieces: list[bytes] = []
    at = 0
    while at < len(data):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[at : at + size])
        at += size
    assert summarize(pieces) == summarize([data])


@given(st.binary(max_size=300), st.integers(1, 50))
def test_arbitrary_bytes(data: bytes, size: int) -> None:
    """The parser yields requests or an HTTPError, the same for every split."""
    whole, pieces = summarize([data]), summarize(cut(data, size))
    assert pieces == whole


CODINGS = (
    *("gzip, chunked", "identity, chunked", "nonsense, chunked", "chunked, chunked"),
    *("chunked, gzip", "gzip", "identity", "", "chunked;q=1", "\x0bchunked", "xchunked"),
    *("chunked\r\nTransfer-Encoding: chunked", "chunked\r\nTransfer-Encoding:", "chunked,"),
    "gzip\r\nTransfer-Encoding: chunked",
)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("size", [1, 10_000])
def test_unsupported_transfer_codings(coding: str, size: int) -> None:
    """The answer is 501, and the body is never parsed as a request."""
    head = CHUNKED.replace(b"chunked", coding.encode())
    assert summarize(cut(head + b"0\r\n\r\n" + GET, size)) == [501]


@pytest.mark.parametrize("coding", ["chunked", "CHUNKED", "Chunked", "\t\tchunked \t"])
def test_chunked_in_any_spelling(coding: str) -> None:
    found = summarize([CHUNKED.replace(b" chunked", coding.encode()) + b"0\r\n\r\n"])
    assert found == [("POST", "/c", "HTTP/1.1", True), (b"", True)]


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /a HTTP/2.0", 505),
        (b"GET /a HTTP/0.9", 505),
        (b"PRI * HTTP/2.0", 505),
        (b"GET /a", 505),
        (b"GET /a HTTP/1.10", 400),
        (b"GET /a HTTP/01.1", 400),
        (b"GET /a http/1.1", 400),
        (b"GET /a b HTTP/1.1", 400),
        (b"get /a HTTP/1.1", 400),
        (b"\x16\x03\x01", 400),
    ],
)
def test_invalid_request_lines(line: bytes, status: int) -> None:
    assert summarize([line + b"\r\n" + HOST + b"\r\n"]) == [status]


def test_head_size_limits() -> None:
    """The limits are exact, whether the head arrives at once or byte by byte."""
    fields = LIMITS.fields - len(HOST) - len(b"X: \r\n")
    for extra, expected in ((0, [A]), (1, [431])):
        head = GET.replace(HOST, HOST + b"X: " + b"x" * (fields + extra) + b"\r\n")
        assert summarize([head]) == summarize(cut(head, 1)) == expected
    for extra, status in ((0, None), (1, 414)):
        target = b"/" + b"a" * (LIMITS.target - 1 + extra)
        data = GET.replace(b"/a", target)
        assert summarize([data]) == summarize(cut(data, 1))
        assert (summarize([data]) == [status]) == (status is not None)
    endless = b"GET /" + b"a" * (LIMITS.target + 100)
    assert summarize([endless]) == summarize(cut(endless, 1)) == [414]
    for extra, rejected in ((0, False), (1, True)):
        lines = b"".join(b"X%d: a\r\n" % i for i in range(MAX_FIELDS - 1 + extra))
        data = GET.replace(HOST, HOST + lines)
        assert (summarize([data]) == [431]) == rejected
        assert (summarize(cut(data, 1)) == [431]) == rejected


def test_an_invalid_head_is_rejected_before_it_is_complete() -> None:
    for start in (
        b"\x00",
        b"GET /\n\r\n",
        b"GET /\nX: y\r\n\r\n",
        b"GET / HTTP/1.1\n",
        b"GET / HTTP/1.1\r\nHost: a\n",
        b"a" * 40,
    ):
        assert summarize([start]) == [400]


def test_tiny_chunks_yield_small_pieces() -> None:
    """So the connection can yield to others after each event."""
    parser = RequestParser(LIMITS)
    parser.feed(CHUNKED + b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n")
    assert isinstance(parser.next_event(), Head)
    sizes = []
    while isinstance(event := parser.next_event(), Data):
        sizes.append(len(event.data))
    assert sum(sizes) == 50_000
    assert max(sizes) <= 400


@pytest.mark.parametrize(("name", "value"), [("AIOHTTP_NO_EXTENSIONS", "1")])
def test_the_compiled_parser_is_required(name: str, value: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wagi", "serve", "x.wasm"],
        env={**os.environ, name: value}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: aiohttp cannot be used without its compiled parser")
    assert "AIOHTTP_NO_EXTENSIONS" in done.stderr
    assert "Traceback" not in done.stderr
