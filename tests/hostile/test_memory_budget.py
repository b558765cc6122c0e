"""The memory budget of all running guests: which requests wait, and which fail."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.cgroup import memory_limited_to
from tests.support.server import ONE_WORKER, Server, run_wagi, serving, write_files
from tests.support.wat import HELLO, TEXT_HEAD, Program
from wagi.guest.budget import CELLS_PER_WORKER

MIB = 1024**2
PAGES_PER_MIB = 16
BUDGET = ("--memory-budget", "256MiB")
TOUCH = """(local.set $i (i32.const 1048576))
  (loop $touch (i32.store (local.get $i) (i32.const 1))
    (local.set $i (i32.add (local.get $i) (i32.const 4096)))
    (br_if $touch (i32.lt_u (local.get $i)
      (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4)))))"""


def holding(program: Program) -> Program:
    """Return a module that prints "ready" and ends when its body arrives."""
    program.write(TEXT_HEAD + "ready\n").code("(drop (call $read))")
    return program.write("done\n")


def starting_with(size: int) -> str:
    """Return a module that starts with ``size`` MiB and uses them until its body has arrived."""
    wat = holding(Program().code(TOUCH)).wat()
    return re.sub(r'\(memory \(export "memory"\) \d+\)', memory(size), wat)


def growing_to(size: int) -> str:
    """Return a module that starts small and grows to ``size`` MiB, as allocators do."""
    program = Program().code(f"(memory.grow (i32.const {(size - 1) * PAGES_PER_MIB}))")
    program.code("(if (i32.lt_s (i32.const 0)) (then")
    program.write(TEXT_HEAD + "no room\n").exit(0).code("))").code(TOUCH)
    return re.sub(r'\(memory \(export "memory"\) \d+\)', memory(1), holding(program).wat())


def memory(size: int) -> str:
    return f'(memory (export "memory") {size * PAGES_PER_MIB})'


MODULES = {
    "hello.wat": HELLO,
    "small.wat": starting_with(2),
    "large.wat": starting_with(120),
    "larger.wat": starting_with(200),
    "growing.wat": growing_to(120),
    "growing-less.wat": growing_to(100),
}


def entries(*names: str, queue_timeout: float = 60) -> str:
    return "".join(
        f'[[module]]\nroute = "/{name}"\nmodule = "{name}.wat"\nqueue_timeout = {queue_timeout}\n'
        "timeout = 0\n"
        for name in names
    )


class Guest:
    """A request whose guest runs until ``end`` is called."""

    def __init__(self, connection: socket.socket, path: str) -> None:
        self._connection = connection
        head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        self._received = b""

    def fileno(self) -> int:
        """Return the socket's descriptor, for ``select``."""
        return self._connection.fileno()

    def wait_for(self, pattern: bytes) -> None:
        """Wait until the response matches a pattern."""
        self._connection.settimeout(60)
        while not re.search(pattern, self._received):
            received = self._connection.recv(65536)
            assert received, self._received
            self._received += received

    def is_silent_for(self, seconds: float) -> bool:
        """Whether nothing has been received, nor is within ``seconds``."""
        self._connection.settimeout(seconds)
        try:
            self._received += self._connection.recv(65536)
        except TimeoutError:
            return not self._received
        return False

    @property
    def is_ready(self) -> bool:
        """Whether the guest got its memory."""
        return b"ready" in self._received

    def end(self) -> None:
        """Make the guest end, and wait for that."""
        self._connection.sendall(b"x")
        self.wait_for(b"done")


@contextmanager
def serving_guests(
    folder: Path, manifest: str, *options: str, command: Sequence[str] = ()
) -> Iterator[tuple[Server, Callable[[str], Guest]]]:
    """Yield a server and a function that starts guests; they are disconnected at the end."""
    with (
        # Tests decide when the bodies of the guests are sent.
        serving(
            folder, manifest, "--min-body-rate", "0", *options, modules=MODULES, command=command
        ) as server,
        ExitStack() as stack,
    ):
        yield server, lambda path: Guest(stack.enter_context(server.connect()), path)


