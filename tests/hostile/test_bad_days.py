"""Failures of the environment: disks, descriptors, signals, clocks, files that change."""

from __future__ import annotations

import hashlib
import http.client
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.nginx import free_port
from tests.support.server import (
    ENVIRONMENT,
    ONE_WORKER,
    WAGI,
    Server,
    run_wagi,
    serving,
    write_files,
)
from tests.support.toolchains import missing, native_c_library
from tests.support.wat import HELLO, SPIN, TEXT_HEAD, Program, printing
from wagi.http.connection import NEW_CONNECTION_GRACE_S

MODULES: dict[str, str | bytes] = {
    "hello.wat": HELLO,
    "talk.wat": Program().write("said\n", fd=2).write(TEXT_HEAD + "hello\n").wat(),
    "nap.wat": Program().sleep(1000).write(TEXT_HEAD + "awake\n").wat(),
    "spin.wat": Program().code(SPIN).wat(),
    "echo.wat": Program()
    .code("(loop $l (br_if $l (call $read)))")
    .write(TEXT_HEAD + "read\n")
    .wat(),
    "outside.wat": '(module (memory 1) (func (export "_start") (drop (i32.load (i32.const -4)))))',
}
MANIFEST = "".join(
    f'[[module]]\nroute = "/{name.removesuffix(".wat")}"\nmodule = "{name}"\n' for name in MODULES
)


def module_log(folder: Path, route: str) -> Path:
    return folder / hashlib.sha256(route.encode()).hexdigest() / "module.stderr"


# Logs


def test_a_full_log_disk(tmp_path: Path) -> None:
    """The server keeps serving; dropped records are reported once, and counted."""
    log = module_log(tmp_path / "logs", "/talk")
    log.parent.mkdir(parents=True)
    log.symlink_to("/dev/full")
    options = (*ONE_WORKER, "--log-dir", str(tmp_path / "logs"))
    with serving(tmp_path, MANIFEST, *options, modules=MODULES) as server:
        for _ in range(20):
            assert server.get("/talk").text == "hello\n"
            time.sleep(0.02)
        server.wait_for_log("dropping records: No space left on device")
        assert server.stop() == 0
        assert server.log.count("dropping records") == 1
        assert "dropped 20 records in total" in server.log


