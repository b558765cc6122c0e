"""Clients that send bodies in one-byte chunks, which are slow to parse, do not block others."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.server import ONE_WORKER, Server, read_all, serving
from tests.support.toolchains import HANDLERS, compiled
from tests.support.wat import HELLO
from tests.support.wire import replies_in

CLIENTS = 10
CHUNKS = 100_000
"""Chunks of a body, which is 600 kB including chunk sizes and line ends."""
MAX_WAIT = 0.25
"""Seconds. A connection may use the event loop for about a millisecond at a time; without this
limit, another request waited for 0.7 s."""
ATTEMPTS = 5
MANIFEST = """
[[module]]
route = "/hello"
module = "hello.wat"
[[module]]
route = "/cat"
module = "cat.wasm"
"""
BODY = b"1\r\nx\r\n" * CHUNKS + b"0\r\n\r\n"
ATTACK = (
    b"POST /cat?count HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n" + BODY
)

pytestmark = pytest.mark.xdist_group("one-byte-chunks")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    modules: dict[str, str | bytes] = {"hello.wat": HELLO}
    modules["cat.wasm"] = compiled(HANDLERS / "cat.c").read_bytes()
    folder = tmp_path_factory.mktemp("chunks")
    with serving(folder, MANIFEST, *ONE_WORKER, modules=modules) as server:
        yield server


def test_others_are_served_meanwhile(server: Server) -> None:
    """The best of a few attempts counts, to allow for a busy machine."""
    waits = []
    for _ in range(ATTEMPTS):
        wait, seconds, count = longest_wait(server)
        print(
            f"the longest of {count} requests took {wait:.3f} s while {CLIENTS} clients sent"
            f" {len(ATTACK)} bytes each, which took {seconds:.3f} s"
        )
        waits.append(wait)
        if wait <= MAX_WAIT:
            return
    raise AssertionError(f"another request waited for {min(waits):.3f} s at best: {waits}")


def longest_wait(server: Server) -> tuple[float, float, int]:
    """Request /hello repeatedly while all clients send their bodies.

    Returns:
        The seconds of the slowest request and of the attack, and the number of requests.
    """
    start = threading.Barrier(CLIENTS + 1)
    answers: list[bytes] = []

    def attack() -> None:
        with server.connect() as connection:
            start.wait(10)
            connection.sendall(ATTACK)
            answers.append(read_all(connection))

    threads = [threading.Thread(target=attack) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    waits = []
    with server.connect() as connection:
        hello(connection)
        start.wait(10)
        began = time.monotonic()
        while any(thread.is_alive() for thread in threads):
            waits.append(hello(connection))
        seconds = time.monotonic() - began
    assert [replies_in(answer, True) for answer in answers] == [(f"{CHUNKS}\n",)] * CLIENTS
    return max(waits), seconds, len(waits)


def hello(connection: socket.socket) -> float:
    """Request /hello on an open connection; return the duration in seconds."""
    began = time.monotonic()
    connection.sendall(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
    received = b""
    while not received.endswith(b"\r\n\r\nhello\n"):
        piece = connection.recv(65536)
        assert piece, received
        received += piece
    return time.monotonic() - began
