"""Connections: responses in request order, however the bytes are split."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tests.http.channels import MemoryTransport, without_date
from wagi.http.connection import Connection
from wagi.http.errors import HTTPError
from wagi.http.forwarded import TrustedProxies
from wagi.http.options import HeadLimits, HttpOptions
from wagi.http.request import Request
from wagi.http.response import send_text
from wagi.http.server import HttpServer
from wagi.http.tasks import enter_task

pytestmark = pytest.mark.fast
OPTIONS = HttpOptions(
    HeadLimits(1000, 4000),
    header_timeout=10,
    keep_alive=20,
    connections=10,
    proxies=TrustedProxies(),
)


async def answer(request: Request) -> None:
    """Echo the target and body; the target selects how the body is read."""
    head, body = request.head, b""
    if head.target != "/at-once":
        await enter_task()
    if head.target == "/slow":
        await asyncio.sleep(0)
    if head.target != "/unread":
        try:
            body = request.body.take()
            while not request.body.is_exhausted:
                await request.body.wait()
                body += request.body.take()
        except HTTPError as error:
            send_text(request, error.status, "bad body", closes=True)
            return
    send_text(request, HTTPStatus.OK, f"{head.method} {head.target} {body!r}")


def reject(request: Request, error: HTTPError) -> None:
    send_text(request, error.status, "not HTTP", closes=True)


class Client:
    """The client's end of an in-memory connection."""

    def __init__(self, server: HttpServer | None = None) -> None:
        self.server = server or HttpServer(answer, reject, OPTIONS)
        self.transport = MemoryTransport()
        self.connection: Connection = self.server()
        self.connection.connection_made(self.transport)

    @property
    def received(self) -> bytes:
        return without_date(self.transport.written)

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            if self.transport.closed:
                return
            assert not self.transport.is_paused
            self.connection.data_received(piece)
            await settle()


async def settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


def exchange(*pieces: bytes) -> tuple[bytes, bool]:
    """Send the pieces; return what was received, and whether the connection was closed."""

    async def run() -> tuple[bytes, bool]:
        client = Client()
        await client.send(*pieces)
        return client.received, client.transport.closed or client.transport.has_eof

    return asyncio.run(run())


HOST = b"Host: a\r\n"


def get(target: str, fields: bytes = b"") -> bytes:
    return b"GET " + target.encode() + b" HTTP/1.1\r\n" + HOST + fields + b"\r\n"


