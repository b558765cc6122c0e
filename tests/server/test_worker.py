"""The lifecycle of a worker process: TLS, signals, the access log."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import pty
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support.server import (
    ENVIRONMENT,
    ONE_WORKER,
    ROOT,
    WAGI,
    Response,
    Server,
    manifest_of,
    read_all,
    serving,
    write_files,
)
from tests.support.tls import certificate_of
from tests.support.toolchains import missing
from tests.support.wat import SPIN, TEXT_HEAD, Program, printing
from wagi.http.connection import NEW_CONNECTION_GRACE_S

MODULES: dict[str, str | bytes] = {
    "hello.wat": printing(TEXT_HEAD + "hello\n"),
    "slow.wat": Program().sleep(700).write(TEXT_HEAD + "done\n").wat(),
    "spin.wat": Program().code(SPIN).wat(),
    "environment.wat": (ROOT / "examples/wat/environment.wat").read_text(),
}
MANIFEST = "".join(
    f'[[module]]\nroute = "/{name.removesuffix(".wat")}"\nmodule = "{name}"\n' for name in MODULES
)


class BackgroundRequest(threading.Thread):
    """A request in the background."""

    def __init__(self, server: Server, path: str) -> None:
        super().__init__(daemon=True)
        self._server, self._path = server, path
        self.response: Response | None = None
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self.response = self._server.get(self._path)
        except (OSError, http.client.HTTPException) as error:
            self.error = error


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_graceful_shutdown(tmp_path: Path, number: int) -> None:
    """On SIGTERM or SIGINT, stop accepting, finish running requests and exit with 0."""
    with serving(tmp_path, MANIFEST, modules=MODULES) as server:
        idle = server.connect()
        idle.sendall(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"hello" in idle.recv(65536)
        asking = BackgroundRequest(server, "/slow")
        time.sleep(0.3)
        assert server.stop(number) == 0
        asking.join(5)
        assert asking.response is not None
        assert asking.response.text == "done\n"
        assert idle.recv(65536) == b""
        idle.close()
        with pytest.raises(OSError, match="refused"):
            server.connect()


def test_shutdown_timeout(tmp_path: Path) -> None:
    """After --shutdown-timeout, running requests are cancelled and the exit status is 0."""
    with serving(tmp_path, MANIFEST, "--shutdown-timeout", "0.5", modules=MODULES) as server:
        asking = BackgroundRequest(server, "/spin")
        time.sleep(0.3)
        started = time.monotonic()
        assert server.stop() == 0
        assert 0.4 < time.monotonic() - started < 8
        asking.join(5)
        assert asking.error is not None
        assert "cancelling 1 running requests" in server.log


def test_a_second_signal_stops_immediately(tmp_path: Path) -> None:
    """A second signal cancels running requests."""
    with serving(tmp_path, MANIFEST, modules=MODULES) as server:
        BackgroundRequest(server, "/spin")
        time.sleep(0.3)
        server.process.send_signal(signal.SIGINT)
        server.wait_for_log("waiting for 1 running requests")
        assert server.stop(signal.SIGINT, seconds=10) == 0


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("is_encrypted", [False, True], ids=["plain", "tls"])
def test_shutdown_answers_requests_that_arrive_while_the_worker_is_stalled(
    tmp_path: Path, certificate: tuple[Path, Path], loop: str, is_encrypted: bool
) -> None:
    """A drain closes no connection with unread input, even if its grace period is over."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    options = [*ONE_WORKER, "--loop", loop]
    wrap: Callable[[socket.socket], socket.socket] = lambda plain: plain  # noqa: E731
    if is_encrypted:
        options += ["--tls-cert", str(certificate[0]), "--tls-key", str(certificate[1])]
        context = ssl.create_default_context(cafile=str(certificate[0]))
        wrap = partial(context.wrap_socket, server_hostname="127.0.0.1")
    with serving(tmp_path, MANIFEST, *options, modules=MODULES) as server:
        with wrap(server.connect()) as running, server.connect() as plain:
            running.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            (worker,) = server.workers
            time.sleep(0.2)
            plain.settimeout(30)
            server.process.send_signal(signal.SIGTERM)
            server.wait_for_log("waiting for 1 running requests")
            os.kill(worker, signal.SIGSTOP)
            resume = threading.Timer(
                NEW_CONNECTION_GRACE_S + 0.2, os.kill, (worker, signal.SIGCONT)
            )
            resume.start()
            with wrap(plain) as late:  # a TLS handshake waits here until the worker continues
                late.sendall(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
                assert b"hello\n" in read_all(late)
            assert b"done\n" in read_all(running)
        assert server.stop() == 0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    return certificate_of(folder)


@pytest.mark.parametrize("by_variable", [False, True])
def test_tls(tmp_path: Path, certificate: tuple[Path, Path], by_variable: bool) -> None:
    """TLS with --tls-cert and --tls-key, or WAGI_TLS_CERT and WAGI_TLS_KEY."""
    cert, key = map(str, certificate)
    options = () if by_variable else ("--tls-cert", cert, "--tls-key", key)
    environment = {"WAGI_TLS_CERT": cert, "WAGI_TLS_KEY": key} if by_variable else {}
    with serving(tmp_path, MANIFEST, *options, modules=MODULES, environment=environment) as server:
        assert server.url.startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cafile=cert)
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context)
        connection.request("GET", "/environment")
        body = connection.getresponse().read()
        connection.close()
    assert f"\nX_FULL_URL=https://127.0.0.1:{server.port}/environment\n".encode() in body


