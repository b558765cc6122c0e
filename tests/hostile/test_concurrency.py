"""Many guests at once: slots, queues, fairness between modules."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from tests.support.server import ONE_WORKER, Server, serving
from tests.support.wat import HELLO, SPIN, TEXT_HEAD, Program

MODULES = {
    "hello.wat": HELLO,
    "spin.wat": Program().code(SPIN).wat(),
    "sleep.wat": Program().sleep(3_600_000).wat(),
    "nap.wat": Program().sleep(1000).write(TEXT_HEAD + "awake\n").wat(),
}
ENTRIES = "".join(
    f'[[module]]\nroute = "/{name}"\nmodule = "{name}.wat"\ntimeout = 0\ncpu_timeout = 0\n'
    for name in ("hello", "spin", "sleep", "nap")
)


def flood(stack: ExitStack, server: Server, path: str, count: int) -> None:
    """Send requests and wait for none."""
    for _ in range(count):
        connection = stack.enter_context(server.connect())
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())


def test_a_flood_of_one_module_leaves_slots_for_another(tmp_path: Path) -> None:
    """Ten times as many sleeping guests as there are slots: another module is served at once."""
    options = ("--max-concurrency", "20")
    with serving(tmp_path, ENTRIES, *options, modules=MODULES) as server, ExitStack() as stack:
        flood(stack, server, "/sleep", 200)
        time.sleep(0.5)
        for _ in range(20):
            began = time.monotonic()
            assert server.get("/hello").status == 200
            assert time.monotonic() - began < 5


def test_busy_modules_share_the_time(tmp_path: Path) -> None:
    """A hundred endless loops of one module beside a short-lived one of another."""
    with serving(tmp_path, ENTRIES, modules=MODULES) as server, ExitStack() as stack:
        flood(stack, server, "/spin", 100)
        time.sleep(0.5)
        began = time.monotonic()
        for _ in range(20):
            assert server.get("/hello").status == 200
        assert time.monotonic() - began < 10
        began = time.monotonic()
        assert server.get("/nap").text == "awake\n"
        assert time.monotonic() - began < 10


def test_the_queue_is_bounded_and_refuses_with_a_hint(tmp_path: Path) -> None:
    manifest = """
[defaults]
timeout = 0
max_concurrency = 1
[[module]]
route = "/few"
module = "sleep.wat"
max_queue = 2
queue_timeout = 0
[[module]]
route = "/short"
module = "sleep.wat"
queue_timeout = 0.3
[[module]]
route = "/none"
module = "sleep.wat"
max_queue = 0
"""
    with (
        serving(tmp_path, manifest, *ONE_WORKER, modules=MODULES) as server,
        ExitStack() as stack,
    ):
        flood(stack, server, "/few", 3)
        flood(stack, server, "/short", 1)
        flood(stack, server, "/none", 1)
        time.sleep(0.5)
        for path, reason in (
            ("/few", "2 requests are waiting already"),
            ("/short", "no free slot in 0.3 seconds"),
            ("/none", "0 requests are waiting already"),
        ):
            response = server.get(path)
            assert response.status == 503
            assert response.header("Retry-After") == "1"
            assert "requests are running" in response.text
            server.wait_for_log(f"GET {path}, .*answered 503: too many .*{reason}")


def test_max_concurrency_holds_across_the_routes_of_a_module(tmp_path: Path) -> None:
    """Each guest writes when it begins and when it ends: never more than three at a time."""
    nap = Program().write("begin\n", fd=2).sleep(100).write("end\n", fd=2).write(TEXT_HEAD).wat()
    manifest = '[[module]]\nroute = "/..."\nmodule = "nap.wat"\nmax_concurrency = 3\n'
    with serving(tmp_path, manifest, *ONE_WORKER, modules={"nap.wat": nap}) as server:
        with ThreadPoolExecutor(12) as pool:
            assert {r.status for r in pool.map(server.get, [f"/{i}" for i in range(24)])} == {200}
        server.wait_for_log(r"(?s)(?>.*?: end\b){24}")  # atomic: else it tries all subsets of 23
        running = most = 0
        for line in server.log.splitlines():
            running += line.endswith(": begin")
            running -= line.endswith(": end")
            most = max(most, running)
    assert most == 3


def test_a_thousand_slow_guests_at_once(tmp_path: Path) -> None:
    """All sleep at the same time, in one worker, and all answer."""
    manifest = '[[module]]\nroute = "/nap"\nmodule = "nap.wat"\n'
    slow = Program().sleep(4000).write(TEXT_HEAD + "awake\n").wat()
    with serving(tmp_path, manifest, *ONE_WORKER, modules={"nap.wat": slow}) as server:
        before = server.rss()
        answers: list[bytes] = []
        with ExitStack() as stack:
            connections = [stack.enter_context(server.connect(60)) for _ in range(1000)]
            began = time.monotonic()
            for connection in connections:
                connection.sendall(b"GET /nap HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            threading.Event().wait(3)
            memory = server.rss() - before
            for connection in connections:
                received = b""
                while piece := connection.recv(65536):
                    received += piece
                answers.append(received)
            seconds = time.monotonic() - began
        assert all(answer.endswith(b"awake\n") for answer in answers)
        # One after the other they would take more than an hour.
        assert seconds < 60
        # Their memories alone have 128 KiB each.
        assert memory < 300 * 1024 * 1024
