"""Guests that exceed limits of time, memory or output, or whose output is invalid."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.server import Server, serving, write_files
from tests.support.wat import HELLO, SPIN, TEXT_HEAD, Program, printing

PAGE = 65536
MIB = 1024 * 1024


REPORT_PAGES = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "Content-Type: text/plain\\n\\n")
  (func (export "_start") (local $n i32)
    (loop $l (br_if $l (i32.ne (i32.const -1) (memory.grow (i32.const 1)))))
    (i32.store (i32.const 128) (memory.size))
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 26))
    (i32.store (i32.const 8) (i32.const 128)) (i32.store (i32.const 12) (i32.const 4))
    (drop (call $w (i32.const 1) (i32.const 0) (i32.const 2) (i32.const 24)))))"""
REPORT_ELEMENTS = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (table $t {tables} funcref)
  (data (i32.const 64) "Content-Type: text/plain\\n\\n")
  (func (export "_start")
    (loop $l (br_if $l
      (i32.ne (i32.const -1) (table.grow $t (ref.null func) (i32.const 1000)))))
    (i32.store (i32.const 128) (table.size $t))
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 26))
    (i32.store (i32.const 8) (i32.const 128)) (i32.store (i32.const 12) (i32.const 4))
    (drop (call $w (i32.const 1) (i32.const 0) (i32.const 2) (i32.const 24)))))"""
# Fills the heap of the GC proposal with arrays that stay reachable.
GC_HOG = """(module
  (type $a (array (mut i8)))
  (type $l (struct (field (ref null $l)) (field (ref null $a))))
  (global $g (mut (ref null $l)) (ref.null $l))
  (func (export "_start")
    (loop $x (global.set $g
      (struct.new $l (global.get $g) (array.new_default $a (i32.const 100000)))) (br $x))))"""

MODULES: dict[str, str | bytes] = {
    "hello.wat": HELLO,
    "spin.wat": Program().code(SPIN).wat(),
    "spin-late.wat": Program().write(TEXT_HEAD + "begin").sleep(50).code(SPIN).wat(),
    "sleep.wat": Program().sleep(3_600_000).wat(),
    "wait.wat": Program().code("(loop $l (br_if $l (call $read)))").write(TEXT_HEAD).wat(),
    "trickle.wat": Program().write(TEXT_HEAD).write("x").sleep(100).forever().wat(),
    "stderr.wat": Program().write("spam\n" * 12_000, fd=2).write(TEXT_HEAD + "ok\n").wat(),
    "memory.wat": REPORT_PAGES,
    "table.wat": REPORT_ELEMENTS.replace("{tables}", "1"),
    "big-table.wat": REPORT_ELEMENTS.replace("{tables}", "30000"),
    "gc.wat": GC_HOG,
    "recursion.wat": '(module (func $f (export "_start") (call $f)))',
    "long-name.wat": f'(module (func ${"n" * 50_000} (export "_start") (unreachable)))',
    "atomic-wait.wat": """(module (memory 1) (func (export "_start")
      (drop (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1)))))""",
    "random.wat": """(module (import "wasi_snapshot_preview1" "random_get"
      (func $r (param i32 i32) (result i32))) (memory (export "memory") 3000)
      (func (export "_start") (loop $l (drop (call $r (i32.const 0) (i32.const 190000000)))
        (br $l))))""",
    "flood-stderr.wat": Program().write("x" * 1000 + "\n", fd=2).forever().wat(),
    "flood-lines.wat": Program().write("\n" * 60_000, fd=2).forever().wat(),
    "flood-head.wat": Program().write("X: " + "y" * 1000 + "\n").forever().wat(),
    # Invalid output.
    "nothing.wat": Program().wat(),
    "no-blank-line.wat": printing("Content-Type: text/plain\nhello"),
    "only-body.wat": printing("hello, world\n\nmore"),
    "ten-megabytes.wat": Program().write("X-A: " + "y" * 60_000 + "\n").forever().wat(),
    "many-headers.wat": Program().write("a:b\n" * 15_000).forever().wat(),
    "nul.wat": printing(b"Content-Type: text/plain\nX-N: a\0b\nX-Good: 1\n\nbody\0body"),
    "not-utf-8.wat": printing(b"Content-Type: text/plain\nX-N: \xff\xfe\nX-Good: 1\n\n\xff\xfe"),
    "inject.wat": printing("Content-Type: text/plain\nX-A: /\rSet-Cookie: a=b\nX-Good: 1\n\n"),
    "inject-location.wat": printing("Content-Type: text/plain\nLocation: /\rSet-Cookie: yyy\n\n"),
    "fold.wat": printing("Content-Type: text/plain\nX-Good: 1\n 2\n\tTransfer-Encoding: chunked"
                         "\n  Connection : close\n\nok"),
    "split.wat": printing("Content-Type: text/plain\r\n\r\nHTTP/1.1 200 OK\r\n\r\nsecond"),
    "names.wat": printing("Content-Type: text/plain\nX Y: 1\nX(Z): 1\n: 1\nX-Good: 1\n\n"),
    "hop.wat": printing("Content-Type: text/plain\nTransfer-Encoding: chunked\n"
                        "Connection: upgrade\nUpgrade: x\nX-Good: 1\n\nok"),
    "longer.wat": printing("Content-Type: text/plain\nContent-Length: 3\n\nabcdef"),
    "shorter.wat": printing("Content-Type: text/plain\nContent-Length: 10\n\nabc"),
    "length-word.wat": printing("Content-Type: text/plain\nContent-Length: ten\n\nabc"),
    "length-minus.wat": printing("Content-Type: text/plain\nContent-Length: -1\n\nabc"),
    "length-two.wat": printing("Content-Type: a/b\nContent-Length: 3\nContent-Length: 9\n\nabc"),
    "status-word.wat": printing("Status: fine\n\n"),
    "status-0.wat": printing("Status: 0\n\n"),
    "status-100.wat": printing("Status: 100 Continue\n\n"),
    "status-999.wat": printing("Status: 999\n\n"),
    "status-huge.wat": printing("Status: " + "9" * 1000 + "\n\n"),
    "trap-late.wat": Program().write(TEXT_HEAD + "part").sleep(200).trap().wat(),
}  # fmt: skip
LIMITS = {
    "spin": "timeout = 1",
    "spin-late": "timeout = 1",
    "sleep": "timeout = 1",
    "wait": "timeout = 1",
    "trickle": "timeout = 1",
    "random": "cpu_timeout = 0.5",
    "memory": 'memory_limit = "4MiB"',
    "table": 'memory_limit = "1MiB"',
    "big-table": 'memory_limit = "4MiB"',
    "flood-stderr": "timeout = 1",
    "flood-lines": "timeout = 1",
    "gc": 'memory_limit = "32MiB"',
}
CPU = """
[[module]]
route = "/cpu"
module = "spin.wat"
timeout = 0
cpu_timeout = 0.3
[[module]]
route = "/cpu-late"
module = "spin-late.wat"
timeout = 0
cpu_timeout = 0.3
[[module]]
route = "/sleepy"
module = "sleepy.wat"
cpu_timeout = 0.3
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("guests")
    entries = [
        f'[[module]]\nroute = "/{name}"\nmodule = "{name}.wat"\n{LIMITS.get(name, "")}\n'
        for name in (file.removesuffix(".wat") for file in MODULES)
    ]
    sleepy = Program().sleep(700).write(TEXT_HEAD + "awake\n").wat()
    modules = {**MODULES, "sleepy.wat": sleepy}
    with serving(
        folder, "".join(entries) + CPU, "--log-dir", str(folder / "logs"), modules=modules
    ) as server:
        yield server


