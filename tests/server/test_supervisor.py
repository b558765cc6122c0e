"""Several workers: shared sockets, restarts and rolling reloads."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import ssl
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.server import ONE_WORKER, Server, serving
from tests.support.tls import certificate_of
from tests.support.toolchains import python_module
from tests.support.waiting import wait_until
from tests.support.wat import HELLO, TEXT_HEAD, Program, printing
from wagi.config.resources import core_count

MODULES: dict[str, str | bytes] = {
    "hello.wat": HELLO,
    "slow.wat": Program().sleep(1500).write(TEXT_HEAD + "slow\n").wat(),
}
MANIFEST = """
[[module]]
route = "/hello"
module = "hello.wat"
[[module]]
route = "/slow"
module = "slow.wat"
"""
THREE = ("--workers", "3")


def responding_workers(server: Server) -> set[str]:
    """Return the prefixes of the request ids, which are unique per worker."""
    return set(re.findall(r" id=(\w+)-\d+$", "\n".join(server.access_log), re.MULTILINE))


def wait_for_requests(server: Server, count: int) -> None:
    deadline = time.monotonic() + 20
    while len(server.access_log) < count:
        assert time.monotonic() < deadline, server.access_log
        time.sleep(0.02)


def wait_for_workers(server: Server, count: int, without: int = 0) -> None:
    deadline = time.monotonic() + 20
    while len(server.workers) != count or without in server.workers:
        assert time.monotonic() < deadline, server.log
        time.sleep(0.02)


def test_all_workers_answer(tmp_path: Path) -> None:
    with serving(tmp_path, MANIFEST, *THREE, modules=MODULES) as server:
        assert len(server.workers) == 3
        for _ in range(100):
            assert server.get("/hello").text == "hello\n"
        wait_for_requests(server, 100)
        assert len(responding_workers(server)) == 3
        workers = server.workers
        assert server.stop() == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_auto_starts_one_worker_per_core(tmp_path: Path) -> None:
    with serving(tmp_path, MANIFEST, "--workers", "auto", modules=MODULES) as server:
        assert len(server.workers) == core_count()


def test_workers_share_the_queue_of_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "wagi.sock"

    def ask(_: int) -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(b"GET /slow HTTP/1.0\r\nHost: a\r\n\r\n")
            return http_body(connection)

    with serving(tmp_path, MANIFEST, *THREE, modules=MODULES, listen=f"unix:{path}") as server:
        with ThreadPoolExecutor(60) as pool:
            assert set(pool.map(ask, range(60))) == {b"slow\n"}
        wait_for_requests(server, 60)
        assert len(responding_workers(server)) > 1
        assert server.stop() == 0
    assert not path.exists()


@pytest.mark.parametrize("event_loop", ["asyncio", "uvloop"])
def test_a_unix_socket_outlives_its_workers(tmp_path: Path, event_loop: str) -> None:
    """Workers that end leave the file to the others; the supervisor removes it at the end."""
    if event_loop == "uvloop":
        python_module("uvloop")
    path = tmp_path / "wagi.sock"
    options = ("--workers", "2", "--loop", event_loop)

    def ask() -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(b"GET /hello HTTP/1.0\r\nHost: a\r\n\r\n")
            return http_body(connection)

    with serving(tmp_path, MANIFEST, *options, modules=MODULES, listen=f"unix:{path}") as server:
        before = set(server.workers)
        reload(server)
        wait_until(lambda: not before & set(server.workers))
        assert ask() == b"hello\n"
        first, *_ = left = server.workers
        os.kill(first, signal.SIGTERM)
        wait_until(lambda: first not in server.workers and len(server.workers) == len(left))
        assert ask() == b"hello\n"
        assert server.stop() == 0
    assert not path.exists()


def http_body(connection: socket.socket) -> bytes:
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.read()


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    """Only its own requests fail, and no connection is refused."""
    with serving(tmp_path, MANIFEST, *THREE, modules=MODULES) as server:
        with ThreadPoolExecutor(30) as pool:
            asked = [pool.submit(server.get, "/slow") for _ in range(30)]
            time.sleep(0.5)
            victim = server.workers[0]
            os.kill(victim, signal.SIGKILL)
            for _ in range(50):
                assert server.get("/hello").status == 200
            outcomes = Counter(request.exception() is None for request in asked)
        wait_for_workers(server, 3, without=victim)
        assert outcomes[True] > 0
        assert outcomes[False] > 0
        log = server.wait_for_log("starting another")
        assert f"worker {victim} was killed by SIGKILL, its requests failed" in log


def test_a_crash_looping_worker_is_restarted_with_back_off(tmp_path: Path) -> None:
    """The supervisor backs off but keeps trying."""
    with serving(tmp_path, MANIFEST, *ONE_WORKER, modules=MODULES) as server:
        for _ in range(3):
            (victim,) = server.workers
            os.kill(victim, signal.SIGKILL)
            wait_for_workers(server, 1, without=victim)
        server.wait_for_log("starting another in 0.5 s")
        assert server.get("/hello").text == "hello\n"


def test_a_restarted_worker_serves_the_loaded_plan(tmp_path: Path) -> None:
    """Files that have changed since take effect only with a reload."""
    options = ("--workers", "1", "--artefact-cache", str(tmp_path / "artefacts"))
    with serving(tmp_path, MANIFEST, *options, modules=MODULES) as server:
        (tmp_path / "hello.wat").write_text(printing(TEXT_HEAD + "other\n"))
        (tmp_path / "modules.toml").write_text("nonsense")
        for path in (tmp_path / "artefacts").iterdir():
            path.unlink()
        victim = server.workers[0]
        os.kill(victim, signal.SIGKILL)
        wait_for_workers(server, 1, without=victim)
        assert server.get("/hello").text == "hello\n"


def test_a_worker_exits_without_its_supervisor(tmp_path: Path) -> None:
    """It finishes its requests; then the port is free for a new server."""
    with serving(tmp_path, MANIFEST, *THREE, modules=MODULES) as server:
        workers = server.workers
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.append(server.get("/slow").text))
        asking.start()
        time.sleep(0.5)
        server.process.kill()
        asking.join()
        assert answers == ["slow\n"]
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in workers):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", server.port))


# Reload


def reload(server: Server, expected: str = "INFO reloaded") -> None:
    before = server.log.count(expected)
    server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 60
    while server.log.count(expected) == before:
        assert time.monotonic() < deadline, server.log
        time.sleep(0.01)


def test_sighup_loads_a_renewed_certificate(tmp_path: Path) -> None:
    """A certificate that does not match its key is reported, and the old one stays in use."""
    cert, key = certificate_of(tmp_path / "tls")
    options = ("--tls-cert", str(cert), "--tls-key", str(key))
    with serving(tmp_path, MANIFEST, *options, modules=MODULES) as server:

        def served() -> str:
            return ssl.get_server_certificate(("127.0.0.1", server.port), timeout=30)

        first = cert.read_text()
        assert served() == first
        certificate_of(tmp_path / "new")
        shutil.copy(tmp_path / "new/cert.pem", cert)
        reload(server, f"--tls-cert {cert} and --tls-key {key} cannot be used")
        assert served() == first
        shutil.copy(tmp_path / "new/key.pem", key)
        reload(server)
        assert served() == cert.read_text() != first


def test_a_reload_switches_to_new_routes(tmp_path: Path) -> None:
    """Requests in flight finish on the old routes; env files and modules are read again."""
    manifest = MANIFEST + '[[module]]\nroute = "/variables"\nmodule = "environment.wat"\n'
    environment = Path(__file__).parents[2] / "examples/wat/environment.wat"
    modules = {**MODULES, "environment.wat": environment.read_bytes(), "env": "COLOR=red\n"}
    options = (*THREE, "--env-file", "env")
    with serving(tmp_path, manifest, *options, modules=modules) as server:
        assert server.get("/variables").variables["COLOR"] == "red"
        with ThreadPoolExecutor(20) as pool:
            asked = [pool.submit(server.get, "/slow") for _ in range(20)]
            time.sleep(0.5)
            (tmp_path / "slow.wat").write_text(printing(TEXT_HEAD + "fast\n"))
            (tmp_path / "modules.toml").write_text(
                manifest + '[[module]]\nroute = "/new"\nmodule = "hello.wat"\n'
            )
            (tmp_path / "env").write_text("COLOR=blue\n")
            reload(server)
            assert {request.result().text for request in asked} == {"slow\n"}
        for _ in range(10):
            assert server.get("/slow").text == "fast\n"
            assert server.get("/new").text == "hello\n"
            assert server.get("/variables").variables["COLOR"] == "blue"
        wait_for_workers(server, 3)


def test_a_reload_drops_no_requests(tmp_path: Path) -> None:
    """With new and persistent connections, under load, through several reloads."""
    with serving(tmp_path, MANIFEST, "--workers", "2", modules=MODULES) as server:
        stop = threading.Event()
        outcomes: Counter[str] = Counter()

        def connect_each_time() -> None:
            while not stop.is_set():
                outcomes[server.get("/hello").text] += 1

        def keep_the_connection() -> None:
            connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
            while not stop.is_set():
                connection.request("GET", "/hello")
                response = connection.getresponse()
                outcomes[response.read().decode()] += 1
                if response.headers.get("Connection") == "close":
                    connection.close()

        with ThreadPoolExecutor(8) as pool:
            clients = [
                pool.submit(client)
                for client in (connect_each_time, keep_the_connection)
                for _ in range(4)
            ]
            for _ in range(5):
                reload(server)
            stop.set()
            for client in clients:
                client.result()
        assert set(outcomes) == {"hello\n"}
        assert outcomes["hello\n"] > 100


def test_a_failed_reload_changes_nothing(tmp_path: Path) -> None:
    """The error is logged with its location, and the old routes stay in service."""
    with serving(tmp_path, MANIFEST, *THREE, modules=MODULES) as server:
        workers = server.workers
        (tmp_path / "modules.toml").write_text(MANIFEST.replace("hello.wat", "gone.wat"))
        reload(server, "reload failed")
        assert re.search(r"modules\.toml:4: module: no such file: \S+gone\.wat ", server.log)
        assert server.get("/hello").text == "hello\n"
        assert server.workers == workers
        (tmp_path / "modules.toml").write_text(MANIFEST)
        reload(server)
        wait_for_workers(server, 3)
        assert not set(workers) & set(server.workers)


def test_a_stop_during_a_reload(tmp_path: Path) -> None:
    with serving(tmp_path, MANIFEST, *THREE, modules=MODULES) as server:
        for pause in (0.0, 0.02, 0.05):
            server.process.send_signal(signal.SIGHUP)
            time.sleep(pause)
        assert server.stop() == 0
