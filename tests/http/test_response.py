"""From a guest's output to the bytes of a response."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from http.client import HTTPResponse
from io import BytesIO
from typing import Any, cast

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.http.channels import MemoryChannel, request, without_date
from wagi.cgi.response import BadResponse, ResponseParser
from wagi.http.response import ResponseWriter, send_text

pytestmark = pytest.mark.fast
LIMIT = 200
HEAD = b"Content-Type: a/b\n\n"


class _Socket:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> BytesIO:
        return BytesIO(self._data)


def parse(data: bytes, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """Parse a response as a client does: status, headers, body."""
    response = HTTPResponse(cast(Any, _Socket(data)), method=method)
    response.begin()
    return response.status, dict(response.getheaders()), response.read()


def respond(
    output: bytes, method: str = "GET", protocol: str = "HTTP/1.1", cuts: tuple[int, ...] = ()
) -> tuple[MemoryChannel, list[str]]:
    """Respond to ``output``, flushed at each offset in ``cuts``."""
    channel, warnings = MemoryChannel(), list[str]()
    writer = ResponseWriter(
        request(method, protocol, channel=channel), ResponseParser(LIMIT), warnings
    )
    pieces = [output[a:b] for a, b in zip((0, *cuts), (*cuts, None), strict=True)]

    async def run() -> None:
        for piece in pieces[:-1]:
            writer.feed(piece)
            await writer.flush()
        writer.feed(pieces[-1])
        writer.finish()
        await writer.drain()

    asyncio.run(run())
    return channel, warnings


def test_a_streamed_head_is_sent_with_the_first_piece() -> None:
    """Without a packet of its own."""
    output = b"Content-Type: text/plain\n\nfirst second"
    channel, _ = respond(output, cuts=(len(output) - len(b" second"),))
    pieces = [b"first", b" second", b""]
    assert channel.writes == len(pieces)
    assert channel.written.endswith(b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces))


def test_whole_output_is_one_write() -> None:
    channel, _ = respond(HEAD + b"body")
    assert without_date(channel.written) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nServer: wagi\r\nContent-Length: 4\r\n\r\nbody"
    )


def test_output_in_pieces_is_chunked() -> None:
    channel, _ = respond(HEAD + b"one" + b"two", cuts=(len(HEAD) + 3,))
    head, _, body = channel.written.partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert body == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"


def test_output_in_pieces_for_http_1_0_ends_with_the_connection() -> None:
    channel, _ = respond(HEAD + b"one" + b"two", protocol="HTTP/1.0", cuts=(len(HEAD) + 3,))
    head, _, body = channel.written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"Transfer-Encoding" not in head
    assert b"Content-Length" not in head
    assert body == b"onetwo"
    assert channel.closes


@pytest.mark.parametrize("cuts", [(), (30,)])
def test_bytes_above_127_are_passed_on(cuts: tuple[int, ...]) -> None:
    output = b"Status: 200\nX-Name: caf\xe9\xff\n\nbody"
    channel, _ = respond(output, cuts=cuts)
    assert b"\r\nX-Name: caf\xe9\xff\r\n" in channel.written


@pytest.mark.parametrize("cuts", [(), (len(HEAD) + 25,)])
@pytest.mark.parametrize(
    ("body", "aborted", "warning"),
    [
        (b"12345", None, None),
        (b"1234567", None, "output beyond the Content-Length was cut"),
        (b"1234", True, "the body ended 1 bytes before its Content-Length"),
        (b"", True, "the body ended 5 bytes before its Content-Length"),
    ],
)
def test_a_content_length_from_the_guest(
    body: bytes, aborted: bool | None, warning: str | None, cuts: tuple[int, ...]
) -> None:
    """The client gets exactly that many bytes, or the connection is aborted."""
    output = b"Content-Length: 5\nStatus: 200\nX: 123456\n\n" + body
    channel, warnings = respond(output, cuts=tuple(min(cut, len(output)) for cut in cuts))
    assert b"Content-Length: 5\r\n" in channel.written
    assert channel.written.endswith(b"\r\n\r\n" + body[:5])
    assert channel.aborted is aborted
    assert warnings == ([warning] if warning else [])


@pytest.mark.parametrize("cuts", [(), (34,)])
@pytest.mark.parametrize(
    ("method", "status", "length"),
    [
        ("GET", 204, None),
        ("GET", 205, "0"),
        ("GET", 304, None),
        ("HEAD", 200, "4"),
        ("HEAD", 204, None),
    ],
)
def test_responses_without_a_body(
    method: str, status: int, length: str | None, cuts: tuple[int, ...]
) -> None:
    channel, _ = respond(b"Status: %d\nContent-Type: a/b\n\nbody" % status, method, cuts=cuts)
    found, headers, body = parse(channel.written, method)
    assert (found, body) == (status, b"")
    assert channel.written.endswith(b"\r\n\r\n")
    assert "Transfer-Encoding" not in headers
    if cuts and method == "HEAD":
        length = None  # the head was sent before the length was known
    assert headers.get("Content-Length") == length


@pytest.mark.parametrize(
    ("protocol", "keep_alive", "field"),
    [
        ("HTTP/1.1", True, None),
        ("HTTP/1.1", False, "close"),
        ("HTTP/1.0", True, "keep-alive"),
        ("HTTP/1.0", False, None),
    ],
)
def test_connection_field(protocol: str, keep_alive: bool, field: str | None) -> None:
    channel = MemoryChannel()
    sent = request("GET", protocol, keep_alive, channel)
    send_text(sent, HTTPStatus.OK, "text", (("X", "y"),))
    status, headers, body = parse(channel.written)
    assert (status, body, headers["X"]) == (200, b"text", "y")
    assert headers.get("Connection") == field
    assert channel.closes is not keep_alive


def test_a_draining_server_closes_connections() -> None:
    channel = MemoryChannel()
    channel.is_draining = True
    send_text(request(channel=channel), HTTPStatus.OK, "text")
    assert parse(channel.written)[1]["Connection"] == "close"
    assert channel.closes


def test_a_slow_client_blocks_the_writer() -> None:
    """Each flush waits until the client has read; at most one write is buffered."""
    channel = MemoryChannel(capacity=10)
    writer = ResponseWriter(request(channel=channel), ResponseParser(LIMIT), [])
    writer.feed(HEAD + b"x" * 50)
    assert writer.fits_in_one_write
    asyncio.run(writer.flush())
    assert channel.drains == 1


def test_large_output_takes_several_writes() -> None:
    writer = ResponseWriter(request(), ResponseParser(LIMIT), [])
    writer.feed(HEAD + b"x" * 40_000)
    assert not writer.fits_in_one_write


class AnySplit(RuleBasedStateMachine):
    """However output is fed and flushed, the response is the same."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.channel = MemoryChannel()
        self.warnings: list[str] = []
        self.output = b""
        self.fed = 0
        self.failed: tuple[int, str] | None = None

    @initialize(
        method=st.sampled_from(["GET", "HEAD"]),
        protocol=st.sampled_from(["HTTP/1.1", "HTTP/1.0"]),
        head=st.lists(
            st.sampled_from(
                [b"Content-Type: a/b", b"Status: 204", b"Status: 205", b"Status: 404 x", b"X: y",
                 b"Content-Length: 10", b"Content-Length: 0", b"Location: /", b"nonsense",
                 b"Date: today", b"Server: mine", b"X: " + b"z" * 150]
            ), max_size=4,
        ),
        body=st.binary(max_size=30),
    )  # fmt: skip
    def begin(self, method: str, protocol: str, head: list[bytes], body: bytes) -> None:
        self.method, self.protocol = method, protocol
        self.output = b"\n".join([*head, b"", b""]) + body
        self.writer = ResponseWriter(
            request(method, protocol, channel=self.channel), ResponseParser(LIMIT), self.warnings
        )

    @precondition(lambda self: self.failed is None)
    @rule(size=st.integers(0, 40), flush=st.booleans())
    def feed(self, size: int, flush: bool) -> None:
        self.writer.feed(self.output[self.fed : self.fed + size])
        self.fed += size
        if flush:
            self.run(self.writer.flush())

    @precondition(lambda self: self.failed is not None)
    @rule()
    def do_nothing(self) -> None:
        """The error response has been sent; nothing more can happen."""

    def teardown(self) -> None:
        if self.failed is None and hasattr(self, "writer"):
            self.writer.feed(self.output[self.fed :])
            self.run(self.finish())
        self.runner.close()
        if self.failed is None and hasattr(self, "writer"):
            self.compare()

    async def finish(self) -> None:
        self.writer.finish()
        await self.writer.drain()

    def run(self, work: Any) -> None:
        try:
            self.runner.run(work)
        except BadResponse as error:
            self.failed = (error.status, str(error))
            with pytest.raises(BadResponse) as same:
                respond(self.output, self.method, self.protocol)
            assert self.failed == (same.value.status, str(same.value))

    def compare(self) -> None:
        whole, warnings = respond(self.output, self.method, self.protocol)
        assert self.channel.aborted == whole.aborted
        assert self.warnings == warnings
        if whole.aborted is not None:
            return
        status, headers, body = parse(self.channel.written, self.method)
        expected_status, expected_headers, expected_body = parse(whole.written, self.method)
        assert (status, body) == (expected_status, expected_body)
        for framing in ("Content-Length", "Transfer-Encoding", "Connection", "Date"):
            headers.pop(framing, None)
            expected_headers.pop(framing, None)
        assert headers == expected_headers
        assert self.writer.status == status
        assert self.writer.sent == len(body)

    @invariant()
    def nothing_is_sent_before_the_head_is_known(self) -> None:
        assert not self.channel.written or self.channel.written.startswith(b"HTTP/1.")


TestAnySplit = AnySplit.TestCase