@pytest.mark.parametrize("workers", [1, 3])
def test_guests_wait_until_there_is_memory(tmp_path: Path, workers: int) -> None:
    """Of four guests that start with 120 MiB, two fit in 256 MiB, in whichever worker."""
    options = ("--workers", str(workers), *BUDGET)
    with serving_guests(tmp_path, entries("large"), *options) as (_, guest_of):
        running = [guest_of("/large") for _ in range(2)]
        for guest in running:
            guest.wait_for(b"ready")
        waiting = [guest_of("/large") for _ in range(2)]
        assert all(guest.is_silent_for(0.5) for guest in waiting)
        for guest in running:
            guest.end()
        for guest in waiting:
            guest.wait_for(b"ready")
            guest.end()


def test_waiting_for_memory_times_out(tmp_path: Path) -> None:
    manifest = entries("large", queue_timeout=0.3)
    with serving_guests(tmp_path, manifest, *ONE_WORKER, *BUDGET) as (server, guest_of):
        running = [guest_of("/large") for _ in range(2)]
        for guest in running:
            guest.wait_for(b"ready")
        answer = server.post("/large", b"x")
        assert (answer.status, answer.header("Retry-After")) == (503, "1")
        server.wait_for_log(
            r"not enough free memory \(a guest needs 120\.0 MiB to start, 16\.0 MiB of 256\.0 MiB"
            r" are free: see --memory-budget\) within 0\.3 s"
        )
        for guest in running:
            guest.end()
        assert server.post("/large", b"x").text == "ready\ndone\n"


def test_growth_beyond_the_budget_fails_inside_the_guest(tmp_path: Path) -> None:
    """The allocation fails as on a machine that is out of memory; the guest may report it."""
    with serving_guests(tmp_path, entries("growing"), *ONE_WORKER, *BUDGET) as (server, guest_of):
        running = [guest_of("/growing") for _ in range(2)]
        for guest in running:
            guest.wait_for(b"ready")
        assert server.post("/growing", b"x").text == "no room\n"
        for guest in running:
            guest.end()


def test_guests_that_are_expected_to_grow_wait(tmp_path: Path) -> None:
    """Once past growth is known; otherwise many would start at once, and most would fail."""
    with serving_guests(tmp_path, entries("growing"), *ONE_WORKER, *BUDGET) as (server, guest_of):
        assert server.post("/growing", b"x").text == "ready\ndone\n"
        running = [guest_of("/growing") for _ in range(2)]
        for guest in running:
            guest.wait_for(b"ready")
        waiting = [guest_of("/growing") for _ in range(2)]
        assert all(guest.is_silent_for(0.5) for guest in waiting)
        for guest in (*running, *waiting):
            guest.wait_for(b"ready")
            guest.end()


def test_a_flood_of_large_guests_leaves_memory_for_another_module(tmp_path: Path) -> None:
    manifest = entries("large", "growing", "hello")
    with serving_guests(tmp_path, manifest, *ONE_WORKER, *BUDGET) as (server, guest_of):
        flood = [guest_of(path) for path in ("/large", "/growing") * 5]
        flood[0].wait_for(b"ready")
        for _ in range(20):
            assert server.get("/hello").text == "hello\n"


def test_the_memory_of_a_dead_worker_is_released(tmp_path: Path) -> None:
    with serving_guests(tmp_path, entries("larger"), "--workers", "2", *BUDGET) as (
        server,
        guest_of,
    ):
        workers = set(server.workers)
        guest_of("/larger").wait_for(b"ready")
        waiting = [guest_of("/larger") for _ in range(8)]
        victim = max(workers, key=resident)
        assert resident(victim) > 200 * MIB
        os.kill(victim, signal.SIGKILL)
        server.wait_for_log(f"worker {victim} was killed")
        # Requests queued in the other worker continue, one after the other.
        while waiting:
            guest = first_of(waiting)
            waiting.remove(guest)
            with contextlib.suppress(
                AssertionError, ConnectionError
            ):  # it was in the worker that died
                guest.wait_for(b"ready")
                guest.end()
        assert server.post("/larger", b"x").text == "ready\ndone\n"


