"""Handlers of wasi:http, from a client to a component and back."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.server import (
    ENVIRONMENT,
    ONE_WORKER,
    Server,
    manifest_of,
    read_all,
    run_wagi,
    serving,
    write_files,
)
from tests.support.wasi_http import (
    ANSWER,
    COPY_BODY,
    ECHO,
    FINISH,
    HELLO,
    SLEEP,
    WRITE_PATH,
    handler,
)
from tests.support.wat import printing

READ_ALL = COPY_BODY.replace("(call $write (local.get $to)", "(call $ignore (local.get $to)")
REUSING = """
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 16384))"""
IGNORE = "(func $ignore (param i32 i32 i32 i32))"
STATUS = "(drop (call $set_status (local.get $response) (i32.const {})))"
CONTENT_LENGTH = """
  (call $append (local.tee $i (call $fields)) (i32.const 1024) (i32.const 14) (i32.const 1040)
    (i32.const 1) (i32.const 0))"""
ERROR = """
  (call $answer (local.get $out) (i32.const 1) (i32.const 38) (i32.const 1) (i64.const 1060)
    (i32.const 11) (i32.const 0) (i32.const 0) (i32.const 0))"""
DATA = '(data (i32.const 1024) "content-length  8                  \\00no database")'
SPINNING = "(loop $again (br $again))"


def with_length(written: int) -> str:
    """A response whose Content-Length is 8 and whose body has another one."""
    code = ANSWER.replace("(call $response (call $fields))", "(call $response (local.get $i))")
    write = f"(call $write (local.get $to) (i32.const 2048) (i32.const {written}) (i32.const 16))"
    return CONTENT_LENGTH + code + write + FINISH


def with_status(status: int) -> str:
    set_status = f"{STATUS.format(status)}\n  (call $body (local.get $response) (i32.const 0))"
    return ANSWER.replace("(call $body (local.get $response) (i32.const 0))", set_status) + FINISH


MODULES: dict[str, str | bytes] = {
    "hello.wat": handler(HELLO),
    "echo.wat": handler(ECHO, REUSING),
    "sleep.wat": handler(SLEEP + HELLO),
    "stream.wat": handler(ANSWER + WRITE_PATH + SLEEP + WRITE_PATH + FINISH),
    "later.wat": handler(HELLO + SLEEP + SLEEP),
    "nothing.wat": handler(""),
    "dropped.wat": handler("(call $drop_outparam (local.get $out))"),
    "error.wat": handler(ERROR, fields=DATA),
    "unfinished.wat": handler(ANSWER + WRITE_PATH),
    "dropped-body.wat": handler(ANSWER + WRITE_PATH + "(call $drop_body (local.get $body))"),
    "unfinished-later.wat": handler(ANSWER + WRITE_PATH + SLEEP),
    "trap.wat": handler("unreachable"),
    "trap-later.wat": handler(ANSWER + WRITE_PATH + SLEEP + "unreachable"),
    "trap-finished.wat": handler(HELLO + SLEEP + "unreachable"),
    "short.wat": handler(with_length(3), fields=DATA),
    "exact.wat": handler(with_length(8), fields=DATA),
    "long.wat": handler(with_length(9), fields=DATA),
    "no-content.wat": handler(with_status(204)),
    "continue.wat": handler(with_status(100)),
    "strange.wat": handler(with_status(700)),
    "empty.wat": handler(ANSWER.partition("(call $open")[0] + FINISH),
    "discard.wat": handler(ANSWER + READ_ALL + WRITE_PATH + FINISH, REUSING, IGNORE),
    "spin.wat": handler(SPINNING),
    "print.wat": handler("""
      (call $write (call $stdout) (i32.const 1024) (i32.const 5) (i32.const 0))
      """ + HELLO, fields='(data (i32.const 1024) "note\\n")'),
}  # fmt: skip
EXTRA = """
[[module]]
route = "/limited/..."
module = "discard.wat"
body_limit = 10
[[module]]
route = "/quick"
module = "spin.wat"
timeout = 1
[[module]]
route = "/costly"
module = "spin.wat"
cpu_timeout = 0.2
[[module]]
route = "/small-head"
module = "hello.wat"
environment_limit = "1K"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("wasi-http")
    manifest = manifest_of(MODULES, EXTRA).replace('route = "/discard"', 'route = "/discard/..."')
    with serving(folder, manifest, *ONE_WORKER, modules=MODULES) as running:
        yield running


