"""Every configurable limit: requests just below it are served, those above are rejected."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.server import ONE_WORKER, ROOT, Server, serving
from tests.support.wat import TEXT_HEAD, Program

MANIFEST = """
[defaults]
body_limit = 1000
environment_limit = 3000
header_limit = "2KiB"
output_buffer = "64KiB"
[[module]]
route = "/environment"
module = "environment.wat"
[[module]]
route = "/unlimited"
module = "environment.wat"
body_limit = 0
environment_limit = 0
[[module]]
route = "/head-2000"
module = "head-2000.wat"
[[module]]
route = "/head-2100"
module = "head-2100.wat"
[[module]]
route = "/flood"
module = "flood.wat"
timeout = 0
cpu_timeout = 0
[[module]]
route = "/spooling"
module = "environment.wat"
body_limit = "1MiB"
"""
MODULES: dict[str, str | bytes] = {
    # Including the name, the colon and the line ends.
    "head-2000.wat": Program().write(f"{TEXT_HEAD[:-1]}X: {'y' * (2000 - 30)}\n\nok").wat(),
    "head-2100.wat": Program().write(f"{TEXT_HEAD[:-1]}X: {'y' * (2100 - 30)}\n\nok").wat(),
    "flood.wat": Program().write(TEXT_HEAD + "x" * 60_000).forever().wat(),
}
OPTIONS = (
    *ONE_WORKER,
    *("--max-request-line", "1000", "--max-request-header", "4000"),
    *("--spool-limit", "100KiB", "--spool-total", "150KiB"),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("limits")
    shutil.copy(ROOT / "examples/wat/environment.wat", folder)
    with serving(folder, MANIFEST, *OPTIONS, modules=MODULES) as server:
        yield server


@pytest.mark.parametrize(
    ("path", "length", "status"),
    [("environment", 1000, 200), ("environment", 1001, 413), ("unlimited", 100_000, 200)],
)
def test_body_limit(server: Server, path: str, length: int, status: int) -> None:
    assert server.post(f"/{path}", b"x" * length).status == status


@pytest.mark.parametrize("length", [10**9, 10**15])
def test_body_limit_of_an_announced_length(server: Server, length: int) -> None:
    """The request is rejected before any of its body is read."""
    head = f"POST /environment HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
    with server.connect() as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_body_limit_of_a_chunked_body(server: Server) -> None:
    head = b"POST /environment HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"1f4\r\n" + b"x" * 500 + b"\r\n"
    with server.connect() as connection:
        connection.sendall(head + 2 * chunk + b"0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
    with server.connect() as connection:
        connection.sendall(head + 3 * chunk)  # not complete, but already too large
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("path", "length", "status"),
    [("environment", 2000, 200), ("environment", 3000, 431), ("unlimited", 3000, 200)],
)
def test_environment_limit(server: Server, path: str, length: int, status: int) -> None:
    assert server.get(f"/{path}", headers=[("X-Long", "x" * length)]).status == status


def test_argv_counts_as_environment(server: Server) -> None:
    """The query counts four times: QUERY_STRING, REQUEST_URI, X_FULL_URL and argv."""
    assert server.get("/environment?" + "x" * 500).status == 200
    assert server.get("/environment?" + "x" * 750).status == 431


@pytest.mark.parametrize(("length", "status"), [(900, 200), (1100, 414)])
def test_max_request_line(server: Server, length: int, status: int) -> None:
    target = "/unlimited?".ljust(length, "x")
    assert server.get(target).status == status


@pytest.mark.parametrize(("length", "status"), [(3500, 200), (4500, 431)])
def test_max_request_header(server: Server, length: int, status: int) -> None:
    """Applies to one field and to the sum of several."""
    assert server.get("/unlimited", headers=[("X", "x" * length)]).status == status
    several = [(f"X-{i}", "x" * (length // 10)) for i in range(10)]
    assert server.get("/unlimited", headers=several).status == status


@pytest.mark.parametrize(("size", "status"), [(2000, 200), (2100, 500)])
def test_header_limit(server: Server, size: int, status: int) -> None:
    assert server.get(f"/head-{size}").status == status


def test_output_buffer(server: Server) -> None:
    """A client that does not read suspends its guest; the gateway buffers little."""
    with ExitStack() as stack:
        before = server.rss()
        for _ in range(20):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect((server.host, server.port))
            connection.sendall(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(1)
        used = server.cpu_seconds()
        time.sleep(1)
        assert server.cpu_seconds() - used < 0.5
        assert server.rss() - before < 20 * 1024 * 1024


def test_spool_limit_and_total(server: Server) -> None:
    """Bodies without a length share the total; one that does not fit gets a 503."""
    head = b"POST /spooling HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"16800\r\n" + b"x" * 0x16800 + b"\r\n"  # 90 KiB
    with server.connect() as first, server.connect() as second:
        first.sendall(head + chunk)
        time.sleep(0.5)
        second.sendall(head + chunk)
        assert second.recv(100).startswith(b"HTTP/1.1 503 ")
        first.sendall(b"0\r\n\r\n")
        assert first.recv(100).startswith(b"HTTP/1.1 200 ")
        server.wait_for_log("--spool-total is used up")
    with server.connect() as third:
        third.sendall(head + chunk + b"0\r\n\r\n")
        assert third.recv(100).startswith(b"HTTP/1.1 200 ")