@pytest.mark.parametrize("command", ["serve", "check", "call /hello", "routes", "test-server"])
def test_no_writable_directory(tmp_path: Path, command: str) -> None:
    """As in a container with a read-only root: one message with a remedy."""
    write_files(
        tmp_path,
        {"modules.toml": '[[module]]\nroute = "/hello"\nmodule = "m.wat"\n', "m.wat": HELLO},
    )
    environment = {**ENVIRONMENT, "HOME": str(tmp_path / "home")}
    for name in ("WAGI_ARTEFACT_CACHE", "WAGI_MODULE_CACHE", "XDG_CACHE_HOME"):
        environment.pop(name, None)
    done = subprocess.run(
        ["sh", "-c", f"ulimit -f 0; {shlex.join(WAGI)} {command}"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "error: no writable temporary directory (No usable temporary directory"
    )
    assert "Traceback" not in done.stderr


def test_a_log_folder_that_is_removed_and_restored(tmp_path: Path) -> None:
    options = ("--log-dir", str(tmp_path / "logs"))
    log = module_log(tmp_path / "logs", "/talk")
    with serving(tmp_path, MANIFEST, *options, modules=MODULES) as server:
        server.get("/talk")
        _wait_for(log.exists)
        shutil.rmtree(tmp_path / "logs")
        assert server.get("/talk").text == "hello\n"
        _wait_for(log.exists)
        shutil.rmtree(tmp_path / "logs")
        (tmp_path / "logs").write_text("in the way")
        assert server.get("/talk").text == "hello\n"
        server.wait_for_log("dropping records: Not a directory")
        (tmp_path / "logs").unlink()
        assert server.get("/talk").text == "hello\n"
        _wait_for(log.exists)


def test_an_unread_stdout(tmp_path: Path) -> None:
    """The pipe of the access log stays full."""
    reading, writing = os.pipe()
    try:
        with serving(tmp_path, MANIFEST, modules=MODULES, stdout=writing) as server:
            target = "/hello?" + "x" * 8000
            connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
            for _ in range(700):
                connection.request("GET", target)
                assert connection.getresponse().read() == b"hello\n"
            server.wait_for_log("the access log: dropping records: the writer cannot keep up")
            assert server.stop() == 0
            assert "the access log: " in server.log.splitlines()[-1]
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("redirection", [">/dev/full", "2>/dev/full", ">&-", "2>&-", ">&- 2>&-"])
def test_unwritable_streams(tmp_path: Path, redirection: str) -> None:
    """The server keeps serving if stdout or stderr is on a full disk or closed."""
    write_files(tmp_path, {**MODULES, "modules.toml": MANIFEST})
    port = free_port()
    command = " ".join([*WAGI, "serve", "--listen", f"127.0.0.1:{port}"])
    process = subprocess.Popen(
        ["sh", "-c", f"exec {command} {redirection}"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(lambda: process.poll() is None and _answers(port))
        assert all(_answers(port) for _ in range(20))
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/talk")
        return connection.getresponse().read() == b"hello\n"
    except OSError:
        return False


def _wait_for(condition: object, seconds: float = 20) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Descriptors


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_running_out_of_descriptors(tmp_path: Path, loop: str) -> None:
    """Accepting pauses without a busy loop, logs this once, and resumes when some are free."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    if shutil.which("prlimit") is None:
        missing("prlimit is not installed")
    options = (*ONE_WORKER, "--loop", loop)
    with (
        serving(tmp_path, MANIFEST, *options, modules=MODULES, files_limit=60) as server,
        ExitStack() as stack,
    ):
        served = stack.enter_context(server.connect())
        served.sendall(b"GET /talk HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"hello" in served.recv(65536)
        for _ in range(80):
            stack.enter_context(server.connect())
        time.sleep(1)
        before = server.cpu_seconds()
        # Without descriptors, no log can be written and no long body can be spooled. Connections
        # that were accepted earlier are served.
        for _ in range(20):
            served.sendall(b"GET /talk HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"hello" in served.recv(65536)
            time.sleep(0.1)
        # libuv accepts and closes excess connections silently, with a descriptor that it reserves
        # for this. Occasionally it spins instead, probably because a log file took that one; then
        # a long body may be spooled after all. Both loops serve again afterwards.
        if loop == "asyncio":
            assert server.cpu_seconds() - before < 1
            server.wait_for_log("cannot accept connections: Too many open files")
            assert server.log.count("cannot accept") == 1
            chunks = b"10000\r\n" + b"x" * 65536 + b"\r\n"
            served.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            served.sendall(chunks * 20 + b"0\r\n\r\n")
            assert served.recv(65536).startswith(b"HTTP/1.1 503 ")
        stack.close()
        _wait_for(lambda: _answers(server.port))
        assert "Traceback" not in server.log


# Signals


def test_a_stop_under_load_drops_no_requests(tmp_path: Path) -> None:
    """Each of a thousand requests is either answered completely or refused by the kernel."""
    outcomes: Counter[str] = Counter()
    for attempt in range(5):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        with serving(folder, MANIFEST, modules=MODULES) as server:
            outcomes += _load_and_stop(server, requests=200, stop_after=0.05 + 0.03 * attempt)
    assert sum(outcomes.values()) == 1000
    assert outcomes["answered"] > 50, outcomes
    assert outcomes.keys() <= {"answered", "refused", "sent late"}, outcomes


def _load_and_stop(server: Server, requests: int, stop_after: float) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    lock = threading.Lock()

    def client(number: int) -> None:
        results = [_request_outcome(server, f"/hello?{number}-{i}") for i in range(requests // 10)]
        with lock:
            outcomes.update(results)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    time.sleep(stop_after)
    assert server.stop() == 0
    for thread in threads:
        thread.join()
    return outcomes


def _request_outcome(server: Server, path: str) -> str:
    started = time.monotonic()
    try:
        connection = server.connect()
    except ConnectionRefusedError:
        return "refused"
    silent_for = time.monotonic() - started
    with connection:
        try:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            response = http.client.HTTPResponse(connection)
            response.begin()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            # The server closes a new connection that stays silent for this time.
            return "sent late" if silent_for > NEW_CONNECTION_GRACE_S else repr(error)
    is_whole = response.status == 200 and body == b"hello\n"
    return "answered" if is_whole else f"{response.status} {body!r}"


def test_a_stop_completes_responses(tmp_path: Path) -> None:
    """A slow client gets its whole response; persistent connections get Connection: close."""
    piece = "x" * 900_000
    body = 3 * piece
    page = Program().write(TEXT_HEAD).write(piece).write(piece).write(piece)
    modules = {**MODULES, "page.wat": page.wat()}
    manifest = MANIFEST + '[[module]]\nroute = "/page"\nmodule = "page.wat"\n'
    with serving(tmp_path, manifest, modules=modules) as server:
        with server.connect() as connection, server.connect() as other:
            connection.sendall(b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n")
            other.sendall(b"GET /nap HTTP/1.1\r\nHost: a\r\n\r\n")
            time.sleep(0.4)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.4)
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert response.read() == body.encode()
            last = http.client.HTTPResponse(other)
            last.begin()
            assert last.read() == b"awake\n"
            assert last.getheader("Connection") == "close"
        assert server.stop() == 0


def test_a_restart_after_sigkill(tmp_path: Path) -> None:
    """A server can be started on the same socket and logs after the last one was killed."""
    options = ("--log-dir", str(tmp_path / "logs"))
    path = tmp_path / "wagi.sock"
    for _ in range(3):
        with serving(
            tmp_path, MANIFEST, *options, modules=MODULES, listen=f"unix:{path}"
        ) as server:
            curl = shutil.which("curl") or missing("curl is not installed")
            done = subprocess.run(
                [curl, "-s", "--unix-socket", str(path), "http://a/talk"],
                capture_output=True,
                check=True,
            )
            assert done.stdout == b"hello\n"
            assert server.stop(signal.SIGKILL) == -signal.SIGKILL
            assert path.exists()


def test_a_crash_is_reported(tmp_path: Path) -> None:
    """A segmentation fault is logged with its location; a guest's trap is not a crash."""
    with serving(tmp_path, MANIFEST, modules=MODULES) as server:
        assert server.get("/outside").status == 500
        server.wait_for_log("out of bounds memory access")
        assert server.get("/hello").text == "hello\n"
        os.kill(server.workers[0], signal.SIGSEGV)
        server.wait_for_log("Fatal Python error: Segmentation fault")
        server.wait_for_log(r"worker \d+ was killed by SIGSEGV, its requests failed")
        assert server.get("/hello").text == "hello\n"


# Clocks


def test_clock_jumps(tmp_path: Path) -> None:
    """A jump of a day either way does not affect sleeps, timeouts and idle connections."""
    manifest = MANIFEST + '[[module]]\nroute = "/late"\nmodule = "spin.wat"\ntimeout = 1.5\n'
    clock = tmp_path / "clock"
    clock.write_text("0")
    library = native_c_library(Path(__file__).parents[1] / "support" / "clock.c")
    environment = {"LD_PRELOAD": str(library), "WAGI_TEST_CLOCK": str(clock)}
    with (
        serving(tmp_path, manifest, modules=MODULES, environment=environment) as server,
        server.connect() as idle,
    ):
        idle.sendall(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"hello" in idle.recv(65536)
        for jump in ("86400", "-86400"):
            for path, status in (("/nap", 200), ("/late", 504)):
                timer = threading.Timer(0.3, lambda jump=jump: clock.write_text(jump))
                timer.start()
                began = time.monotonic()
                assert server.get(path).status == status
                assert 0.8 < time.monotonic() - began < 10
                timer.join()
                clock.write_text("0")
            clock.write_text(jump)
            idle.sendall(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
            assert b"hello" in idle.recv(65536)
        days = {line.split("[")[1][:2] for line in server.access_log}
        assert len(days) >= 2  # the clock did jump


# Files


def test_files_that_change_on_disk(tmp_path: Path) -> None:
    """Running and later requests use the modules and routes that were loaded."""
    with serving(tmp_path, MANIFEST, modules=MODULES) as server:
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.append(server.get("/nap").text))
        asking.start()
        time.sleep(0.3)
        for content in (printing(TEXT_HEAD + "other\n"), "no module", ""):
            (tmp_path / "hello.wat").write_text(content)
            (tmp_path / "nap.wat").write_text(content)
            assert server.get("/hello").text == "hello\n"
        for name in ("hello.wat", "nap.wat", "modules.toml"):
            (tmp_path / name).unlink()
        assert server.get("/hello").text == "hello\n"
        asking.join()
        assert answers == ["awake\n"]
        assert server.get("/nap").text == "awake\n"
    assert run_wagi(tmp_path, "check").returncode == 2