def first_of(guests: list[Guest]) -> Guest:
    """Return the first guest that sends something."""
    ready, _, _ = select.select(guests, [], [], 60)
    assert ready
    return next(guest for guest in guests if guest in ready)


def resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_reloads_do_not_use_up_the_budget(tmp_path: Path) -> None:
    """Each worker of each reload has an account; accounts of ended workers are reused."""
    with serving_guests(tmp_path, entries("larger"), "--workers", "2", *BUDGET) as (server, _):
        for number in range(20):
            server.process.send_signal(signal.SIGHUP)
            wait_for_reload(server, number + 1)
        assert server.post("/larger", b"x").text == "ready\ndone\n"


def test_a_reload_waits_for_workers_that_still_run_guests(tmp_path: Path) -> None:
    """Each reload leaves behind a worker whose guest is still running; there is a limit."""
    options = (*ONE_WORKER, "--shutdown-timeout", "600")
    with serving_guests(tmp_path, entries("small"), *options) as (server, guest_of):
        guests = [guest_of("/small")]
        guests[0].wait_for(b"ready")
        for number in range(CELLS_PER_WORKER - 1):
            server.process.send_signal(signal.SIGHUP)
            wait_for_reload(server, number + 1)
            guests.append(guest_of("/small"))
            guests[-1].wait_for(b"ready")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("postponing a new worker until a retired one has answered")
        assert len(server.workers) == CELLS_PER_WORKER
        assert server.post("/small", b"x").status == 200
        guests[0].end()
        wait_for_reload(server, CELLS_PER_WORKER)
        for guest in guests[1:]:
            guest.end()


def wait_for_reload(server: Server, count: int) -> None:
    """Wait until ``count`` reloads have been logged."""
    deadline = time.monotonic() + 60
    while server.log.count("INFO reloaded") < count:
        assert time.monotonic() < deadline, server.log
        time.sleep(0.02)


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_module_that_can_never_start(tmp_path: Path, command: str) -> None:
    write_files(tmp_path, {**MODULES, "modules.toml": entries("hello", "larger")})
    done = run_wagi(tmp_path, command, "--memory-budget", "128MiB")
    assert done.returncode == 2
    assert (
        "modules.toml:8: module: larger.wat: a guest starts with 209715200 bytes of memory, which"
        " exceeds the memory budget of all guests, 134217728 bytes: raise --memory-budget"
    ) in done.stderr
    assert run_wagi(tmp_path, "check", "--memory-budget", "0").returncode == 0


@pytest.mark.parametrize("budget", ["much", "-1", "64MB extra", ""])
def test_an_invalid_budget(tmp_path: Path, budget: str) -> None:
    write_files(tmp_path, {**MODULES, "modules.toml": entries("hello")})
    done = run_wagi(tmp_path, "check", f"--memory-budget={budget}")
    assert (done.returncode, "--memory-budget: expected auto or a size" in done.stderr) == (2, True)


@pytest.mark.parametrize("name", ["large", "growing-less"])
def test_a_container_of_256_mib(tmp_path: Path, name: str) -> None:
    """One of four large guests fits: the others wait or fail, and no worker is killed."""
    with (
        memory_limited_to(256 * MIB) as group,
        serving_guests(tmp_path, entries(name), "--workers", "2", command=group.command) as (
            server,
            guest_of,
        ),
    ):
        workers = set(server.workers)
        guests = [guest_of(f"/{name}") for _ in range(4)]
        answers = []
        while guests:
            guest = first_of(guests)
            guests.remove(guest)
            guest.wait_for(b"ready|no room")
            answers.append(guest.is_ready)
            if guest.is_ready:
                guest.end()
        assert answers.count(True) >= 1
        assert name == "growing-less" or all(answers)
        assert set(server.workers) == workers
        assert group.oom_kills == 0
        assert group.peak > 150 * MIB  # the limit did matter
