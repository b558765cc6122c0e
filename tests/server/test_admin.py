"""The admin listener: probes, metrics and the routes in force, on a real server."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.admin import Admin
from tests.support.nginx import free_port
from tests.support.server import ONE_WORKER, Server, run_wagi, serving, write_files
from tests.support.toolchains import tool
from tests.support.waiting import wait_until
from tests.support.wat import HELLO, SPIN, TEXT_HEAD, Program

MODULES: dict[str, str | bytes] = {
    "hello.wat": HELLO,
    "spin.wat": Program().code(SPIN).wat(),
    "trap.wat": Program().code("unreachable").wat(),
    "exit.wat": Program().write("Content-Type: text/plain\n\nbad\n").exit(3).wat(),
    "silent.wat": Program().wat(),
    "read.wat": Program().code("(loop $l (br_if $l (call $read)))").write(TEXT_HEAD).wat(),
}
MANIFEST = "".join(
    f'[[module]]\nroute = "/{name.removesuffix(".wat")}"\nmodule = "{name}"\n'
    for name in MODULES
    if name != "spin.wat"
)
MANIFEST += '[[module]]\nroute = "/spin"\nmodule = "spin.wat"\ncpu_timeout = 0.1\n'
MANIFEST += 'environment = { TOKEN = "secret-value" }\n'


@contextmanager
def observed(
    folder: Path, *options: str, manifest: str = MANIFEST
) -> Iterator[tuple[Server, Admin]]:
    """Serve with an admin listener on a free port."""
    port = free_port()
    listen = ("--admin-listen", f"127.0.0.1:{port}")
    with serving(folder, manifest, *listen, *options, modules=MODULES) as server:
        yield server, Admin(port)


def test_probes(tmp_path: Path) -> None:
    with observed(tmp_path, "--workers", "2") as (server, admin):
        assert admin.get("/readyz") == (200, "ok\n")
        assert admin.get("/readyz?verbose") == (200, "service: ok\nworkers: ok\n")
        wait_until(lambda: admin.get("/livez?verbose") == (200, "worker 1: ok\nworker 2: ok\n"))
        assert admin.get("/livez") == (200, "ok\n")
        for path in ("/livez", "/readyz", "/metrics", "/config"):
            assert server.get(path).status == 404
        assert admin.get("/hello")[0] == 404


def test_a_worker_that_hangs_is_not_alive(tmp_path: Path) -> None:
    with observed(tmp_path, *ONE_WORKER) as (server, admin):
        wait_until(lambda: admin.get("/livez?verbose")[1] == "worker 1: ok\n")
        (worker,) = workers_of(server)
        os.kill(worker, signal.SIGSTOP)
        try:
            wait_until(lambda: admin.get("/livez")[0] == 503)
            assert "its event loop has not run for 1" in admin.get("/livez")[1]
        finally:
            os.kill(worker, signal.SIGCONT)
        wait_until(lambda: admin.get("/livez")[0] == 200)


def test_the_process_is_started_again(tmp_path: Path) -> None:
    """The new process shows the same state, and ends with the server."""
    with observed(tmp_path, *ONE_WORKER) as (server, admin):
        wait_until(lambda: admin.get("/livez?verbose")[1] == "worker 1: ok\n")
        config = admin.get("/config")
        first, worker = server.workers
        os.kill(first, signal.SIGKILL)
        server.wait_for_log("the process of --admin-listen was killed by SIGKILL")
        assert server.get("/hello").text == "hello\n"
        wait_until(lambda: len(server.workers) == 2)  # meanwhile, connections wait
        assert admin.get("/readyz") == (200, "ok\n")
        assert admin.get("/config") == config
        assert server.workers[0] == worker
        address = ("127.0.0.1", server.port)
        assert server.stop() == 0
        for probe in (lambda: socket.create_connection(address), lambda: admin.get("/readyz")):
            with pytest.raises(ConnectionRefusedError):
                probe()


def workers_of(server: Server) -> list[int]:
    """The process IDs of the workers; the process of the admin listener was started first."""
    return server.workers[1:]


def test_readiness_ends_before_the_drain(tmp_path: Path) -> None:
    """Requests are answered during --shutdown-delay, which load balancers need to notice."""
    with observed(tmp_path, "--shutdown-delay", "2") as (server, admin):
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: admin.get("/readyz") == (503, "service: it is stopping\n"))
        assert admin.get("/livez")[0] == 200
        assert server.get("/hello").text == "hello\n"
        server.wait_for_log("shutting down in 2 s")
        assert server.stop() == 0  # the second signal ends the delay
        with pytest.raises(ConnectionRefusedError):
            admin.get("/readyz")


def test_the_delay_ends_by_itself(tmp_path: Path) -> None:
    with observed(tmp_path, "--shutdown-delay", "0.5") as (server, _):
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0


def test_not_ready_while_a_worker_is_missing(tmp_path: Path) -> None:
    """A worker that keeps dying is started later each time."""
    with observed(tmp_path, *ONE_WORKER) as (server, admin):
        seen = set()
        deadline = time.monotonic() + 30
        while 503 not in seen:
            assert time.monotonic() < deadline
            for worker in workers_of(server):
                os.kill(worker, signal.SIGKILL)
            seen.add(admin.get("/readyz")[0])
        wait_until(lambda: admin.get("/readyz")[0] == 200)
        assert admin.value("wagi_worker_deaths_total") >= 1
        assert admin.value("wagi_workers") == 1


def test_metrics_of_requests(tmp_path: Path) -> None:
    with observed(tmp_path, "--workers", "2") as (server, admin):
        for _ in range(10):
            assert server.get("/hello").text == "hello\n"
            assert server.post("/read", b"12345").status == 200
        for path in ("/trap", "/exit", "/silent", "/spin", "/nowhere"):
            server.get(path)
        total = "wagi_http_requests_total"
        wait_until(lambda: admin.value(total) == 25)
        assert admin.value(total, route="/read", method="POST", code="200") == 10
        assert admin.value(total, route="none", code="404") == 1
        assert admin.value("wagi_http_request_body_bytes_total", route="/read") == 50
        assert admin.value("wagi_http_response_body_bytes_total", route="/hello") == 60
        assert admin.value("wagi_http_request_duration_seconds_count", route="/hello") == 10
        assert admin.value("wagi_guest_cpu_seconds_total", route="/spin") > 0.09
        assert admin.value("wagi_requests_rejected_total", reason="no_route") == 1
        outcomes = {
            "/hello": "completed",
            "/trap": "trap",
            "/exit": "exit",
            "/silent": "invalid_output",
            "/spin": "cpu_timeout",
        }
        for route, outcome in outcomes.items():
            counted = admin.value("wagi_guests_total", route=route, outcome=outcome)
            assert counted == (10 if route == "/hello" else 1), route
        assert admin.value("wagi_config_last_reload_successful") == 1
        assert admin.value("process_resident_memory_bytes") > 20 * 1024**2
        assert admin.value("wagi_build_info") == 1


def test_counters_survive_workers(tmp_path: Path) -> None:
    """They neither decrease nor are they counted twice when workers die or are replaced."""
    with observed(tmp_path, *ONE_WORKER) as (server, admin):
        for requests, number in ((5, signal.SIGKILL), (10, signal.SIGHUP), (15, signal.SIGKILL)):
            for _ in range(5):
                assert server.get("/hello").status == 200
            wait_until(lambda: admin.value("wagi_http_requests_total") == requests)  # noqa: B023
            (before,) = workers_of(server)
            target = server.process.pid if number == signal.SIGHUP else before
            os.kill(target, number)
            wait_until(lambda: len(workers_of(server)) == 1 and before not in workers_of(server))  # noqa: B023
            assert admin.value("wagi_http_requests_total") == requests


def test_gauges_of_running_guests(tmp_path: Path) -> None:
    manifest = MANIFEST.replace("cpu_timeout = 0.1", "timeout = 60\nmax_concurrency = 1")
    with observed(tmp_path, *ONE_WORKER, manifest=manifest) as (server, admin):
        assert admin.value("wagi_guests_running") == 0
        with server.connect() as one, server.connect() as two:
            for connection in (one, two):
                connection.sendall(b"GET /spin HTTP/1.1\r\nHost: a\r\n\r\n")
            wait_until(lambda: admin.value("wagi_guests_running") == 1)
            wait_until(lambda: admin.value("wagi_queue_length") == 1)
            wait_until(lambda: admin.value("wagi_http_connections") == 2)
            assert admin.value("wagi_guest_memory_bytes") >= 64 * 1024
        wait_until(lambda: admin.value("wagi_guests_running") == 0)
        wait_until(lambda: admin.value("wagi_queue_wait_seconds_count") == 1)


def test_promtool_accepts_the_metrics(tmp_path: Path) -> None:
    promtool = tool("promtool")
    with observed(tmp_path) as (server, admin):
        server.get("/hello")
        server.get("/trap")
        wait_until(lambda: admin.value("wagi_guests_total") == 2)
        _, text = admin.get("/metrics")
        done = subprocess.run(
            [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        _, openmetrics = admin.get("/metrics", "application/openmetrics-text; version=1.0.0")
        assert openmetrics.endswith("# EOF\n")


def test_the_routes_in_force(tmp_path: Path) -> None:
    with observed(tmp_path) as (server, admin):
        status, text = admin.get("/config")
        routes = {route["route"]: route for route in json.loads(text)["routes"]}
        assert status == 200
        assert routes.keys() == {"/hello", "/trap", "/exit", "/silent", "/read", "/spin"}
        digest = hashlib.sha256((tmp_path / "hello.wat").read_bytes()).hexdigest()
        assert routes["/hello"]["sha256"] == digest
        assert routes["/spin"]["limits"]["cpu_timeout"] == 0.1
        assert "secret-value" not in text
        (tmp_path / "public").mkdir()
        (tmp_path / "modules.toml").write_text('[[module]]\nroute = "/x/..."\nstatic = "public"\n')
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: '"/x/..."' in admin.get("/config")[1])
        (tmp_path / "modules.toml").write_text("nonsense")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: admin.value("wagi_config_last_reload_successful") == 0)
        assert '"/x/..."' in admin.get("/config")[1]
        assert admin.get("/readyz")[0] == 200


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    options = ("--admin-listen", f"unix:{path}")
    with serving(tmp_path, MANIFEST, *options, modules=MODULES) as server:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert response.read() == b"ok\n"
            assert response.getheader("Server") == "wagi"
        assert server.stop() == 0
    assert not path.exists()


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", ":{port}", "0.0.0.0:{port}"])
def test_the_public_address_is_no_admin_address(tmp_path: Path, address: str) -> None:
    write_files(tmp_path, MODULES)
    (tmp_path / "modules.toml").write_text(MANIFEST)
    port = free_port()
    found = address.format(port=port)
    done = run_wagi(tmp_path, "serve", "-l", f"127.0.0.1:{port}", "--admin-listen", found)
    assert done.returncode == 2
    assert f"--admin-listen {found}: expected another address than that of --listen" in done.stderr


def test_the_admin_process_ends_with_the_supervisor(tmp_path: Path) -> None:
    with observed(tmp_path) as (server, admin):
        server.stop(signal.SIGKILL)

        def is_closed() -> bool:
            try:
                admin.get("/livez")
            except OSError:
                return True
            return False

        wait_until(is_closed)
