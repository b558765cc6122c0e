"""Clients that are slow, idle, too many, or disconnected."""

from __future__ import annotations

import resource
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.support.server import ONE_WORKER, Server, read_all, serving
from tests.support.toolchains import missing
from tests.support.wat import HELLO, SPIN, TEXT_HEAD, Program

MANIFEST = """
[[module]]
route = "/hello"
module = "hello.wat"
[[module]]
route = "/spin"
module = "spin.wat"
timeout = 0
cpu_timeout = 0
[[module]]
route = "/sleep"
module = "sleep.wat"
timeout = 0
[[module]]
route = "/one"
module = "sleep.wat"
timeout = 0
max_concurrency = 1
queue_timeout = 0
[[module]]
route = "/read"
module = "read.wat"
[[module]]
route = "/flood"
module = "flood.wat"
timeout = 0
cpu_timeout = 0
"""
MODULES = {
    "hello.wat": HELLO,
    "spin.wat": Program().code(SPIN).wat(),
    "sleep.wat": Program().sleep(3_600_000).wat(),
    "read.wat": Program()
    .code("(loop $l (br_if $l (call $read)))")
    .write(TEXT_HEAD + "all\n")
    .wat(),
    "flood.wat": Program().write(TEXT_HEAD + "x" * 60_000).forever().wat(),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("slow")
    options = ("--header-timeout", "1", "--keep-alive", "2", "--min-body-rate", "1000")
    with serving(folder, MANIFEST, *options, modules=MODULES) as server:
        yield server


def seconds_until_closed(connection: socket.socket) -> tuple[float, bytes]:
    began = time.monotonic()
    received = read_all(connection)
    return time.monotonic() - began, received


def test_a_connection_without_a_request_is_closed(server: Server) -> None:
    with server.connect() as connection:
        seconds, received = seconds_until_closed(connection)
    assert received == b""
    assert 0.5 < seconds < 5


def test_a_head_that_trickles_in_times_out(server: Server) -> None:
    """Each byte arrives in time, but the head as a whole does not (slowloris)."""
    with server.connect() as connection:
        connection.sendall(b"GET /hello HTTP/1.1\r\nHost: a\r\n")
        began = time.monotonic()
        received = b""
        connection.settimeout(0.1)
        while time.monotonic() - began < 10:
            try:
                connection.sendall(b"X")
                received += connection.recv(65536)
            except TimeoutError:
                continue
            except ConnectionError:
                break
            if received:
                break
        assert time.monotonic() - began < 5
        connection.settimeout(10)
        received += read_all(connection)
    assert received.split(b" ")[1] == b"408"


def test_an_idle_connection_is_kept_and_then_closed(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"hello" in connection.recv(65536)
        time.sleep(1.2)  # longer than --header-timeout
        connection.sendall(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"hello" in connection.recv(65536)
        seconds, received = seconds_until_closed(connection)
    assert received == b""
    assert 1 < seconds < 6


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 100000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n186a0\r\n"]
)
def test_a_body_below_the_minimum_rate_is_rejected(server: Server, framing: bytes) -> None:
    """The average rate applies after a grace period of five seconds."""
    with server.connect() as connection:
        connection.sendall(b"POST /read HTTP/1.1\r\nHost: a\r\n" + framing)
        began = time.monotonic()
        connection.settimeout(0.1)
        received = b""
        while not received and time.monotonic() - began < 20:
            try:
                connection.sendall(b"12345678")
                received = connection.recv(65536)
            except TimeoutError:
                continue
        assert 4 < time.monotonic() - began < 12
        assert received.startswith(b"HTTP/1.1 408 ")
        assert b"Connection: close" in received


def test_a_slow_guest_is_not_counted_against_the_client(tmp_path: Path) -> None:
    """Only time spent waiting for the client counts towards the minimum rate."""
    slow = (
        Program().sleep(6500).code("(loop $l (br_if $l (call $read)))").write(TEXT_HEAD + "all\n")
    )
    manifest = '[[module]]\nroute = "/"\nmodule = "slow.wat"\n'
    options = ("--min-body-rate", "1MB")
    with serving(tmp_path, manifest, *options, modules={"slow.wat": slow.wat()}) as server:
        assert server.post("/", b"x" * 3_000_000).text == "all\n"


def test_more_connections_than_allowed_are_closed(tmp_path: Path) -> None:
    manifest = '[[module]]\nroute = "/hello"\nmodule = "hello.wat"\n'
    options = (*ONE_WORKER, "--max-connections", "20")
    with serving(tmp_path, manifest, *options, modules=MODULES) as server, ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(server.connect())
        time.sleep(0.3)
        for _ in range(5):
            with server.connect() as connection:
                assert read_all(connection) == b""
        server.wait_for_log(r"connection limit reached \(20\): closing new connections")
        assert server.log.count("connection limit reached") == 1
        stack.close()
        deadline = time.monotonic() + 10
        while True:
            try:
                assert server.get("/hello").text == "hello\n"
                break
            except ConnectionError:
                assert time.monotonic() < deadline


def test_thousands_of_idle_connections_do_not_slow_down_others(tmp_path: Path) -> None:
    """With 5,000 idle and 200 slow clients, another one is served as usual."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 5_400
    if hard < wanted:
        missing(f"the limit of open files is {hard}: raise it (ulimit -Hn {wanted})")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    manifest = '[[module]]\nroute = "/hello"\nmodule = "hello.wat"\n'
    options = ("--header-timeout", "60")
    with serving(tmp_path, manifest, *options, modules=MODULES) as server, ExitStack() as stack:
        for _ in range(5_000):
            stack.enter_context(server.connect())
        slow = [stack.enter_context(server.connect()) for _ in range(200)]
        for _ in range(20):
            for connection in slow:
                connection.sendall(b"GET")
            began = time.monotonic()
            assert server.get("/hello").text == "hello\n"
            # A few milliseconds on an idle machine; with a blocked worker, minutes.
            assert time.monotonic() - began < 5


def reset(connection: socket.socket) -> None:
    """Close with a reset, as the kernel does for a killed client."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


BIG = b"Content-Length: 5000000\r\n\r\n" + b"x" * 400_000
STAGES = {
    "queued": b"GET /one?queued HTTP/1.1\r\nHost: a\r\n\r\n",
    "sleeping": b"GET /sleep?sleeping HTTP/1.1\r\nHost: a\r\n\r\n",
    "running": b"GET /spin?running HTTP/1.1\r\nHost: a\r\n\r\n",
    "reading": b"POST /read?reading HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello",
    "spooling": b"POST /read?spooling HTTP/1.1\r\nHost: a\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n5\r\n",
    "streaming": b"GET /flood?streaming HTTP/1.1\r\nHost: a\r\n\r\n",
    # While the body is not read, the event loop does not learn of the disconnect.
    "unread": b"POST /sleep?unread HTTP/1.1\r\nHost: a\r\n" + BIG,
}


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_disconnect_ends_the_guest(server: Server, stage: str, how: str) -> None:
    """At every stage: the access log immediately has a 499."""
    with ExitStack() as stack:
        if stage == "queued":
            first = stack.enter_context(server.connect())
            first.sendall(b"GET /one?first HTTP/1.1\r\nHost: a\r\n\r\n")
            time.sleep(0.3)
        connection = server.connect()
        data = STAGES[stage].replace(b"?" + stage.encode(), f"?{stage}-{how}".encode())
        connection.settimeout(0.5)
        try:
            connection.sendall(data)
        except TimeoutError:
            assert stage == "unread"
        time.sleep(0.4)
        if how == "reset":
            reset(connection)
        else:
            connection.close()
        server.wait_for_access(rf'\?{stage}-{how} HTTP/1.1" 499 ', seconds=5)


def test_a_client_that_never_reads_releases_its_slot(tmp_path: Path) -> None:
    """Timeouts end its pipelined requests, and others are served."""
    page = TEXT_HEAD + "x" * 30_000
    manifest = '[defaults]\ntimeout = 1\n[[module]]\nroute = "/"\nmodule = "page.wat"\n'
    modules = {"page.wat": Program().write(page).wat()}
    options = ("--max-concurrency", "4")
    with serving(tmp_path, manifest, *options, modules=modules) as server, ExitStack() as stack:
        for _ in range(20):
            connection = socket.socket()
            stack.enter_context(connection)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(2)
            connection.connect((server.host, server.port))
            with suppress(TimeoutError):
                connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2000)
        with ThreadPoolExecutor(8) as pool:
            for answer in pool.map(lambda _: server.get("/"), range(40)):
                assert answer.status == 200
                assert len(answer.body) == len(page) - len(TEXT_HEAD)


@pytest.mark.parametrize("path", ["/none", "/healthz", "/hello"])
def test_a_client_that_never_reads_uses_little_memory(tmp_path: Path, path: str) -> None:
    """Back-pressure applies to the gateway's own responses as well as to those of guests."""
    manifest = '[[module]]\nroute = "/hello"\nmodule = "hello.wat"\n'
    with serving(tmp_path, manifest, *ONE_WORKER, modules=MODULES) as server:
        assert server.get("/hello").text == "hello\n"
        before = server.rss()
        requests = f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode() * 1000
        with server.connect() as connection:
            connection.settimeout(0.5)
            with suppress(TimeoutError):
                for _ in range(1000):
                    connection.sendall(requests)
                pytest.fail("42 MB of requests were accepted from a client that never reads")
            assert server.rss() < before + (16 << 20)
        assert server.get("/hello").text == "hello\n"