def ask(server: Server, head: str, body: bytes = b"") -> bytes:
    """Send a request and return everything until the connection closes."""
    return server.raw(f"{head}\r\nHost: x\r\nConnection: close\r\n\r\n".encode() + body)


def test_a_response(server: Server) -> None:
    response = server.get("/hello?a=%20b")
    assert (response.status, response.text) == (200, "/hello?a=%20b")
    assert response.header("Content-Length") == "13"


def test_the_body_streams_in_and_out(server: Server) -> None:
    """Each piece comes back before the next one is sent."""
    with server.connect() as client:
        client.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        seen = b""
        for piece in (b"-one", b"-two", b"-three"):
            client.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
            while piece not in seen:
                seen += client.recv(65536)
        client.sendall(b"0\r\n\r\n")
        while not seen.endswith(b"0\r\n\r\n"):
            seen += client.recv(65536)
    assert seen.index(b"200 OK") < seen.index(b"/echo") < seen.index(b"-one")


@pytest.mark.parametrize("size", [0, 1, 4096, 1_000_000])
def test_bodies_of_any_size(server: Server, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    assert server.post("/echo", body).body == b"/echo" + body


def test_a_response_streams(server: Server) -> None:
    with server.connect() as client:
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        first = client.recv(65536)
        while b"/stream" not in first:
            first += client.recv(65536)
        started = time.monotonic()
        assert read_all(client).count(b"/stream") == 1
        assert time.monotonic() - started > 0.2, "the handler sleeps for 300 ms between them"


def test_a_finished_response_does_not_wait_for_the_guest(server: Server) -> None:
    with server.connect() as client:
        client.sendall(b"GET /later HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while not answer.endswith(b"\r\n\r\n/later"):
            answer += client.recv(65536)
        started = time.monotonic()
        assert read_all(client) == b""
        assert time.monotonic() - started > 0.4, "the handler sleeps for 600 ms after it"


def test_head(server: Server) -> None:
    answer = ask(server, "HEAD /hello HTTP/1.1")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n")


def test_http_1_0(server: Server) -> None:
    answer = server.raw(b"GET /stream HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"chunked" not in answer
    assert answer.endswith(b"/stream/stream")


def test_statuses_without_a_body(server: Server) -> None:
    answer = ask(server, "GET /no-content HTTP/1.1")
    assert answer.startswith(b"HTTP/1.1 204 No Content\r\n")
    assert b"Content-Length" not in answer
    assert server.get("/empty").body == b""


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("nothing", 500, "ended without setting a response"),
        ("dropped", 500, "ended without setting a response"),
        ("error", 502, "reported an error: found 'internal-error: no database'"),
        ("trap", 500, "unreachable"),
        ("continue", 502, "status code is not from 200 to 599: found '100'"),
        ("strange", 502, "status code is not from 200 to 599: found '700'"),
        ("quick", 504, "exceeded its time limit of 1 s"),
        ("costly", 504, "exceeded its CPU time limit of 0.2 s"),
    ],
)
def test_errors(server: Server, path: str, status: int, reason: str) -> None:
    response = server.get(f"/{path}")
    assert response.status == status
    assert "database" not in response.text
    server.wait_for_log(rf"route /{path}, .*{reason}")


@pytest.mark.parametrize("path", ["unfinished", "dropped-body", "unfinished-later", "trap-later"])
def test_an_unfinished_body_breaks_the_connection(server: Server, path: str) -> None:
    answer = ask(server, f"GET /{path} HTTP/1.1")
    assert b"Transfer-Encoding: chunked" in answer
    assert not answer.endswith(b"0\r\n\r\n")


def test_a_trap_after_the_response(server: Server) -> None:
    """The client has everything by then."""
    assert ask(server, "GET /trap-finished HTTP/1.1").endswith(b"\r\n\r\n/trap-finished")
    server.wait_for_log("route /trap-finished, .*after the headers were sent")


def test_a_body_with_another_length_than_announced(server: Server) -> None:
    assert server.get("/exact").body == bytes(8)
    assert ask(server, "GET /short HTTP/1.1").endswith(b"\r\n\r\n" + bytes(3))
    assert server.get("/long").body == bytes(8), "the rest is an error of the handler"


def test_the_size_of_a_body(server: Server) -> None:
    """Of unknown length, too: such a body is not read ahead."""
    assert server.post("/limited/a", b"x" * 10).status == 200
    assert server.post("/limited/b", b"x" * 11).status == 413
    head = "POST /limited/c HTTP/1.1\r\nTransfer-Encoding: chunked"
    assert ask(server, head, b"a\r\n0123456789\r\n0\r\n\r\n").startswith(b"HTTP/1.1 200")
    assert ask(server, head, b"b\r\n0123456789a\r\n0\r\n\r\n").startswith(b"HTTP/1.1 413")


def test_the_size_of_a_head(server: Server) -> None:
    assert server.get("/small-head", headers=[("X", "x" * 2000)]).status == 431


def test_expect(server: Server) -> None:
    with server.connect() as client:
        head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n"
        client.sendall(head + b"Connection: close\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.sendall(b"ab")
        assert read_all(client).endswith(b"\r\n\r\n/echoab")


def test_sleeping_guests_share_the_worker(server: Server) -> None:
    started = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: server.get("/sleep").text, range(8)))
    assert answers == ["/sleep"] * 8
    assert time.monotonic() - started < 1.5, "one after the other they take 2.4 s"


