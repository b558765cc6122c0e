"""The memory of ended guests is returned to the system.

The figures are resident sizes of one worker. ``pytest -s`` prints them.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path

import pytest

from tests.support.server import ONE_WORKER, Server, serving
from tests.support.wat import HELLO, TEXT_HEAD, Program

MIB = 1024 * 1024
PAGE = 65536
SYSTEM_PAGE = 4096
GROW_TO_MIB = 244
"""Final size of the large handler in MiB: just below the default ``memory_limit`` of 256 MiB."""
LARGE_REQUESTS = 32
SLEEPING_GUESTS = 1000
SLEEPER_KIB = 256
"""KiB of memory that each sleeping guest has written to."""
KEPT_KIB = 40
"""Maximum KiB that remain per guest, including about 30 for a connection and its objects."""
SETTLE_SECONDS = 20.0
"""Seconds to wait until memory is returned: an upper bound for slow machines."""


def touch(first: int, end: int) -> str:
    """Return code that writes to every system page in a range of the guest's memory."""
    return f"""(local.set $i (i32.const {first}))
      (loop $touch (i32.store8 (local.get $i) (i32.const 1))
        (local.set $i (i32.add (local.get $i) (i32.const {SYSTEM_PAGE})))
        (br_if $touch (i32.lt_u (local.get $i) (i32.const {end}))))"""


def growing(pages: int) -> Program:
    """Return a program that grows by ``pages`` WebAssembly pages, or traps if it cannot."""
    return Program().code(
        f"(if (i32.lt_s (memory.grow (i32.const {pages})) (i32.const 0)) (then unreachable))"
    )


LARGE = (
    growing(GROW_TO_MIB * MIB // PAGE - 2)
    .code(touch(2 * PAGE, GROW_TO_MIB * MIB))
    .write(TEXT_HEAD + "grown\n")
)
SLEEPER = (
    growing(SLEEPER_KIB * 1024 // PAGE)
    .code(touch(2 * PAGE, 2 * PAGE + SLEEPER_KIB * 1024))
    .sleep(5000)
    .write(TEXT_HEAD + "awake\n")
)
MODULES = {"hello.wat": HELLO, "large.wat": LARGE.wat(), "sleeper.wat": SLEEPER.wat()}
MANIFEST = "".join(
    f'[[module]]\nroute = "/{name}"\nmodule = "{name}.wat"\ntimeout = 120\n'
    for name in ("hello", "large", "sleeper")
)


def warmed_up(server: Server) -> int:
    """Serve some requests; return the worker's resident size in bytes afterwards."""
    for _ in range(200):
        assert server.get("/hello").text == "hello\n"
    return server.rss()


def send_concurrently(server: Server, path: str, while_running: Callable[[], None]) -> list[bytes]:
    """Send 1,000 requests on as many open connections; return the response bodies."""
    request = f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    with ExitStack() as stack:
        connections = [stack.enter_context(server.connect(120)) for _ in range(SLEEPING_GUESTS)]
        for connection in connections:
            connection.sendall(request)
        while_running()
        return [read_body(connection) for connection in connections]


def read_body(connection: socket.socket) -> bytes:
    """Read a response, which may arrive in several pieces; return its body."""
    response = HTTPResponse(connection)
    response.begin()
    return response.read()


def settled(size: Callable[[], int], allowed: int) -> int:
    """Wait until a resident size is at most ``allowed``; return the last size in bytes."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while (found := size()) > allowed and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def test_large_guests_one_after_another(tmp_path: Path) -> None:
    """After 32 guests that each write to 244 MiB, the worker is as small as before."""
    with serving(tmp_path, MANIFEST, *ONE_WORKER, modules=MODULES) as server:
        idle = warmed_up(server)
        allowed = idle + 16 * MIB
        for number in range(1, LARGE_REQUESTS + 1):
            assert server.get("/large").text == "grown\n"
            if number in (1, 4, 8, 16):
                print(f"after {number} guests: {server.rss() / MIB:.1f} MiB")
            # Memory that is never returned must not push the machine itself out of memory.
            assert server.rss() < idle + 4 * 256 * MIB, f"{number} guests used too much"
        after = settled(server.rss, allowed)
        print(f"idle {idle / MIB:.1f} MiB, after {LARGE_REQUESTS} guests {after / MIB:.1f} MiB")
    assert after <= allowed, f"{after / MIB:.1f} MiB after {idle / MIB:.1f} MiB idle"


@pytest.mark.parametrize("memory", ["auto", "pool"])
def test_a_thousand_sleeping_guests(tmp_path: Path, memory: str) -> None:
    """The memory that a thousand concurrent sleeping guests touched is returned.

    The rest is not the guests': Python keeps the memory of freed objects for new ones, and
    wasmtime keeps two pages of each stack. A second burst does not add to it.
    """
    options = (*ONE_WORKER, "--memory", memory)
    with serving(tmp_path, MANIFEST, *options, modules=MODULES) as server:
        idle = warmed_up(server)
        after = [burst(server, idle) for _ in range(2)]
        print(
            f"idle {idle / MIB:.1f} MiB, after each of two bursts",
            *(f"{a / MIB:.1f}" for a in after),
        )
    assert after[0] <= idle + SLEEPING_GUESTS * KEPT_KIB * 1024
    assert after[1] <= 1.1 * after[0]


def burst(server: Server, idle: int) -> int:
    """Have all guests sleep concurrently; return the resident size in bytes afterwards."""

    def wait_until_all_sleep() -> None:
        """Wait until the memory that the guests touch is resident: then all of them run."""
        deadline = time.monotonic() + 60
        while (busy := server.rss()) < idle + SLEEPING_GUESTS * SLEEPER_KIB * 1024 * 0.9:
            assert time.monotonic() < deadline, f"only {busy / MIB:.1f} MiB are in use"
            time.sleep(0.02)

    answers = send_concurrently(server, "/sleeper", wait_until_all_sleep)
    assert answers == [b"awake\n"] * SLEEPING_GUESTS
    return settled(server.rss, idle + SLEEPING_GUESTS * KEPT_KIB * 1024)