def truncated(server: Server, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Request a response that is truncated; return its status and the part that arrived."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    connection.request("GET" if body is None else "POST", path, body)
    response = connection.getresponse()
    received = b""
    with pytest.raises((http.client.IncompleteRead, ConnectionError)) as caught:
        received = response.read()
    if isinstance(caught.value, http.client.IncompleteRead):
        received = caught.value.partial
    connection.close()
    return response.status, received


@pytest.mark.parametrize("name", ["spin", "sleep"])
def test_timeout_before_the_headers(server: Server, name: str) -> None:
    began = time.monotonic()
    response = server.get(f"/{name}")
    assert response.status == 504
    assert 0.9 < time.monotonic() - began < 10
    assert "exceeded its time limit of 1 s" in server.wait_for_log(rf"GET /{name}, .* limit of 1 s")


def test_timeout_waiting_for_a_body(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhello")
        assert connection.recv(65536).startswith(b"HTTP/1.1 504 ")


@pytest.mark.parametrize("name", ["spin-late", "trickle"])
def test_timeout_after_the_headers(server: Server, name: str) -> None:
    """The connection is aborted, so that the client notices, even if the guest keeps writing."""
    began = time.monotonic()
    status, received = truncated(server, f"/{name}")
    assert status == 200
    assert 0.9 < time.monotonic() - began < 10
    assert len(received) < 1000


def test_cpu_timeout(server: Server) -> None:
    assert server.get("/cpu").status == 504
    server.wait_for_log(r"GET /cpu, .* exceeded its CPU time limit of 0.3 s")
    assert truncated(server, "/cpu-late")[0] == 200


def test_sleeping_uses_no_cpu_time(server: Server) -> None:
    assert server.get("/sleepy").text == "awake\n"


def test_a_long_host_call_counts_as_cpu_time(server: Server) -> None:
    """190 MB of random bytes per call are generated in pieces; others are served in between."""
    with ThreadPoolExecutor(1) as pool:
        hog = pool.submit(server.get, "/random")
        while not hog.done():
            assert server.get("/hello").text == "hello\n"
        assert hog.result().status == 504


def test_memory_is_limited(server: Server) -> None:
    """The guest's allocation fails, as on a machine that is out of memory."""
    assert int.from_bytes(server.get("/memory").body, "little") * PAGE == 4 * MIB


@pytest.mark.parametrize(("name", "limit"), [("table", MIB), ("big-table", 4 * MIB)])
def test_tables_are_limited(server: Server, name: str, limit: int) -> None:
    """Inside and outside of the pool: an eighth of the memory limit, at 8 bytes per element."""
    elements = int.from_bytes(server.get(f"/{name}").body, "little")
    assert limit // 8 * 0.7 < elements * 8 <= limit // 8


def test_the_garbage_collected_heap_is_limited(server: Server) -> None:
    before = server.rss()
    assert server.get("/gc").status == 500
    server.wait_for_log("GC heap out of memory")
    assert server.rss() - before < 100 * MIB


def test_memories_share_the_limit(tmp_path: Path) -> None:
    """Several memories share one limit; exceeding it initially is an error at startup."""
    write_files(tmp_path, {"two.wat": '(module (memory 10) (memory 30) (func (export "_start")))'})
    manifest = '[[module]]\nroute = "/"\nmodule = "two.wat"\nmemory_limit = "3MiB"\n'
    with (
        pytest.raises(AssertionError, match=r"starts with 2621440 bytes in several memories"),
        serving(tmp_path, manifest),
    ):
        pass  # fmt: skip


@pytest.mark.parametrize("name", ["recursion", "long-name", "atomic-wait"])
def test_traps(server: Server, name: str) -> None:
    assert server.get(f"/{name}").status == 500
    server.wait_for_log(rf"GET /{name}, .*trap")
    assert max(map(len, server.log.splitlines())) < 10_000


def test_stderr_is_limited_and_the_response_arrives(server: Server) -> None:
    assert server.get("/stderr").text == "ok\n"
    server.wait_for_log(r"stderr of /stderr .*dropped 10000 more bytes of stderr")
    assert server.log.count("spam") == 10_000


@pytest.mark.parametrize("name", ["flood-stderr", "flood-lines"])
def test_a_flood_of_stderr(server: Server, name: str) -> None:
    """The timeout ends it; the log has the beginning and the number of dropped bytes."""
    before = server.rss()
    assert server.get(f"/{name}").status == 504
    server.wait_for_log(rf"stderr of /{name} .*more bytes of stderr")
    assert server.rss() - before < 100 * MIB
    assert len([line for line in server.log.splitlines() if f"of /{name} " in line]) <= 10_001


BAD_OUTPUT = {
    "nothing": 500,
    "no-blank-line": 500,
    "only-body": 500,
    "ten-megabytes": 500,
    "many-headers": 500,
    "flood-head": 500,
    "status-word": 502,
    "status-0": 502,
    "status-100": 502,
    "status-999": 502,
    "status-huge": 502,
    "inject-location": 502,
}


@pytest.mark.parametrize(("name", "status"), BAD_OUTPUT.items())
def test_invalid_output(server: Server, name: str, status: int) -> None:
    """The error page contains none of the guest's output; the reason is in the log."""
    before = server.rss()
    response = server.get(f"/{name}")
    assert response.status == status
    assert "yyy" not in response.text
    assert "hello" not in response.text
    assert server.rss() - before < 50 * MIB
    server.wait_for_log(rf"GET /{name}, .*answered {status}: ")


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("nul", b"body\0body"),
        ("names", b""),
        ("hop", b"ok"),
        ("fold", b"ok"),
        ("inject", b""),
    ],
)
def test_invalid_fields_are_dropped(server: Server, name: str, body: bytes) -> None:
    response = server.get(f"/{name}")
    assert response.header("X-Good") == "1"
    assert response.body == body
    allowed = {"content-type", "x-good", "server", "date", "content-length"}
    assert {key.lower() for key, _ in response.headers} <= allowed


def test_values_need_not_be_utf_8(server: Server) -> None:
    """They are passed on unchanged; the client decodes them as ISO-8859-1."""
    response = server.get("/not-utf-8")
    assert response.header("X-N") == "\xff\xfe"
    assert response.header("X-Good") == "1"
    assert response.body == b"\xff\xfe"


def test_a_second_response_is_part_of_the_body(server: Server) -> None:
    assert server.get("/split").body == b"HTTP/1.1 200 OK\r\n\r\nsecond"


def test_a_wrong_content_length(server: Server) -> None:
    """Longer output is truncated, shorter output aborts, an invalid length is dropped."""
    assert server.get("/longer").body == b"abc"
    server.wait_for_log("output beyond the Content-Length was cut")
    assert truncated(server, "/shorter") == (200, b"abc")
    for name in ("length-word", "length-minus", "length-two"):
        assert server.get(f"/{name}").body == b"abc"


def test_a_trap_after_the_headers_aborts_the_connection(server: Server) -> None:
    assert truncated(server, "/trap-late") == (200, b"part")
