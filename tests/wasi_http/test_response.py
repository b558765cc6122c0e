"""From what a handler of wasi:http sets to the bytes of a response."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.http.channels import MemoryChannel, request, without_date
from wagi.cgi.response import BadResponse, ResponseParser
from wagi.guest.http_exchange import HttpExchange, HttpRequest
from wagi.http.response import ResponseWriter
from wagi.wasi_http.response import HandlerResponse, header_block

pytestmark = pytest.mark.fast
LIMIT = 200
REQUEST = HttpRequest("GET", "/", "http", "localhost", ())


class Handler:
    """Sets a response step by step, as host calls do."""

    def __init__(self, method: str = "GET", protocol: str = "HTTP/1.1", **headers: str) -> None:
        self.exchange = HttpExchange(REQUEST)
        self.channel, self.warnings = MemoryChannel(), list[str]()
        received = request(method, protocol, channel=self.channel)
        received.head = received.head._replace(headers=headers)
        source = HandlerResponse(self.exchange, LIMIT)
        self.writer = ResponseWriter(received, source, self.warnings)

    def set(self, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
        self.exchange.status, self.exchange.headers = status, headers

    def write(self, data: bytes) -> None:
        self.writer.feed(data)

    def complete(self, *trailers: tuple[bytes, bytes]) -> None:
        self.exchange.is_finished, self.exchange.trailers = True, trailers

    def suspend(self) -> bytes:
        asyncio.run(self.writer.flush())
        return self.written()

    def end(self) -> bytes:
        self.writer.finish()
        return self.written()

    def written(self) -> bytes:
        written, self.channel.written = without_date(self.channel.written), b""
        return written


def test_a_whole_response_is_one_write() -> None:
    handler = Handler()
    handler.set(201, (b"x-a", b"1"), (b"set-cookie", b"a"), (b"set-cookie", b"b"))
    handler.write(b"bo")
    handler.write(b"dy")
    handler.complete()
    assert handler.end() == (
        b"HTTP/1.1 201 Created\r\nx-a: 1\r\nset-cookie: a\r\nset-cookie: b\r\n"
        b"Server: wagi\r\nContent-Length: 4\r\n\r\nbody"
    )


def test_a_response_streams() -> None:
    handler = Handler()
    handler.write(b"early")
    assert handler.suspend() == b"", "no response was set"
    handler.set()
    assert handler.suspend().endswith(b"Transfer-Encoding: chunked\r\n\r\n5\r\nearly\r\n")
    handler.write(b"late")
    assert handler.suspend() == b"4\r\nlate\r\n"
    assert not handler.writer.is_complete
    handler.complete()
    assert handler.suspend() == b"0\r\n\r\n", "the client need not wait for the end of the guest"
    assert handler.writer.is_complete
    assert handler.suspend() == b""
    assert handler.end() == b""
    assert handler.channel.aborted is None


def test_a_finished_response_of_a_running_guest_has_a_length() -> None:
    handler = Handler()
    handler.set()
    handler.write(b"body")
    handler.complete()
    assert handler.suspend().endswith(b"Content-Length: 4\r\n\r\nbody")
    assert handler.end() == b""


@pytest.mark.parametrize("streams", [False, True])
def test_an_unfinished_body_breaks_the_connection(streams: bool) -> None:
    handler = Handler()
    handler.set()
    handler.write(b"half")
    written = handler.suspend() if streams else b""
    written += handler.end()
    assert written.endswith(b"chunked\r\n\r\n4\r\nhalf\r\n")
    assert handler.channel.aborted is True
    assert handler.warnings == ["the handler ended before it finished the response body"]


@pytest.mark.parametrize("is_abandoned", [False, True])
@pytest.mark.parametrize("streams", [False, True])
def test_a_body_of_which_nothing_was_written(streams: bool, is_abandoned: bool) -> None:
    """It is empty, unless the handler has dropped it."""
    handler = Handler()
    handler.set(500)
    handler.exchange.is_abandoned = is_abandoned
    written = handler.suspend() if streams else b""
    written += handler.end()
    assert handler.channel.aborted is (True if is_abandoned else None)
    complete = b"chunked\r\n\r\n0\r\n\r\n" if streams else b"Content-Length: 0\r\n\r\n"
    assert written.endswith(complete) is not is_abandoned


@pytest.mark.parametrize("length", [b"3", b"5"])
def test_a_wrong_content_length(length: bytes) -> None:
    handler = Handler()
    handler.set(200, (b"content-length", length))
    handler.write(b"body")
    handler.complete()
    written = handler.end()
    assert written.endswith(b"Content-Length: %b\r\n\r\n%b" % (length, b"body"[: int(length)]))
    assert handler.channel.aborted is (True if length == b"5" else None)
    assert len(handler.warnings) == 1


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
@pytest.mark.parametrize("is_finished", [False, True])
def test_responses_without_a_body(method: str, status: int, is_finished: bool) -> None:
    handler = Handler(method)
    handler.set(status, (b"x", b"y"))
    handler.write(b"body")
    if is_finished:
        handler.complete()
    assert handler.end().endswith(b"\r\n\r\n")
    assert handler.channel.aborted is None
    assert handler.writer.is_complete


def test_trailers_are_sent_if_the_client_accepts_them() -> None:
    fields = ((b"grpc-status", b"0"), (b"content-length", b"1"), (b"x", b"a\r\nb: c"))
    for accepted in (False, True):
        handler = Handler(**({"TE": "gzip, Trailers"} if accepted else {}))
        handler.set()
        handler.write(b"body")
        handler.complete(*fields)
        expected = b"grpc-status: 0\r\n" if accepted else b""
        assert handler.end().endswith(b"\r\n4\r\nbody\r\n0\r\n" + expected + b"\r\n")


def test_no_response() -> None:
    handler = Handler()
    handler.write(b"body without a head")
    with pytest.raises(BadResponse, match="without setting a response") as caught:
        handler.end()
    assert caught.value.status == 500


def test_an_error_of_the_handler() -> None:
    handler = Handler()
    handler.exchange.error = "internal-error: \x1b no database"
    for call in (handler.suspend, handler.end):
        with pytest.raises(BadResponse, match=r"^The handler reported an error\.$") as caught:
            call()
        assert caught.value.status == 502
        assert r"'internal-error: \x1b no database'" in caught.value.reason


@pytest.mark.parametrize("status", [100, 101, 199, 600, 999])
def test_status_codes_that_cannot_end_a_request(status: int) -> None:
    handler = Handler()
    handler.set(status)
    handler.complete()
    with pytest.raises(BadResponse, match="not from 200 to 599") as caught:
        handler.end()
    assert caught.value.status == 502


def test_headers_that_are_not_sent() -> None:
    names = (b"Connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"te", b"trailer")
    handler = Handler()
    handler.set(200, *((name, b"x") for name in (*names, b"proxy-connection")), (b"a", b"b"))
    handler.complete()
    head = handler.end()
    assert head == b"HTTP/1.1 200 OK\r\na: b\r\nServer: wagi\r\nContent-Length: 0\r\n\r\n"
    assert not handler.warnings


@pytest.mark.parametrize(
    "field", [(b"a\r\nb", b"c"), (b"a", b"b\r\nc: d"), (b"a", b"\0"), (b"", b"a"), (b"a b", b"c")]
)
def test_headers_cannot_split_the_response(field: tuple[bytes, bytes]) -> None:
    """Host calls reject them; this is the second line of defence."""
    handler = Handler()
    handler.set(200, field)
    handler.complete()
    assert handler.end() == b"HTTP/1.1 200 OK\r\nServer: wagi\r\nContent-Length: 0\r\n\r\n"
    assert len(handler.warnings) == 1


def test_the_size_of_the_headers_is_limited() -> None:
    for size in (LIMIT, LIMIT + 1):
        handler = Handler()
        handler.set(200, (b"a", b"b" * (size - 1)))
        handler.complete()
        if size == LIMIT:
            assert b"bbb" in handler.end()
        else:
            with pytest.raises(BadResponse, match=r"header_limit") as caught:
                handler.end()
            assert caught.value.status == 500


def test_http_1_0_ends_with_the_connection() -> None:
    handler = Handler(protocol="HTTP/1.0")
    handler.set()
    handler.write(b"a")
    assert handler.suspend().endswith(b"\r\n\r\na")
    handler.complete((b"x", b"y"))
    assert handler.end() == b""
    assert handler.channel.closes


def test_a_large_head_is_not_cached() -> None:
    fields: Any = ((b"a", b"b" * 600),)
    handler = Handler()
    handler.exchange.status, handler.exchange.headers = 200, fields
    source = HandlerResponse(handler.exchange, 1000)
    head = source.head()
    assert head is not None
    assert not head.is_small


def test_the_head_in_records() -> None:
    handler = Handler()
    assert header_block(handler.exchange) == b""
    handler.set(404, (b"a", b"b"), (b"c", b"d"))
    block = header_block(handler.exchange)
    assert block == b"Status: 404\na: b\nc: d\n\n"
    parser = ResponseParser(LIMIT)
    parser.feed(block + b"body")
    head = parser.end()
    assert (head.status, head.headers, parser.take_body()) == (
        404,
        ((b"a", b"b"), (b"c", b"d")),
        b"body",
    )
