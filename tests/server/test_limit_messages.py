"""An exceeded limit is named by its key or option, so that it can be found and changed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.server import ONE_WORKER, Server, serving
from tests.support.wat import SPIN, Program, printing

MODULES: dict[str, str | bytes] = {
    "hello.wat": printing("Content-Type: text/plain\n\nhello\n"),
    "large.wat": printing("X: " + "x" * 2000 + "\n\n"),
    "spin.wat": Program().code(SPIN).wat(),
}
MANIFEST = """
[[module]]
route = "/hello"
module = "hello.wat"
body_limit = 100
environment_limit = 2000

[[module]]
route = "/unlimited"
module = "hello.wat"

[[module]]
route = "/large"
module = "large.wat"
header_limit = 1024

[[module]]
route = "/cpu"
module = "spin.wat"
cpu_timeout = 0.1

[[module]]
route = "/wall"
module = "spin.wat"
timeout = 0.1

[[module]]
route = "/busy"
module = "spin.wat"
max_concurrency = 1
max_queue = 0
"""
OPTIONS = ("--max-request-line", "1000", "--max-request-header", "4000", "--spool-limit", "1000")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("limits")
    with serving(folder, MANIFEST, *ONE_WORKER, *OPTIONS, modules=MODULES) as started:
        yield started


def chunked(size: int) -> bytes:
    return f"{size:x}\r\n".encode() + b"x" * size + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "body", "status", "key"),
    [
        ("POST /hello HTTP/1.1\r\nContent-Length: 101", b"", 413, "body_limit"),
        ("POST /hello HTTP/1.1\r\nTransfer-Encoding: chunked", chunked(101), 413, "body_limit"),
        (
            "POST /unlimited HTTP/1.1\r\nTransfer-Encoding: chunked",
            chunked(1001),
            413,
            "--spool-limit",
        ),
        ("GET /" + "x" * 1000 + " HTTP/1.1", b"", 414, "--max-request-line"),
        ("GET /hello HTTP/1.1\r\nX: " + "x" * 4000, b"", 431, "--max-request-header"),
        ("GET /hello HTTP/1.1\r\nX: " + "x" * 2000, b"", 431, "environment_limit"),
        ("GET /cpu HTTP/1.1", b"", 504, "cpu_timeout"),
        ("GET /wall HTTP/1.1", b"", 504, "timeout"),
    ],
)
def test_the_response_names_the_limit(
    server: Server, head: str, body: bytes, status: int, key: str
) -> None:
    request = f"{head}\r\nHost: a\r\nConnection: close\r\n\r\n".encode() + body
    response = server.raw(request).decode()
    assert response.startswith(f"HTTP/1.1 {status} ")
    assert f" ({key}).\n" in response


def test_the_log_names_the_limit_of_the_output(server: Server) -> None:
    assert server.get("/large").status == 500
    server.wait_for_log(r"header block is too large \(header_limit\)")


def test_the_log_names_the_limit_of_the_queue(server: Server) -> None:
    with server.connect() as running:
        running.sendall(b"GET /busy HTTP/1.1\r\nHost: a\r\n\r\n")
        while server.get("/busy").status != 503:  # until the first one runs
            pass
    server.wait_for_log(
        r"no free slot \(max_concurrency\), and 0 requests are already queued \(max_queue\)"
    )
