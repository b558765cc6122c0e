"""Socket activation and notifications, as systemd does them."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.server import ENVIRONMENT, WAGI, Server, serving, write_files
from tests.support.toolchains import tool
from tests.support.wat import HELLO, TEXT_HEAD, printing

MANIFEST = '[[module]]\nroute = "/hello"\nmodule = "hello.wat"\n'
MODULES: dict[str, str | bytes] = {"hello.wat": HELLO, "modules.toml": MANIFEST}
ACTIVATE = (
    "import os, sys\n"
    "os.dup2(int(sys.argv[1]), 3)\n"
    "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=sys.argv[2])\n"
    "os.execv(sys.argv[3], sys.argv[3:])\n"
)
"""Passes a socket as systemd does."""


@contextmanager
def activated(
    folder: Path, passed: socket.socket, *options: str, count: int = 1
) -> Iterator[subprocess.Popen[str]]:
    """Run a server that gets a socket."""
    write_files(folder, MODULES)
    number = str(passed.fileno())
    command = [sys.executable, "-c", ACTIVATE, number, str(count), *WAGI, "serve", *options]
    with subprocess.Popen(
        command, cwd=folder, env=ENVIRONMENT, pass_fds=[passed.fileno()], stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        yield process
        process.kill()


def get(port: int, path: str = "/hello") -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(b"GET %s HTTP/1.0\r\n\r\n" % path.encode())
        found = b""
        while piece := client.recv(4096):
            found += piece
        return found


@pytest.mark.parametrize("workers", ["1", "3"])
def test_a_passed_socket_is_served(tmp_path: Path, workers: str) -> None:
    """Also the connections that were made before the server was started."""
    with socket.create_server(("127.0.0.1", 0)) as passed:
        port = passed.getsockname()[1]
        results: list[bytes] = []
        early = threading.Thread(target=lambda: results.append(get(port)))
        early.start()
        with activated(tmp_path, passed, "--workers", workers) as process:
            early.join(60)
            assert results[0].endswith(b"\r\n\r\nhello\n")
            for _ in range(20):
                assert get(port).endswith(b"hello\n")
            process.terminate()
            _, log = process.communicate(timeout=40)
            assert (process.returncode, f"listening on http://127.0.0.1:{port}\n" in log) == (
                0,
                True,
            )


def test_a_unix_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as passed:
        passed.bind(str(path))
        passed.listen()
        with activated(tmp_path, passed) as process:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(60)
                client.connect(str(path))
                client.sendall(b"GET /hello HTTP/1.0\r\n\r\n")
                assert client.recv(15) == b"HTTP/1.0 200 OK"
            process.terminate()
            assert process.wait(40) == 0
        assert path.exists()


def test_no_request_is_lost_across_restarts(tmp_path: Path) -> None:
    """Connections wait in the socket of systemd while no server runs."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as passed:
        port = passed.getsockname()[1]
        answers: list[bytes] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                answers.append(get(port)[-6:])

        askers = [threading.Thread(target=ask) for _ in range(4)]
        for asker in askers:
            asker.start()
        for _ in range(3):
            before = len(answers)
            with activated(tmp_path, passed, "--workers", "2", "--access-log", "off") as process:
                while len(answers) < before + 100:
                    time.sleep(0.01)
                process.terminate()
                assert process.wait(40) == 0
        with activated(tmp_path, passed) as process:
            stop.set()
            for asker in askers:
                asker.join(60)
            process.terminate()
        assert set(answers) == {b"hello\n"}
        assert len(answers) > 300


def test_systemd_socket_activate(tmp_path: Path) -> None:
    """systemd's own tool for trying this."""
    write_files(tmp_path, MODULES)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [tool("systemd-socket-activate"), "--listen", f"127.0.0.1:{port}"]
    # It passes only these variables on.
    for name in {"PATH", "PYTHONPATH", *ENVIRONMENT.keys() - os.environ.keys()}:
        command += ["-E", f"{name}={ENVIRONMENT[name]}"]
    with subprocess.Popen([*command, *WAGI, "serve"], cwd=tmp_path, env=ENVIRONMENT) as process:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    answer = get(port)
                    break
                except ConnectionRefusedError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            assert answer.endswith(b"hello\n")
        finally:
            process.terminate()
            assert process.wait(40) == 0


def test_a_socket_for_another_process_is_not_taken(tmp_path: Path) -> None:
    """The variables may be inherited from a parent whose socket it was."""
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "1"}
    with serving(tmp_path, modules=MODULES, environment=environment) as server:
        assert server.get("/hello").status == 200