def post(target: str, body: bytes, fields: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    return b"POST " + target.encode() + b" HTTP/1.1\r\n" + HOST + length + fields + b"\r\n" + body


def chunked(target: str, *chunks: bytes) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    return (
        b"POST " + target.encode() + b" HTTP/1.1\r\n" + HOST
        + b"Transfer-Encoding: chunked\r\n\r\n" + body
    )  # fmt: skip


GOOD = [
    get("/at-once"),
    get("/slow"),
    get("/at-once", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"),
    post("/at-once", b""),
    post("/read", b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"),
    post("/unread", b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"),
    post("/slow", b"x", b"Connection: Upgrade\r\nUpgrade: websocket\r\n"),
    chunked("/read", b"one", b"\r\n\r\n", b"x" * 300),
    chunked("/unread", b"one", b"two"),
    b"HEAD /slow HTTP/1.1\r\n" + HOST + b"\r\n",
]
LAST = [
    get("/at-once", b"Connection: close\r\n"),
    get("/slow", b"Connection: close\r\n"),
    post("/unread", b"body", b"Connection: close\r\n"),
    b"GET /at-once HTTP/1.0\r\n\r\n",
    b"nonsense\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    get("/at-once").replace(b"\r\n", b"\n"),
    chunked("/read", b"x").replace(b"1\r\nx", b"z"),
    post("/read", b"x", b"Content-Length: 2\r\n"),
]


class AnySplit(RuleBasedStateMachine):
    """However a pipeline is split, the responses equal those of sequential requests."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.client = self.run(self.connect)
        self.sent = b""
        self.expected = b""
        self.ended = False
        self.unsent = b""

    def run(self, work: Callable[[], object]) -> Client:
        async def call() -> object:
            return work()

        return self.loop.run_until_complete(call())  # type: ignore[return-value]

    @staticmethod
    def connect() -> Client:
        return Client()

    @rule(request=st.sampled_from(GOOD))
    def add(self, request: bytes) -> None:
        self.unsent += request
        if not self.ended:
            self.expected += exchange(request)[0]

    @rule(request=st.sampled_from(LAST))
    def add_last(self, request: bytes) -> None:
        self.unsent += request
        if not self.ended:
            received, has_ended = exchange(request)
            assert has_ended
            self.expected += received
            self.ended = True

    @rule(size=st.integers(1, 200), passes=st.integers(0, 8))
    def send(self, size: int, passes: int) -> None:
        piece, self.unsent = self.unsent[:size], self.unsent[size:]
        if piece and not self.client.transport.closed:
            self.run(lambda: self.client.connection.data_received(piece))
        for _ in range(passes):
            self.loop.run_until_complete(asyncio.sleep(0))
        assert self.expected.startswith(self.client.received)

    def teardown(self) -> None:
        if not self.client.transport.closed:
            self.run(lambda: self.client.connection.data_received(self.unsent))
        for _ in range(100):
            if self.client.received == self.expected:
                break
            self.loop.run_until_complete(settle())
        self.loop.run_until_complete(settle())
        assert self.client.received == self.expected
        transport = self.client.transport
        assert (transport.closed or transport.has_eof) == self.ended
        self.run(lambda: self.client.connection.connection_lost(None))
        self.loop.run_until_complete(settle())
        self.loop.close()


AnySplit.TestCase.settings = settings(
    max_examples=settings().max_examples * 6 // 10, stateful_step_count=25
)
TestAnySplit = AnySplit.TestCase


def test_a_request_that_never_waits_creates_no_task() -> None:
    async def run() -> None:
        tasks = asyncio.all_tasks()
        client = Client()
        client.connection.data_received(get("/at-once") * 3)
        for _ in range(6):
            assert asyncio.all_tasks() == tasks
            await asyncio.sleep(0)
        assert client.received.count(b"HTTP/1.1 200") == 3

    asyncio.run(run())


def test_responses_are_sent_in_request_order() -> None:
    received, _ = exchange(get("/slow") + get("/at-once"))
    assert received.index(b"/slow") < received.index(b"/at-once")


def test_a_disconnect_cancels_the_request() -> None:
    cancelled: list[str] = []

    async def wait(request: Request) -> None:
        await enter_task()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(request.head.target)
            raise

    async def run() -> None:
        client = Client(HttpServer(wait, reject, OPTIONS))
        await client.send(get("/a"))
        client.connection.connection_lost(None)
        await settle()

    asyncio.run(run())
    assert cancelled == ["/a"]


def test_an_unread_body_pauses_reading() -> None:
    """Reading resumes when there is room, and nothing is lost."""
    release = asyncio.Event()

    async def read(request: Request) -> None:
        await enter_task()
        await release.wait()
        await answer(request)

    async def run() -> None:
        client = Client(HttpServer(read, reject, OPTIONS))
        body = b"q" * 400_000
        await client.send(post("/read", body)[:300_000])
        assert client.transport.is_paused
        release.set()
        await settle()
        assert not client.transport.is_paused
        await client.send(post("/read", body)[300_000:])
        assert client.received.count(b"q") == len(body)

    asyncio.run(run())


def test_pipelined_requests_pause_reading() -> None:
    async def wait(request: Request) -> None:
        await enter_task()
        await asyncio.sleep(60)

    async def run() -> None:
        client = Client(HttpServer(wait, reject, OPTIONS))
        await client.send(get("/a") * 5000)
        assert client.transport.is_paused
        assert client.connection in client.server.paused
        client.connection.connection_lost(None)
        assert not client.server.paused
        await settle()

    asyncio.run(run())


def test_a_client_that_reads_no_responses_gets_back_pressure() -> None:
    """Neither responses nor requests pile up; both resume when the client reads."""

    async def run() -> None:
        client = Client()
        client.connection.pause_writing()
        await client.send(get("/at-once") * 100)
        assert client.received == b""
        for _ in range(100):
            if client.transport.is_paused:
                break
            await client.send(get("/at-once") * 100)
        assert client.transport.is_paused
        assert client.received == b""
        client.connection.resume_writing()
        for _ in range(100):
            if not client.transport.is_paused:
                break
            await settle()
        assert client.received.startswith(b"HTTP/1.1 200")
        assert not client.transport.is_paused

    asyncio.run(run())


def test_a_large_head_is_read_completely() -> None:
    """Reading pauses between pipelined requests, never within a head."""
    options = replace(OPTIONS, head=HeadLimits(1000, 200_000))
    head = get("/at-once", b"X: " + b"x" * 150_000 + b"\r\n")

    async def run(size: int) -> None:
        client = Client(HttpServer(answer, reject, options))
        await client.send(*(head[at : at + size] for at in range(0, len(head), size)))
        assert client.received.startswith(b"HTTP/1.1 200")

    for size in (1 << 16, 1 << 14, 50_000, len(head)):
        asyncio.run(run(size))


def test_a_long_pipeline_yields_to_the_event_loop() -> None:
    """A connection with thousands of pipelined requests does not starve the others."""

    async def run() -> None:
        busy, other = Client(), Client()
        busy.connection.data_received(get("/at-once") * 2000)
        other.connection.data_received(get("/at-once"))
        for _ in range(20):
            if other.received:
                break
            await asyncio.sleep(0)
        assert other.received
        assert busy.received.count(b"HTTP/1.1 200") < 2000

    asyncio.run(run())


def test_closing_after_an_error_lingers() -> None:
    """The rest of the input is discarded, so that the client can still read the response."""

    async def run() -> None:
        client = Client()
        await client.send(get("/at-once", b"Connection: close\r\n") + b"more")
        assert client.transport.has_eof
        assert not client.transport.closed
        await client.send(b"and more")
        assert client.received.count(b"HTTP/1.1") == 1

    asyncio.run(run())


def test_connection_limit() -> None:
    async def run() -> None:
        server = HttpServer(answer, reject, OPTIONS)
        clients = [Client(server) for _ in range(OPTIONS.connections + 1)]
        assert [client.transport.closed for client in clients] == [False] * 10 + [True]
        clients[0].connection.connection_lost(None)
        assert not Client(server).transport.closed

    asyncio.run(run())


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (b"", b""),
        (b"GET / HTTP/1.1\r\nHost", b"HTTP/1.1 408 "),
        (get("/at-once"), b"HTTP/1.1 200 "),
    ],
)
def test_timeouts(start: bytes, expected: bytes) -> None:
    """An idle connection is closed silently; an incomplete head gets a 408."""
    options = replace(OPTIONS, header_timeout=0.02, keep_alive=0.02)

    async def run() -> None:
        client = Client(HttpServer(answer, reject, options))
        await client.send(start)
        await asyncio.sleep(0.2)
        assert client.received.startswith(expected)
        assert client.transport.closed or client.transport.has_eof

    asyncio.run(run())


def test_small_writes_do_not_wait_for_acknowledgements() -> None:
    """Nagle's algorithm is off, though the listening socket was made without a protocol."""

    async def run() -> None:
        server = HttpServer(answer, reject, OPTIONS)
        listener = socket.create_server(("127.0.0.1", 0))
        assert listener.proto == 0
        async with await asyncio.get_running_loop().create_server(server, sock=listener):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(get("/at-once"))
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            (connection,) = server._connections
            assert connection.descriptor is not None
            with socket.socket(fileno=os.dup(connection.descriptor)) as accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            writer.close()
            await writer.wait_closed()

    asyncio.run(run())


def test_connections_of_unix_sockets(tmp_path: Path) -> None:
    async def run() -> None:
        server, path = HttpServer(answer, reject, OPTIONS), str(tmp_path / "socket")
        async with await asyncio.get_running_loop().create_unix_server(server, path):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(get("/at-once"))
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            writer.close()
            await writer.wait_closed()

    asyncio.run(run())
