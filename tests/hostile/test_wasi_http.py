"""Handlers of wasi:http that break the rules of the canonical ABI or of the interfaces.

Each is trapped, and no other guest notices it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.server import ONE_WORKER, Server, manifest_of, serving
from tests.support.wasi_http import ANSWER, HELLO, WRITE_PATH, handler

WRITE = "(call $write (local.get $to) (i32.const {}) (i32.const {}) (i32.const 16))"
WRITE_PAGE = WRITE.format(0, 4096)
FOREVER = "(loop $again {} (br $again))"
NAME = '(data (i32.const 1024) "x")'
MANY = """(loop $again {} (br_if $again
  (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {}))))"""
APPEND = """(call $append (local.get $from) (i32.const 1024) (i32.const 1) (i32.const 4096)
  (i32.const {}) (i32.const 0))"""
SET_ERROR = """(call $answer (local.get $out) (i32.const 1) (i32.const {}) (i32.const 1)
  (i64.const {}) (i32.const 16) (i32.const 0) (i32.const 0) (i32.const 0))"""
SEND = """(call $send (call $request (call $fields)) (i32.const 0) (i32.const 0) (i32.const 0))"""
CALLS_BACK = """(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
  (call $path (i32.const 1) (i32.const 0)) (i32.const 8))"""


def allocator(result: str) -> str:
    return f"""(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {result})"""


CASES: dict[str, tuple[str, str]] = {
    "write-outside": (
        handler(ANSWER + WRITE.format(131072, 1)),
        "an address outside of its memory",
    ),
    "write-wraps": (
        handler(ANSWER + WRITE.format(-16, 32)),
        "an address outside of its memory",
    ),
    "result-outside": (
        handler("(call $path (local.get $request) (i32.const -4))"),
        "an address outside of its memory",
    ),
    "name-outside": (
        handler("(call $append (call $fields) (i32.const -1) (i32.const 8) (i32.const 0)"
                " (i32.const 0) (i32.const 0))"),
        "an address outside of its memory",
    ),
    "list-outside": (
        handler("(call $from_list (i32.const 131000) (i32.const 100) (i32.const 0))"),
        "an address outside of its memory",
    ),
    "list-endless": (
        handler("(call $from_list (i32.const 0) (i32.const -1) (i32.const 0))"),
        "passed more than 1024 header fields",
    ),
    "values-endless": (
        handler("(call $set (call $fields) (i32.const 1024) (i32.const 1) (i32.const 0)"
                " (i32.const -1) (i32.const 0))", fields=NAME),
        "passed more than 1024 header fields",
    ),
    "error-outside": (handler(SET_ERROR.format(38, -8)), "an address outside of its memory"),
    "error-unknown": (handler(SET_ERROR.format(39, 0)), "passed the error code 39"),
    "another-kind": (
        handler("(call $body (local.get $request) (i32.const 0))"),
        "used handle 1, which is not an OutgoingResponse",
    ),
    "another-set": (
        handler("(call $answer (local.get $out) (i32.const 0) (local.get $request) (i32.const 0)"
                " (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))"),
        "used handle 1, which is not an OutgoingResponse",
    ),
    "used-twice": (
        handler("(drop (call $response (local.tee $i (call $fields))))"
                " (drop (call $response (local.get $i)))"),
        "used handle 3, which is not a Fields",
    ),
    "set-twice": (handler(ANSWER + ANSWER), "used handle 2, which is not a ResponseOutparam"),
    "no-handle": (handler("(call $path (i32.const -1) (i32.const 0))"), "used handle 4294967295"),
    "endless-handles": (
        handler(FOREVER.format("(drop (call $fields))")), "holds more than 4096 handles"
    ),
    "endless-bodies": (
        handler(FOREVER.format(
            "(call $body (call $response (call $fields)) (i32.const 0))")),
        "holds more than 4096 handles",
    ),
    "endless-fields": (
        handler("(local.set $from (call $fields))" + FOREVER.format(APPEND.format(0)), fields=NAME),
        "made more than 1024 header fields",
    ),
    "large-fields": (
        handler("(local.set $from (call $fields))" + FOREVER.format(APPEND.format(60_000)),
                fields=NAME + '(data (i32.const 4096) "%s")' % ("a" * 60_000)),
        "holds more than 4194304 bytes of header fields",
    ),
    "endless-clones": (
        handler("(local.set $from (call $fields))"
                + MANY.format(APPEND.format(6000), 10)
                + FOREVER.format("(drop (call $clone (local.get $from)))"),
                fields=NAME + '(data (i32.const 4096) "%s")' % ("a" * 6000)),
        "holds more than 4194304 bytes of header fields",
    ),
    "write-ungranted": (
        handler(ANSWER + "(call $write_unchecked (local.get $to) (i32.const 0) (i32.const 1)"
                " (i32.const 16))"),
        "wrote more to a stream than check-write had permitted",
    ),
    "write-large": (
        handler(ANSWER + WRITE.format(0, 4097)),
        "wrote more than 4096 bytes in one blocking write",
    ),
    "poll-nothing": (
        handler("(call $poll (i32.const 0) (i32.const 0) (i32.const 0))"), "polled 0 pollables"
    ),
    "poll-endless": (
        handler("(call $poll (i32.const 0) (i32.const -1) (i32.const 0))"), "polled 4294967295"
    ),
    "allocator-lies": (
        handler(ANSWER + WRITE_PATH, allocator("(i32.const -8)")),
        "its allocator returned an invalid address",
    ),
    "allocator-spins": (
        handler(ANSWER + WRITE_PATH, allocator("(loop $l (br $l)) (i32.const 0)")),
        "its allocator failed",
    ),
    "allocator-calls": (handler(ANSWER + WRITE_PATH, CALLS_BACK), "its allocator calls the host"),
    "allocator-traps": (
        handler(ANSWER + WRITE_PATH, allocator("unreachable")), "its allocator failed"
    ),
    "status-of-no-response": (
        handler("(drop (call $set_status (i32.const 77) (i32.const 200)))"), "used handle 77"
    ),
    "scheme-unknown": (
        handler("(drop (call $set_scheme (call $request (call $fields)) (i32.const 1)"
                " (i32.const 3) (i32.const 0) (i32.const 0)))"),
        "passed the scheme 3",
    ),
}  # fmt: skip
"""Modules, and the traps in which they end."""
SURVIVORS = {
    "not-allowed": handler(SEND + HELLO),
    "write-forever": handler(ANSWER + FOREVER.format(WRITE_PAGE)),
    "write-unset": handler(
        "(call $body (local.tee $response (call $response (call $fields))) (i32.const 0))"
        "(call $open (i32.load (i32.const 4)) (i32.const 0))"
        "(local.set $to (i32.load (i32.const 4)))" + FOREVER.format(WRITE_PAGE)),
    "hello": handler(HELLO),
}  # fmt: skip
SHORT = """
[[module]]
route = "/deadlock"
module = "write-unset.wat"
timeout = 1
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hostile-wasi-http")
    modules: dict[str, str | bytes] = {f"{name}.wat": wat for name, (wat, _) in CASES.items()}
    modules |= {f"{name}.wat": wat for name, wat in SURVIVORS.items()}
    with serving(folder, manifest_of(modules, SHORT), *ONE_WORKER, modules=modules) as running:
        yield running