def test_access_log_text(tmp_path: Path) -> None:
    """One line per request: the common fields, route, duration and CPU time."""
    with serving(tmp_path, MANIFEST, modules=MODULES) as server:
        server.get("/hello?x", headers=[("User-Agent", 'a"b\\c'), ("Referer", "r")])
        server.wait_for_access("/hello")  # the order of several workers' lines is unspecified
        server.get("/unknown")
        log = server.wait_for_access("/unknown").splitlines()
    assert re.fullmatch(
        r"127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000\]"
        r' "GET /hello\?x HTTP/1\.1" 200 6'
        r' "r" "a\\"b\\\\c" route="/hello" ms=\d+\.\d{3} cpu_ms=\d+\.\d{3} id=[0-9a-f]+-\d+',
        log[0],
    )
    assert ' 404 ' in log[1]  # fmt: skip
    assert 'route=""' in log[1]


def test_access_log_json(tmp_path: Path) -> None:
    """--access-log json."""
    with serving(tmp_path, MANIFEST, "--access-log", "json", modules=MODULES) as server:
        server.get("/slow")
        line = json.loads(server.wait_for_access("}"))
    assert line["method"] == "GET"
    assert line["target"] == line["route"] == "/slow"
    assert (line["status"], line["bytes"], line["client"]) == (200, 5, "127.0.0.1")
    assert line["ms"] > 600
    assert line["cpu_ms"] < line["ms"]


def test_access_log_off(tmp_path: Path) -> None:
    """--access-log off."""
    with serving(tmp_path, MANIFEST, "--access-log", "off", modules=MODULES) as server:
        server.get("/hello")
        server.stop()
    assert server.access_log == []


@pytest.mark.parametrize("trusted", [False, True])
def test_trusted_proxy(tmp_path: Path, trusted: bool) -> None:
    """X-Forwarded-* is accepted from trusted peers only; otherwise it is a plain header."""
    options = ("--trusted-proxy", "127.0.0.0/8", "--trusted-proxy", "10.0.0.0/8")
    headers = [
        ("X-Forwarded-For", "6.6.6.6, 192.0.2.7, 10.1.2.3"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "public.example"),
        ("X-Request-Id", "from-the-proxy"),
    ]
    with serving(tmp_path, MANIFEST, *(options if trusted else ()), modules=MODULES) as server:
        found = server.get("/environment", headers=headers).variables
        missing = server.get("/unknown", headers=headers)
        port = server.port
    assert found["HTTP_X_FORWARDED_FOR"] == headers[0][1]
    if trusted:
        assert found["REMOTE_ADDR"] == "192.0.2.7"
        assert found["X_FULL_URL"] == "https://public.example/environment"
        assert missing.header("X-Request-Id") == "from-the-proxy"
    else:
        assert found["REMOTE_ADDR"] == "127.0.0.1"
        assert found["X_FULL_URL"] == f"http://127.0.0.1:{port}/environment"
        assert missing.header("X-Request-Id") != "from-the-proxy"


