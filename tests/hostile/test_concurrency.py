"""Many concurrent guests: slots, queues, fairness between modules."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.server import ONE_WORKER, Server, serving
from tests.support.toolchains import EXAMPLES, HANDLERS, compiled
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
    """Send requests without waiting for the responses."""
    for _ in range(count):
        connection = stack.enter_context(server.connect())
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())


def test_a_flood_of_one_module_leaves_slots_for_another(tmp_path: Path) -> None:
    """With ten times as many sleeping guests as slots, another module is served immediately."""
    options = ("--max-concurrency", "20")
    with serving(tmp_path, ENTRIES, *options, modules=MODULES) as server, ExitStack() as stack:
        flood(stack, server, "/sleep", 200)
        time.sleep(0.5)
        for _ in range(20):
            began = time.monotonic()
            assert server.get("/hello").status == 200
            assert time.monotonic() - began < 5


def test_busy_modules_get_equal_cpu_time(tmp_path: Path) -> None:
    """A hundred endless loops of one module do not starve a short guest of another."""
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


def test_a_full_queue_is_rejected_with_a_hint(tmp_path: Path) -> None:
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
            ("/few", "2 requests are already queued"),
            ("/short", r"no free slot \(max_concurrency\) within 0\.3 s \(queue_timeout\)"),
            ("/none", "0 requests are already queued"),
        ):
            response = server.get(path)
            assert response.status == 503
            assert response.header("Retry-After") == "1"
            assert "requests are running" in response.text
            server.wait_for_log(f"GET {path}, .*answered 503: too many .*{reason}")


def test_max_concurrency_holds_across_the_routes_of_a_module(tmp_path: Path) -> None:
    """The guests record when they begin and end: never more than three run at once."""
    nap = Program().write("begin\n", fd=2).sleep(100).write("end\n", fd=2).write(TEXT_HEAD).wat()
    manifest = '[[module]]\nroute = "/..."\nmodule = "nap.wat"\nmax_concurrency = 3\n'
    with serving(tmp_path, manifest, *ONE_WORKER, modules={"nap.wat": nap}) as server:
        with ThreadPoolExecutor(12) as pool:
            assert {r.status for r in pool.map(server.get, [f"/{i}" for i in range(24)])} == {200}
        server.wait_for_log(r"(?s)(?>.*?: end\b){24}")  # atomic: otherwise it backtracks over 2**23
        running = most = 0
        for line in server.log.splitlines():
            running += line.endswith(": begin")
            running -= line.endswith(": end")
            most = max(most, running)
    assert most == 3


def test_a_thousand_slow_guests_at_once(tmp_path: Path) -> None:
    """All sleep concurrently in one worker, and all respond."""
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
        # Sequentially, they would take more than an hour.
        assert seconds < 60
        # The memory of each is 128 KiB alone.
        assert memory < 300 * 1024 * 1024


# The entry of docs/state.md, and another module
PAGE = (Path(__file__).parents[2] / "docs/state.md").read_text()
COUNTER = (
    PAGE.split("```toml\n")[1].split("```")[0]
    + """
queue_timeout = 60
[[module]]
route = "/hello"
module = "hello.wat"
"""
)


@contextmanager
def counting(folder: Path, workers: int) -> Iterator[tuple[Server, Callable[[], int]]]:
    """Serve a handler that counts in a file; yield the server and a function to read the count."""
    (folder / "data").mkdir()
    modules: dict[str, str | bytes] = {
        "counter.wasm": compiled(HANDLERS / "counter.c").read_bytes(),
        "hello.wat": HELLO,
    }
    with serving(folder, COUNTER, "--workers", str(workers), modules=modules) as server:
        yield server, lambda: int((folder / "data/number").read_text())


@pytest.mark.parametrize("workers", [2, 3])
def test_max_concurrency_holds_for_all_workers(tmp_path: Path, workers: int) -> None:
    """One writer at a time: no update is lost, and other modules are not delayed."""
    with counting(tmp_path, workers) as (server, number), ThreadPoolExecutor(16) as pool:
        answers = pool.map(server.get, ["/counter"] * 200)
        began = time.monotonic()
        assert server.get("/hello").status == 200
        assert time.monotonic() - began < 5
        assert [answer.text.startswith("alone ") for answer in answers] == [True] * 200
        assert number() == 200


def test_max_concurrency_holds_during_a_reload(tmp_path: Path) -> None:
    with counting(tmp_path, 2) as (server, number), ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(server.get, "/counter") for _ in range(150)]
        for _ in range(3):
            time.sleep(0.2)
            server.process.send_signal(signal.SIGHUP)
        assert all(answer.result().text.startswith("alone ") for answer in answers)
        assert number() == 150


def test_a_killed_worker_releases_its_slots(tmp_path: Path) -> None:
    """It dies while its guest holds the only slot; requests in other workers continue."""
    manifest = (
        '[[module]]\nroute = "/..."\nmodule = "first.wat"\n'
        "max_concurrency = 1\nqueue_timeout = 60\n"
    )
    modules = {"first.wat": (EXAMPLES / "wat/echo.wat").read_text()}
    with (
        serving(tmp_path, manifest, "--workers", "2", modules=modules) as server,
        ThreadPoolExecutor(8) as pool,
    ):
        holder = server.connect()  # its guest waits for a body that never arrives
        holder.sendall(b"POST /hold HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
        time.sleep(0.5)
        waiting = [pool.submit(server.get, f"/{i}") for i in range(6)]
        time.sleep(0.3)
        assert not any(answer.done() for answer in waiting)
        (victim,) = [pid for pid in server.workers if holds(pid, holder)]
        os.kill(victim, signal.SIGKILL)
        answers = [answer.exception() or answer.result() for answer in waiting]
        # Requests queued in the killed worker are lost with it.
        assert any(not isinstance(answer, BaseException) for answer in answers)
        assert server.get("/after").status == 200


def holds(pid: int, connection: socket.socket) -> bool:
    """Whether a process has the other end of the connection."""
    port = f":{connection.getsockname()[1]:04X}"
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[2].endswith(port):
            links = Path(f"/proc/{pid}/fd").iterdir()
            return f"socket:[{fields[9]}]" in [str(link.readlink()) for link in links]
    return False


def test_a_limit_above_one_holds_for_all_workers(tmp_path: Path) -> None:
    """The guests record when they begin and end: never more than two run at once."""
    nap = Program().write("begin\n", fd=2).sleep(50).write("end\n", fd=2).write(TEXT_HEAD).wat()
    manifest = '[[module]]\nroute = "/..."\nmodule = "nap.wat"\nmax_concurrency = 2\n'
    options = ("--workers", "3")
    with serving(tmp_path, manifest, *options, modules={"nap.wat": nap}) as server:
        began = time.monotonic()
        with ThreadPoolExecutor(12) as pool:
            assert {r.status for r in pool.map(server.get, [f"/{i}" for i in range(40)])} == {200}
        # Two at a time take a second; three would take 0.7 s.
        assert time.monotonic() - began >= 1.0