@pytest.mark.parametrize("name", CASES)
def test_handlers_that_break_the_rules(server: Server, name: str) -> None:
    _, cause = CASES[name]
    started = time.monotonic()
    response = server.get(f"/{name}")
    assert response.status in (500, 200), "the response of some has begun"
    server.wait_for_log(rf"route /{name}, .*{cause}")
    assert time.monotonic() - started < 5
    assert server.get("/hello").text == "/hello"


def test_a_request_that_is_not_allowed(server: Server) -> None:
    """It is an error of the request, not of the guest."""
    assert server.get("/not-allowed").text == "/not-allowed"


def test_a_response_without_end(server: Server) -> None:
    """The guest is suspended while its client does not read."""
    before = server.rss()
    with server.connect() as client:
        client.sendall(b"GET /write-forever HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(1024)
        time.sleep(0.5)
        assert server.rss() - before < 16 * 1024**2
        started = time.monotonic()
        assert server.get("/hello").status == 200
        assert time.monotonic() - started < 0.5


def test_a_guest_that_waits_for_itself(server: Server) -> None:
    """It fills a body that nothing sends, and uses no time of the worker while it waits."""
    before = server.cpu_seconds()
    assert server.get("/deadlock").status == 504
    assert server.cpu_seconds() - before < 0.3


def test_no_guest_gets_the_body_of_another(server: Server) -> None:
    """With hostile guests between them."""
    names = list(CASES)

    def ask(number: int) -> str:
        if number % 2:
            server.get(f"/{names[number % len(names)]}")
            return ""
        return server.get(f"/hello?{number}").text

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(80)))
    assert answers[::2] == [f"/hello?{number}" for number in range(0, 80, 2)]