def test_a_terminal_gets_a_route_table(tmp_path: Path) -> None:
    """The startup banner shows URLs, modules and the loading time; log lines are short."""
    write_files(tmp_path, {**MODULES, "modules.toml": MANIFEST})
    terminal, other = pty.openpty()
    process = subprocess.Popen(
        [*WAGI, "serve", "-l", "127.0.0.1:0"],
        cwd=tmp_path,
        env={**ENVIRONMENT, "TERM": "xterm", "COLUMNS": "100"},
        stderr=other,
        stdout=other,
    )
    os.close(other)
    seen = ""
    try:
        while "Ctrl-C" not in seen:
            seen += os.read(terminal, 65536).decode()
        (url,) = set(re.findall(r"http://127\.0\.0\.1:\d+/hello(?=\x1b|\s)", seen))
        with urllib.request.urlopen(url) as response:
            assert response.read() == b"hello\n"
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(url + "/" + "x" * 200)
        while "404" not in seen or not seen.endswith("\n"):
            seen += os.read(terminal, 65536).decode()
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        os.close(terminal)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", seen)
    assert re.search(r":\d+/hello.*hello\.wat", plain)
    assert re.search(r"\n\d\d:\d\d:\d\d 200 GET /hello +\d+\.\d ms\r\n", plain)
    assert re.search(r"\n\d\d:\d\d:\d\d 404 GET /hello/x+… \d+\.\d ms\r\n", plain)
    assert "\x1b[33m404\x1b[0m" in seen
    assert re.search(r"Loaded 4 routes in \d+\.\d+ s", plain)
    assert re.search(r"Listening on http://127\.0\.0\.1:\d+", plain)


def test_a_closed_stdout_does_not_stop_the_service(tmp_path: Path) -> None:
    """Access log lines are lost, which is reported once; requests are still answered."""
    write_files(tmp_path, {**MODULES, "modules.toml": MANIFEST})
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        [*WAGI, "serve", "-l", "127.0.0.1:0", *ONE_WORKER],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    server = Server(process)
    try:
        server.wait_until_listening()
        for _ in range(5):
            assert server.get("/hello").status == 200
        assert (
            server.wait_for_log("the access log: dropping records").count("dropping records") == 1
        )
    finally:
        assert server.stop() == 0


def test_uvloop(tmp_path: Path) -> None:
    """The `uvloop` extra: the same behaviour on another event loop."""
    if importlib.util.find_spec("uvloop") is None:
        missing("uvloop is not installed: pip install '.[uvloop]'")
    path = tmp_path / "wagi.sock"
    options = ("--loop", "uvloop")
    modules = {**MODULES, "broken.wat": Program().write(TEXT_HEAD + "x").sleep(50).trap().wat()}
    manifest = manifest_of(modules)
    with serving(tmp_path, manifest, *options, modules=modules) as server:
        assert server.get("/hello").text == "hello\n"
        assert b"x" in server.raw(b"GET /broken HTTP/1.1\r\nHost: a\r\n\r\n")
        with server.connect() as connection:
            connection.sendall(b"GET /broken HTTP/1.0\r\n\r\n")
            with pytest.raises(ConnectionResetError):
                b"".join(iter(lambda: connection.recv(65536), b""))
        asking = BackgroundRequest(server, "/slow")
        time.sleep(0.3)
        assert server.stop() == 0
        asking.join(5)
        assert asking.response is not None
    with serving(tmp_path, manifest, *options, listen=f"unix:{path}") as server:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET /hello HTTP/1.0\r\n\r\n")
            assert read_all(client).endswith(b"hello\n")
        assert server.stop() == 0
    assert not path.exists()
