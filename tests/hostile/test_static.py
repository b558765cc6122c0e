"""Clients and links that try to get what is not in the directory, or to keep the server busy."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.server import ONE_WORKER, Server, read_all, serving, write_files
from tests.support.wat import Program
from tests.support.wire import replies_in

SECRET = "top secret"
MANIFEST = """
[[module]]
route = "/sleep"
module = "sleep.wat"
[[module]]
route = "/..."
static = "public"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("static")
    public = folder / "public"
    write_files(
        folder,
        {
            "sleep.wat": Program().sleep(3_600_000).wat(),
            "secret.txt": SECRET,
            "public-secret/secret.txt": SECRET,
            "public/index.html": "index",
            "public/a.txt": "a",
            "public/sub/secret.txt": "not secret",
            "public/real/secret.txt": "not secret",
            "public/.env": SECRET,
            "public/.well-known/.secret": SECRET,
            "public/big.bin": b"x" * 1024**2,
        },
    )
    os.mkfifo(public / "pipe")
    for name, target in {
        "parent": "..",
        "secret": "../secret.txt",
        "sibling": "../public-secret",
        "absolute": str(folder / "secret.txt"),
        "cwd": "/proc/self/cwd",
        "root": "/proc/self/root",
        "environ": "/proc/self/environ",
        "zero": "/dev/zero",
        "etc": "/etc",
        "loop": "loop",
        "chain": "sub/../parent",
    }.items():
        (public / name).symlink_to(target)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving(folder, MANIFEST, *ONE_WORKER, "--max-concurrency", "1") as server:
        yield server


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/../secret.txt", 400),
        ("/sub/../../secret.txt", 400),
        ("/%2e%2e/secret.txt", 400),
        ("/.%2E/secret.txt", 400),
        ("/sub%2f..%2f..%2fsecret.txt", 400),
        ("/%c0%ae%c0%ae/secret.txt", 400),
        ("/%252e%252e/secret.txt", 404),
        ("/..%5csecret.txt", 404),
        ("/..\\secret.txt", 404),
        ("/a.txt%00.html", 400),
        ("/a.txt%00", 400),
        ("//etc/passwd", 404),
        ("/%2fetc%2fpasswd", 404),
        ("/.env", 404),
        ("/%2eenv", 404),
        ("/.env/", 404),
        ("/.well-known/.secret", 404),
        ("/parent/secret.txt", 404),
        ("/secret", 404),
        ("/sibling/secret.txt", 404),
        ("/absolute", 404),
        ("/cwd/secret.txt", 404),
        ("/root/etc/passwd", 404),
        ("/environ", 404),
        ("/zero", 404),
        ("/etc/passwd", 404),
        ("/etc", 404),
        ("/loop", 404),
        ("/chain/secret.txt", 404),
        ("/pipe", 404),
        ("/sub", 404),
        ("/" + "a/" * 4000, 404),
        ("/" + "a" * 5000, 404),
        ("/a.txt::$DATA", 404),
        ("/a.txt;x", 404),
        ("/a.txt.", 404),
        ("/a.txt%20", 404),
    ],
)
def test_nothing_outside_is_served(server: Server, folder: Path, target: str, status: int) -> None:
    request = f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    data = server.raw(request.encode())
    assert int(data.split(b" ")[1]) == status
    for text in (SECRET, "root:", str(folder)):
        assert text.encode() not in data


def test_a_link_that_changes_all_the_time(server: Server, folder: Path) -> None:
    """The check is for the file that was opened, not for a path that may have changed since."""
    public, stop = folder / "public", threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for target in ("real", "../public-secret"):
                (public / "new").symlink_to(target)
                (public / "new").replace(public / "changing")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        statuses: set[int] = set()
        deadline = time.monotonic() + 60
        while len(statuses) < 2 or time.monotonic() < deadline - 58:
            assert time.monotonic() < deadline, statuses
            response = server.get("/changing/secret.txt")
            statuses.add(response.status)
            assert SECRET not in response.text
    finally:
        stop.set()
        thread.join()
    assert statuses == {200, 404}


HUGE = {
    "Accept-Encoding": "gzip;q=0.1," * 5_000,
    "If-None-Match": '"x",' * 15_000,
    "If-Match": 'W/"' * 20_000,
    "If-Modified-Since": "Sun, " * 12_000,
    "If-Range": '"' * 60_000,
    "Range": "bytes=" + "0-1," * 15_000,
}


@pytest.mark.parametrize("name", HUGE)
def test_huge_header_fields(server: Server, name: str) -> None:
    began = time.monotonic()
    response = server.get("/a.txt", headers=[(name, HUGE[name])])
    assert response.status == (412 if name == "If-Match" else 200)
    assert time.monotonic() - began < 10
    repeated = [(name, HUGE[name][:500])] * 100
    assert server.get("/a.txt", headers=repeated).status in (200, 412)


@pytest.mark.parametrize("value", ["0-," * 15_000, "0-0,1-1," * 5_000, "-1," * 15_000])
def test_many_ranges(server: Server, value: str) -> None:
    """CVE-2011-3192: the response is the file, once."""
    response = server.get("/big.bin", headers=[("Range", f"bytes={value}")])
    assert (response.status, len(response.body)) == (200, 1024**2)


def test_no_slot_of_a_guest_is_taken(server: Server) -> None:
    """The only slot of this server is taken by a guest."""
    with server.connect() as sleeper:
        sleeper.sendall(b"GET /sleep HTTP/1.1\r\nHost: a\r\n\r\n")
        for _ in range(20):
            assert server.get("/big.bin").status == 200


def test_clients_that_leave_in_the_middle(server: Server) -> None:
    """No file stays open."""
    before = server.open_files()
    for _ in range(50):
        with server.connect() as client:
            client.sendall(b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n" * 4)
            client.recv(1)
            client.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER: reset
    deadline = time.monotonic() + 20
    while server.open_files() > before:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert server.get("/a.txt").text == "a"


def test_a_request_hidden_in_a_body(server: Server) -> None:
    """The body of a request for a file is not read as the next request."""
    hidden = b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n"
    request = b"GET /a.txt HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(hidden)
    last = b"GET /index.html HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert replies_in(server.raw(request + hidden + last), True) == ("a", "index")


def test_no_file_descriptors_left(tmp_path: Path) -> None:
    """Slow clients hold them all: the next client gets an error, the slow ones get their file."""
    write_files(tmp_path, {"public/big.bin": b"x" * 16 * 1024**2})
    manifest = '[[module]]\nroute = "/..."\nstatic = "public"\n'
    with serving(tmp_path, manifest, *ONE_WORKER, files_limit=64) as server, ExitStack() as stack:
        clients: list[socket.socket] = []
        heads: list[bytes] = []
        while not heads or heads[-1] == b"HTTP/1.1 200":
            clients.append(stack.enter_context(server.connect()))
            clients[-1].settimeout(5)
            clients[-1].sendall(b"GET /big.bin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            try:
                heads.append(clients[-1].recv(12))
            except TimeoutError:  # not even the connection is accepted
                break
        assert len(heads) > 5
        assert heads[-1] in (b"HTTP/1.1 200", b"HTTP/1.1 503")
        assert len(read_all(clients[0])) > 16 * 1024**2
        for client in clients[1:]:
            client.close()
        deadline = time.monotonic() + 30
        while server.request("HEAD", "/big.bin").status != 200:
            assert time.monotonic() < deadline