@pytest.mark.parametrize(
    ("kind", "count", "options", "problem"),
    [
        ("listening", 2, (), "expected one socket, found 2 (LISTEN_FDS)"),
        ("bound", 1, (), "expected a listening stream socket: use ListenStream= and Accept=no"),
        ("datagram", 1, (), "expected a listening stream socket"),
        ("pipe", 1, (), "descriptor 3 is not a socket (Socket operation on non-socket)"),
        ("listening", 1, ("-p", "1234"), "expected either a socket of systemd or an address"),
    ],
)
def test_sockets_that_cannot_be_used(
    tmp_path: Path, kind: str, count: int, options: tuple[str, ...], problem: str
) -> None:
    kind_of_socket = socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind_of_socket) as passed:
        passed.bind(("127.0.0.1", 0))
        if kind == "listening":
            passed.listen()
        if kind == "pipe":
            os.dup2(os.pipe()[0], passed.fileno())
        with activated(tmp_path, passed, *options, count=count) as process:
            _, log = process.communicate(timeout=60)
        assert process.returncode == 2
        assert log.startswith("error: socket activation: ")
        assert problem in log
        assert log.count("\n") == 1


class Manager:
    """A service manager that receives notifications."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(60)

    def receive(self) -> dict[str, str]:
        """The next notification that is not for the watchdog."""
        while True:
            lines = self.socket.recv(4096).decode().split("\n")
            fields = dict(line.split("=", 1) for line in lines)
            if fields != {"WATCHDOG": "1"}:
                return fields

    def expect(self, name: str) -> dict[str, str]:
        """Receive notifications until one has a field."""
        while name not in (fields := self.receive()):
            pass
        return fields


@contextmanager
def managed(
    folder: Path, address: str, options: Mapping[str, str] | None = None
) -> Iterator[tuple[Manager, Server]]:
    manager = Manager("\0" + address[1:] if address.startswith("@") else address)
    environment = {"NOTIFY_SOCKET": address, **(options or {})}
    with (
        manager.socket,
        serving(folder, modules=MODULES, environment=environment, wait=False) as server,
    ):
        yield manager, server


@pytest.mark.parametrize("abstract", [False, True])
def test_the_life_of_a_service(tmp_path: Path, abstract: bool) -> None:
    address = f"@wagi-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with managed(tmp_path, address) as (manager, server):
        assert manager.receive() == {"STATUS": "loading"}
        assert manager.receive() == {"READY": "1", "STATUS": "serving 1 routes"}
        server.wait_until_listening()
        write_files(tmp_path, {"hello.wat": printing(TEXT_HEAD + "new")})
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        server.process.send_signal(signal.SIGHUP)
        reloading = manager.receive()
        assert (reloading["RELOADING"], reloading["STATUS"]) == ("1", "reloading")
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert before <= int(reloading["MONOTONIC_USEC"]) <= after
        assert manager.receive() == {"READY": "1", "STATUS": "serving 1 routes"}
        while server.get("/hello").text != "new":  # a retired worker may still accept one
            pass
        write_files(tmp_path, {"modules.toml": "[[modul]]"})
        server.process.send_signal(signal.SIGHUP)
        assert manager.receive()["RELOADING"] == "1"
        failed = {"READY": "1", "STATUS": "serving 1 routes, reload failed (1 in a row)"}
        assert manager.receive() == failed
        server.process.send_signal(signal.SIGTERM)
        assert manager.receive() == {"STOPPING": "1", "STATUS": "shutting down"}
        assert server.stop() == 0


def test_the_watchdog_is_reset_in_half_of_its_time(tmp_path: Path) -> None:
    options = {"WATCHDOG_USEC": "400000"}
    with managed(tmp_path, str(tmp_path / "notify"), options) as (manager, _):
        manager.expect("READY")
        # Many times, so that a pause of a busy machine does not matter.
        received = [manager.socket.recv(4096) for _ in range(10)]
        started = time.monotonic()
        received += [manager.socket.recv(4096) for _ in range(5)]
        assert set(received) == {b"WATCHDOG=1"}
        assert time.monotonic() - started > 0.4


def test_the_watchdog_of_another_process_is_left_alone(tmp_path: Path) -> None:
    options = {"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}
    with managed(tmp_path, str(tmp_path / "notify"), options) as (manager, _):
        manager.expect("READY")
        manager.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            manager.socket.recv(4096)


def test_a_manager_that_is_gone_does_not_matter(tmp_path: Path) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "nothing"), "WATCHDOG_USEC": "100000"}
    with serving(tmp_path, modules=MODULES, environment=environment) as server:
        time.sleep(0.3)
        assert server.get("/hello").status == 200
        assert server.stop() == 0


def test_the_variables_are_not_passed_on(tmp_path: Path) -> None:
    """Else a build command could speak for the service, or take its socket."""
    manifest = MANIFEST + 'build = "env > seen; cp hello.source hello.wat"\nwatch = ["x"]\n'
    write_files(tmp_path, {"hello.source": HELLO, "x": ""})
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "100000"}
    with serving(tmp_path, manifest, "--watch", environment=environment) as server:
        assert server.get("/hello").status == 200
    assert not re.search("^(NOTIFY_SOCKET|WATCHDOG_USEC)=", (tmp_path / "seen").read_text(), re.M)
