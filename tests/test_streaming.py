"""Bodies are streamed in both directions in bounded memory; a disconnect ends the run."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.server import ONE_WORKER, ROOT, Server, read_all, serving
from tests.support.toolchains import EXAMPLES, HANDLERS, compiled
from tests.support.wat import SPIN, TEXT_HEAD, Program, printing

MIB = 1024 * 1024

MANIFEST = """
[defaults]
timeout = 120
[[module]]
route = "/pieces"
module = "pieces.wat"
[[module]]
route = "/hello"
module = "hello.wat"
[[module]]
route = "/sleep"
module = "sleep.wat"
[[module]]
route = "/spin"
module = "spin.wat"
timeout = 20
[[module]]
route = "/ticks"
module = "ticks.wat"
[[module]]
route = "/late-reader"
module = "late-reader.wat"
[[module]]
route = "/echo"
module = "echo.wat"
[[module]]
route = "/big"
module = "big.wat"
timeout = 1
[[module]]
route = "/one"
module = "sleep.wat"
max_concurrency = 1
max_queue = 1
"""
TICKS = (
    Program()
    .write(TEXT_HEAD)
    .code("(loop $again")
    .write("tick\n")
    .write("tick\n", fd=2)
    .sleep(50)
    .code("(br $again))")
)


def pieces() -> Program:
    program = Program().write(TEXT_HEAD)
    for number in range(5):
        program.write(f"piece {number}\n").sleep(200)
    return program


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    modules: dict[str, str | bytes] = {
        "pieces.wat": pieces().wat(),
        "hello.wat": printing(TEXT_HEAD + "hello\n"),
        "sleep.wat": Program().sleep(1000).write(TEXT_HEAD + "awake\n").wat(),
        "spin.wat": Program().code(SPIN).wat(),
        "ticks.wat": TICKS.wat(),
        "late-reader.wat": Program().sleep(300).code("(drop (call $read))").write(TEXT_HEAD).wat(),
        "big.wat": Program()
        .write(TEXT_HEAD)
        .code(
            """(loop $again (call $write (i32.const 1) (i32.const 0) (i32.const 65536))
                (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1)))
                  (i32.const 960))))"""
        )
        .wat(),
        "echo.wat": (ROOT / "examples/wat/echo.wat").read_text(),
    }
    folder = tmp_path_factory.mktemp("streaming")
    with serving(folder, MANIFEST, "--spool-limit", "60MiB", modules=modules) as running:
        yield running


def arrivals(connection: socket.socket, pattern: bytes) -> list[float]:
    """Return the arrival time of each occurrence of the pattern."""
    seen = b""
    times: list[float] = []
    while piece := connection.recv(65536):
        seen += piece
        times += [time.monotonic()] * (seen.count(pattern) - len(times))
    return times


def check_five_pieces(times: list[float]) -> None:
    assert len(times) == 5
    gaps = [later - earlier for earlier, later in pairwise(times)]
    # If they were buffered, they would arrive together; a busy machine only makes gaps uneven.
    assert min(gaps) > 0.05
    assert times[-1] - times[0] > 0.6


def test_response_arrives_piece_by_piece(server: Server) -> None:
    """Five pieces, 200 ms apart, arrive piece by piece."""
    with server.connect() as connection:
        connection.sendall(b"GET /pieces HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        check_five_pieces(arrivals(connection, b"piece "))


def test_response_of_a_rust_handler_arrives_piece_by_piece(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Server-sent events of the Rust example: println, flush, sleep."""
    module = compiled(EXAMPLES / "rust/stream.rs")
    with (
        serving(tmp_path_factory.mktemp("rust"), target=str(module)) as server,
        server.connect() as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        check_five_pieces(arrivals(connection, b"data: "))


def test_a_fast_response_has_a_length(server: Server) -> None:
    """If a guest ends quickly, its response has a Content-Length."""
    response = server.get("/hello")
    assert response.header("Content-Length") == "6"
    assert response.header("Transfer-Encoding") is None


def test_request_body_is_streamed_to_the_guest(server: Server) -> None:
    """An echo of the first part arrives before the rest of the body is sent."""
    with server.connect() as connection:
        connection.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst")
        seen = b""
        while b"first" not in seen:
            piece = connection.recv(65536)
            assert piece, seen
            seen += piece
        connection.sendall(b"rest!")
        while not seen.endswith(b"0\r\n\r\n"):
            seen += connection.recv(65536)
    assert b"rest!" in seen


def test_a_client_that_sends_first_and_reads_later(server: Server) -> None:
    """An echo to a client that is still sending neither blocks it nor uses much memory."""
    body = bytes(range(256)) * 200_000  # http.client does not read before it has sent everything
    before = server.rss()
    assert server.post("/echo", body, timeout=60).body == body
    assert server.rss() - before < 32 * MIB


def test_expect_continue_is_sent_when_the_guest_reads(server: Server) -> None:
    """100 Continue is sent at the guest's first read, not earlier."""
    with server.connect() as connection:
        started = time.monotonic()
        connection.sendall(
            b"POST /late-reader HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n"
            b"Expect: 100-continue\r\nConnection: close\r\n\r\n"
        )
        interim = connection.recv(65536)
        assert interim == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert time.monotonic() - started > 0.25
        connection.sendall(b"body")
        assert read_all(connection).startswith(b"HTTP/1.1 200 OK\r\n")


def test_expect_continue_precedes_output(server: Server) -> None:
    """The interim response precedes the final one, even if the guest prints first."""
    with server.connect() as connection:
        connection.sendall(
            b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n"
            b"Expect: 100-continue\r\nConnection: close\r\n\r\n"
        )
        seen = connection.recv(65536)
        assert seen.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.sendall(b"body")
        assert b"body" in seen + read_all(connection)


def test_expect_continue_is_not_sent_without_a_read(server: Server) -> None:
    """If the guest does not read, the client need not send its body."""
    answer = server.raw(
        b"POST /hello HTTP/1.0\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.0 200 ")


def chunked(total: int) -> Iterator[bytes]:
    yield b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
    yield b"Connection: close\r\n\r\n"
    for _ in range(total // 65536):
        yield b"10000\r\n" + b"x" * 65536 + b"\r\n"
    yield b"0\r\n\r\n"


def test_a_body_without_a_length_is_spooled(server: Server) -> None:
    """A chunked body is read completely before the guest starts; large ones go to a file."""
    with server.connect() as connection:
        for piece in chunked(2 * MIB):
            connection.sendall(piece)
        assert read_all(connection).count(b"x") >= 2 * MIB


def test_a_body_without_a_length_above_the_limit(server: Server) -> None:
    """The status is 413."""
    with server.connect() as connection:
        try:
            for piece in chunked(61 * MIB):
                connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the response arrived before the end of the body
        assert read_all(connection).startswith(b"HTTP/1.1 413 ")


def test_an_invalid_chunk_in_a_body(server: Server) -> None:
    """The status is 400, and nothing of the body reaches the guest."""
    with server.connect() as connection:
        for piece in list(chunked(65536))[:2]:
            connection.sendall(piece)
        time.sleep(0.1)
        connection.sendall(b"nonsense\r\n\r\n")
        assert b"HTTP/1.1 400 " in read_all(connection)


def test_a_body_that_times_out(server: Server) -> None:
    """The status is 408: a body without a length has to arrive within the handler's timeout."""
    with server.connect() as connection:
        connection.sendall(b"POST /one HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")


def test_one_gib_out(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The server's memory grows by less than 32 MiB during 1 GiB of output."""
    module = compiled(HANDLERS / "flood.c")
    with serving(tmp_path_factory.mktemp("out"), target=str(module)) as server:
        assert len(server.get("/?1").body) == MIB
        before = peak = server.rss()
        total = 0
        with server.connect() as connection:
            connection.sendall(b"GET /?1024 HTTP/1.0\r\n\r\n")
            while piece := connection.recv(MIB):
                total += len(piece)
                peak = max(peak, server.rss())
    assert total > 1024 * MIB
    assert peak - before < 32 * MIB


def test_one_gib_in(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The server's memory grows by less than 32 MiB during 1 GiB of input."""
    module = compiled(HANDLERS / "cat.c")
    with serving(tmp_path_factory.mktemp("in"), target=str(module)) as server:
        assert server.post("/?count", b"x" * MIB).text == f"{MIB}\n"
        before = peak = server.rss()
        piece = bytes(MIB)
        with server.connect(120) as connection:
            connection.sendall(
                b"POST /?count HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                b"Content-Length: %d\r\n\r\n" % (1024 * MIB)
            )
            for _ in range(1024):
                connection.sendall(piece)
                peak = max(peak, server.rss())
            answer = read_all(connection)
    assert b"%d\n" % (1024 * MIB) in answer
    assert peak - before < 32 * MIB


def test_a_slow_client_blocks_the_guest(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The buffer is bounded while the client does not read."""
    module = compiled(HANDLERS / "flood.c")
    with serving(tmp_path_factory.mktemp("slow"), target=str(module)) as server:
        assert server.get("/?1").status == 200
        before = server.rss()
        with server.connect() as connection:
            connection.sendall(b"GET /?200 HTTP/1.0\r\n\r\n")
            time.sleep(1)
            assert server.rss() - before < 32 * MIB
            connection.settimeout(60)
            assert len(read_all(connection)) > 200 * MIB


def test_a_client_that_does_not_read(server: Server) -> None:
    """The timeout is wall time: a client cannot keep a guest alive for longer."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((server.host, server.port))
        connection.sendall(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
        server.wait_for_log("route /big, .*exceeded its time limit of 1 s")
        connection.settimeout(10)
        assert 0 < len(read_all(connection)) < 60 * MIB


def test_sleeping_guests_run_concurrently(server: Server) -> None:
    """Eight guests that sleep for 1 s in one process respond together after about 1 s."""
    with ThreadPoolExecutor(8) as pool:
        started = time.monotonic()
        texts = list(pool.map(lambda _: server.get("/sleep").text, range(8)))
        elapsed = time.monotonic() - started
    assert texts == ["awake\n"] * 8
    assert 1.0 <= elapsed < 4.0  # sequentially, they would take 8 s


def test_hello_beside_endless_loops(server: Server) -> None:
    """Another request is served while eight guests run endless loops."""
    stop = [server.connect() for _ in range(8)]
    try:
        for connection in stop:
            connection.sendall(b"GET /spin HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.2)
        times = []
        for _ in range(20):
            started = time.monotonic()
            assert server.get("/hello", timeout=5).text == "hello\n"
            times.append(time.monotonic() - started)
    finally:
        for connection in stop:
            connection.close()
    # Milliseconds on an idle machine (see benchmarks); an endless loop would take 20 s.
    assert sorted(times)[10] < 1.0


def test_a_disconnect_cancels_the_guest(server: Server) -> None:
    """The guest is cancelled immediately; the access log has status 499."""
    with server.connect() as connection:
        connection.sendall(b"GET /ticks HTTP/1.1\r\nHost: a\r\n\r\n")
        seen = b""
        while seen.count(b"tick") < 2:
            seen += connection.recv(65536)
    server.wait_for_access(r'"GET /ticks HTTP/1.1" 499 ')
    time.sleep(0.2)
    ticks = server.log.count("stderr of /ticks")
    time.sleep(0.3)
    assert server.log.count("stderr of /ticks") == ticks


def test_a_disconnect_cancels_a_busy_guest(server: Server) -> None:
    """A guest in an endless loop is cancelled, too."""
    with server.connect() as connection:
        connection.sendall(b"GET /spin?gone HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.2)
    log = server.wait_for_access(r'"GET /spin\?gone HTTP/1.1" 499 ', seconds=5)
    assert 'route="/spin"' in log


def test_max_concurrency(tmp_path: Path) -> None:
    """A second request waits for the first one; a third one exceeds max_queue: 503."""
    manifest = """
[[module]]
route = "/one"
module = "sleep.wat"
max_concurrency = 1
max_queue = 1
"""
    sleep = Program().sleep(1000).write(TEXT_HEAD + "awake\n").wat()
    with (
        serving(tmp_path, manifest, *ONE_WORKER, modules={"sleep.wat": sleep}) as server,
        ThreadPoolExecutor(3) as pool,
    ):
        answers = list(pool.map(server.get, ["/one"] * 3))
    statuses = sorted(answer.status for answer in answers)
    assert statuses == [200, 200, 503]
    (busy,) = (answer for answer in answers if answer.status == 503)
    assert busy.header("Retry-After") == "1"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_bodies_on_a_persistent_connection(tmp_path: Path, loop: str) -> None:
    """However they are split, no part of a body is parsed as the next head."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    manifest = '[[module]]\nroute = "/echo"\nmodule = "echo.wat"\n'
    modules: dict[str, str | bytes] = {"echo.wat": (EXAMPLES / "wat/echo.wat").read_text()}
    head = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 250000\r\n\r\n"
    body = b"x" * 250_000
    with (
        serving(tmp_path, manifest, "--loop", loop, modules=modules) as server,
        server.connect() as connection,
    ):
        for _ in range(50):
            connection.sendall(head)
            time.sleep(0.005)
            connection.sendall(body)
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert (response.status, response.read()) == (200, body)


def test_keep_alive(server: Server) -> None:
    """Connections are persistent: by default with HTTP/1.1, on request with HTTP/1.0."""
    first = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
    last = b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert server.raw(first + first + last).count(b"HTTP/1.1 200 OK") == 3
    first = b"GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    answer = server.raw(first + b"GET /hello HTTP/1.0\r\n\r\n")
    assert answer.count(b"HTTP/1.0 200 OK") == 2
    assert answer.lower().count(b"connection: keep-alive") == 1


def test_a_stream_ends_with_the_connection_for_http_1_0(server: Server) -> None:
    """Without a length, only the end of the connection ends the body, even with keep-alive."""
    answer = server.raw(b"GET /pieces HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert answer.count(b"piece ") == 5
    assert b"keep-alive" not in answer.lower()