def test_a_busy_guest_does_not_block_others(server: Server) -> None:
    with ThreadPoolExecutor(8) as pool:
        busy = [pool.submit(server.get, "/quick") for _ in range(8)]
        time.sleep(0.3)
        started = time.monotonic()
        assert server.get("/hello").status == 200
        assert time.monotonic() - started < 0.5
        assert [each.result().status for each in busy] == [504] * 8


def test_a_client_that_disconnects_cancels_its_guest(server: Server) -> None:
    with server.connect() as client:
        client.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    server.wait_for_access(r'"POST /echo HTTP/1.1" 499 ')


def test_standard_output_goes_to_the_log(server: Server) -> None:
    assert server.get("/print").text == "/print"
    server.wait_for_log("note")


def test_keep_alive(server: Server) -> None:
    with server.connect() as client:
        for _ in range(3):
            client.sendall(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(65536).endswith(b"/hello")


SPIN = """spin_manifest_version = 2
[application]
name = "app"
[[trigger.http]]
route = "/base/..."
component = "handler"
[component.handler]
source = "headers.wat"
environment = { A = "b" }
"""
PRINT_HEADERS = """
  (call $entries (call $headers (local.get $request)) (i32.const 0))
  (local.set $from (i32.load (i32.const 0)))
  (local.set $j (i32.add (local.get $from) (i32.mul (i32.load (i32.const 4)) (i32.const 16))))
  (block $end (loop $next
    (br_if $end (i32.eq (local.get $from) (local.get $j)))
    (call $write (local.get $to) (i32.load (local.get $from))
      (i32.load (i32.add (local.get $from) (i32.const 4))) (i32.const 0))
    (call $write (local.get $to) (i32.const 1024) (i32.const 1) (i32.const 0))
    (call $write (local.get $to) (i32.load (i32.add (local.get $from) (i32.const 8)))
      (i32.load (i32.add (local.get $from) (i32.const 12))) (i32.const 0))
    (call $write (local.get $to) (i32.const 1025) (i32.const 1) (i32.const 0))
    (local.set $from (i32.add (local.get $from) (i32.const 16)))
    (br $next)))"""
HEADERS = handler(ANSWER + PRINT_HEADERS + FINISH, fields='(data (i32.const 1024) "=\\n")')


def test_headers(tmp_path: Path) -> None:
    sent = [("Authorization", "secret"), ("X-Twice", "a"), ("x-twice", "b"), ("Proxy", "c")]
    manifest = """
[[module]]
route = "/passed"
module = "headers.wat"
[[module]]
route = "/withheld"
module = "headers.wat"
pass_authorization = false
"""
    with serving(tmp_path, manifest, modules={"headers.wat": HEADERS}) as server:
        seen = server.get("/passed", headers=sent).text.splitlines()
        host = f"host=127.0.0.1:{server.port}"
        assert seen == [host, "authorization=secret", "x-twice=a", "x-twice=b"]
        seen = server.get("/withheld", headers=sent).text.splitlines()
        assert seen == [host, "x-twice=a", "x-twice=b"]


def test_a_component_of_spin(tmp_path: Path) -> None:
    modules = {"headers.wat": HEADERS, "spin.toml": SPIN}
    with serving(tmp_path, modules=modules, target="spin.toml") as server:
        sent = [("Spin-Path-Info", "forged")]
        lines = server.get("/base/rest?q", headers=sent).text.splitlines()
    seen = dict(line.split("=", 1) for line in lines)
    assert len(seen) == len(lines)
    client = seen.pop("spin-client-addr")
    assert client.startswith("127.0.0.1:")
    assert {name: value for name, value in seen.items() if name.startswith("spin-")} == {
        "spin-path-info": "/rest",
        "spin-full-url": f"http://{seen['host']}/base/rest?q",
        "spin-matched-route": "/base/...",
        "spin-base-path": "/",
        "spin-raw-component-route": "/base/...",
        "spin-component-route": "/base",
    }


@pytest.mark.parametrize(
    ("executor", "module", "message"),
    [
        ('executor = { type = "wagi" }', HEADERS, "remove the executor"),
        ("", printing("Content-Type: a/b\n\n"), 'set executor = { type = "wagi" }'),
        ('executor = { type = "http" }', printing("Content-Type: a/b\n\n"), "the executor is"),
    ],
)
def test_the_executor_of_spin(tmp_path: Path, executor: str, module: str, message: str) -> None:
    (tmp_path / "headers.wat").write_text(module)
    (tmp_path / "spin.toml").write_text(
        SPIN.replace('component = "handler"', f'component = "handler"\n{executor}')
    )
    checked = run_wagi(tmp_path, "check", "spin.toml")
    assert checked.returncode == 2
    assert "component 'handler': executor: the executor is" in checked.stderr
    assert message in checked.stderr


def test_the_commands(tmp_path: Path) -> None:
    (tmp_path / "hello.wat").write_text(handler(HELLO))
    called = run_wagi(tmp_path, "run", "-i", "hello.wat", "/path?x")
    assert called.returncode == 0, called.stderr
    assert called.stdout.startswith("HTTP/1.1 200 OK\n")
    assert called.stdout.endswith("\n/path?x")
    inspected = run_wagi(tmp_path, "inspect", "hello.wat")
    assert "wasi:http/proxy" in inspected.stdout
    assert inspected.returncode == 0
    checked = run_wagi(tmp_path, "check", "hello.wat")
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stderr


def test_recorded_cases(tmp_path: Path) -> None:
    """The response, of path and body, is recorded; another one is noticed."""
    (tmp_path / "hello.wat").write_text(handler(ECHO, REUSING))
    (tmp_path / "modules.toml").write_text('[[module]]\nroute = "/..."\nmodule = "hello.wat"\n')
    recorded = run_wagi(tmp_path, "call", "--record", "cases/echo.toml", "-d", "body", "/x")
    assert (recorded.returncode, recorded.stdout) == (0, "/xbody")
    assert run_wagi(tmp_path, "test", "cases").stdout == "1 passed, 0 failed\n"
    (tmp_path / "hello.wat").write_text(handler(HELLO))
    changed = run_wagi(tmp_path, "test", "cases")
    assert changed.returncode == 1
    assert changed.stdout.endswith("0 passed, 1 failed\n")


def test_the_pytest_plugin(tmp_path: Path) -> None:
    files = {
        "hello.wat": handler(ECHO, REUSING),
        "modules.toml": '[[module]]\nroute = "/..."\nmodule = "hello.wat"\n',
        "pytest.ini": "[pytest]\n",
        "test_it.py": """
def test_it(wagi_client):
    response = wagi_client.post("/echo", "some text")
    assert (response.status_code, response.text, response.exit_code) == (200, "/echosome text", 0)
""",
    }
    write_files(tmp_path, files)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command, cwd=tmp_path, env=ENVIRONMENT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ('argv = "a"', "argv: hello.wat: a handler of wasi:http gets no arguments: remove"),
        (
            'entrypoint = "handle2"',
            "entrypoint: hello.wat: the entrypoint 'handle2' is not exported",
        ),
    ],
)
def test_keys_that_make_no_sense(tmp_path: Path, key: str, message: str) -> None:
    (tmp_path / "hello.wat").write_text(handler(HELLO))
    manifest = f'[[module]]\nroute = "/"\nmodule = "hello.wat"\n{key}\n'
    (tmp_path / "modules.toml").write_text(manifest)
    checked = run_wagi(tmp_path, "check")
    assert checked.returncode == 2
    assert f"modules.toml:4: {message}" in checked.stderr
