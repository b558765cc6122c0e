"""Requests that are wrong in every way we know, and what we and two others answer.

``python -m tests.hostile.malformed`` prints the table of docs/security.md.
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.nginx import nginx
from tests.support.server import Server, serving
from tests.support.toolchains import native_go
from tests.support.wat import TEXT_HEAD, Program

HOST = b"Host: a\r\n"
CHUNKED = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
STRICT_FRAMING = "who sends two lengths wants two servers to read two requests: RFC 9112 §6.3"
STRICT_SYNTAX = "RFC 9112 §2.2 and §5 allow a server to refuse it, and nobody sends it by accident"


@dataclass(frozen=True)
class Case:
    """A request; ``status`` that we answer; ``why`` others that differ do."""

    name: str
    data: bytes
    status: int
    why: str = ""


def _get(fields: bytes = b"", line: bytes = b"GET / HTTP/1.1") -> bytes:
    return line + b"\r\n" + HOST + fields + b"\r\n"


def _post(fields: bytes, body: bytes = b"hello") -> bytes:
    return b"POST / HTTP/1.1\r\n" + HOST + fields + b"\r\n" + body


CASES = (
    Case("bytes that are no HTTP", b"\x00\x01\x02\r\n\r\n", 400),
    Case("a TLS handshake", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 50, 400,
         "Go waits for more of it"),
    Case("no version", b"GET /\r\n\r\n", 505, "HTTP/0.9, which nginx still speaks"),
    Case("no target", b"GET  HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    Case("a space in the target", _get(line=b"GET /a b HTTP/1.1"), 400),
    Case("tabs instead of spaces", _get(line=b"GET\t/\tHTTP/1.1"), 400),
    Case("lower-case http", _get(line=b"GET / http/1.1"), 400),
    Case("HTTP/0.9", _get(line=b"GET / HTTP/0.9"), 505, "nginx says 400 for a version below 1.0"),
    Case("HTTP/1.2", _get(line=b"GET / HTTP/1.2"), 505,
         "there is no 1.2; the parser knows no version that does not exist"),
    Case("HTTP/2.0", _get(line=b"GET / HTTP/2.0"), 505),
    Case("HTTP/9.9", _get(line=b"GET / HTTP/9.9"), 505),
    Case("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400,
         "Go hands it to its handler"),
    Case("an unknown method", _get(line=b"FROB / HTTP/1.1"), 400,
         "the parser knows the registered methods only"),
    Case("a lower-case method", _get(line=b"get / HTTP/1.1"), 400,
         "methods are case-sensitive: RFC 9110 §9.1"),
    Case("a length and chunks", _post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
         b"0\r\n\r\n"), 400, STRICT_FRAMING),
    Case("chunks and a length", _post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
         b"0\r\n\r\n"), 400, STRICT_FRAMING),
    Case("two lengths", _post(b"Content-Length: 5\r\nContent-Length: 6\r\n"), 400),
    Case("the same length twice", _post(b"Content-Length: 5\r\nContent-Length: 5\r\n"), 400,
         STRICT_FRAMING),
    Case("a list of lengths", _post(b"Content-Length: 5, 5\r\n"), 400, STRICT_FRAMING),
    Case("a length with a sign", _post(b"Content-Length: +5\r\n"), 400),
    Case("a negative length", _post(b"Content-Length: -5\r\n"), 400),
    Case("a hexadecimal length", _post(b"Content-Length: 0x5\r\n"), 400),
    Case("a length beyond 64 bits", _post(b"Content-Length: 99999999999999999999\r\n"), 400),
    Case("an empty length", _post(b"Content-Length:\r\n"), 400),
    Case("chunks in HTTP/1.0", CHUNKED.replace(b"1.1", b"1.0") + b"0\r\n\r\n", 400,
         "its framing is faulty: RFC 9112 §6.1"),
    Case("an unknown coding", _post(b"Transfer-Encoding: gzip\r\n", b""), 400,
         "501 would do as well; the parser says bad request"),
    Case("a coding after chunked", _post(b"Transfer-Encoding: chunked, gzip\r\n", b"0\r\n\r\n"),
         400, "501 would do as well"),
    Case("almost chunked", _post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"), 400,
         "501 would do as well"),
    Case("chunked twice", _post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
         b"0\r\n\r\n"), 400, "501 would do as well"),
    Case("a chunk size that is a word", CHUNKED + b"xyz\r\nhello\r\n0\r\n\r\n", 400),
    Case("a negative chunk size", CHUNKED + b"-1\r\nhello\r\n0\r\n\r\n", 400),
    Case("a chunk size with 0x", CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n", 400),
    Case("a chunk size beyond 64 bits", CHUNKED + b"f" * 17 + b"\r\nhello\r\n0\r\n\r\n", 400),
    Case("a chunk longer than its size", CHUNKED + b"3\r\nhello\r\n0\r\n\r\n", 400),
    Case("chunks that end in bare LF", CHUNKED + b"5\nhello\n0\n\n", 400,
         "every hop has to see the same end: RFC 9112 §7.1"),
    Case("bare LF", b"GET / HTTP/1.1\nHost: a\n\n", 400, STRICT_SYNTAX),
    Case("one bare LF among the fields", b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400,
         STRICT_SYNTAX),
    Case("bare CR", _get(b"X: a\rY: b\r\n"), 400),
    Case("obsolete folding", _get(b"X: a\r\n b\r\n"), 400, "RFC 9112 §5.2 asks for it"),
    Case("NUL in a value", _get(b"X: a\0b\r\n"), 400),
    Case("NUL in the target", _get(line=b"GET /\0 HTTP/1.1"), 400),
    Case("bytes above 127 in the target", _get(line="GET /é HTTP/1.1".encode()), 400,
         "a URI is ASCII: RFC 3986 §2; browsers and curl with --url-query encode it"),
    Case("a space before the colon", _get(b"X : b\r\n"), 400),
    Case("a field without a colon", _get(b"nonsense\r\n"), 400, "nginx drops such a field"),
    Case("a field without a name", _get(b": b\r\n"), 400),
    Case("a name with brackets", _get(b"X(y): b\r\n"), 400, "nginx drops such a field"),
    Case("no Host", b"GET / HTTP/1.1\r\n\r\n", 400),
    Case("two Hosts", _get(b"Host: b\r\n"), 400),
    Case("a Host with a space", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    Case("a Host with a path", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    Case("a target of 20,000 bytes", _get(line=b"GET /" + b"a" * 20_000 + b" HTTP/1.1"), 414,
         "Go's limit is 1 MiB for the whole head"),
    Case("a target without an end", b"GET /" + b"a" * 2_000_000, 414,
         "Go has one limit for line and fields"),
    Case("a field of 100,000 bytes", _get(b"X: " + b"a" * 100_000 + b"\r\n"), 431,
         "nginx says 400; Go's limit is 1 MiB"),
    Case("a name of 100,000 bytes", _get(b"X" * 100_000 + b": a\r\n"), 431,
         "nginx says 400; Go's limit is 1 MiB"),
    Case("200 fields", _get(b"".join(b"X-%d: a\r\n" % i for i in range(200))), 431,
         "as Apache, we count the fields; each becomes a variable"),
    Case("fields without an end", b"GET / HTTP/1.1\r\n" + HOST + b"X: 0123456789\r\n" * 80_000, 431,
         "nginx says 400"),
    Case("OPTIONS *", _get(line=b"OPTIONS * HTTP/1.1"), 400,
         "no handler answers for the whole server; Go's does"),
    Case("GET *", _get(line=b"GET * HTTP/1.1"), 400, "only OPTIONS may: RFC 9112 §3.2.4"),
    Case("the authority form", _get(line=b"GET a:80 HTTP/1.1"), 400,
         "only CONNECT may: RFC 9112 §3.2.3"),
    Case("CONNECT", _get(line=b"CONNECT a:443 HTTP/1.1"), 400,
         "we are no proxy; Go leaves that to the handler"),
    Case("the absolute form of ftp", _get(line=b"GET ftp://b/x HTTP/1.1"), 400,
         "we serve no such URL"),
)  # fmt: skip
GOOD = (
    Case("a plain request", _get(), 200),
    Case("the absolute form", _get(line=b"GET http://b/x HTTP/1.1"), 200),
    Case("empty lines before the request", b"\r\n\r\n" + _get(), 200, "RFC 9112 §2.2 asks for it"),
    Case("a chunk extension", CHUNKED + b"5;a=b\r\nhello\r\n0\r\n\r\n", 200),
    Case("an upgrade that is not taken", _get(b"Connection: Upgrade\r\nUpgrade: websocket\r\n"),
         200),
)  # fmt: skip
# Says on stderr that it ran, then reads its body to the end.
COUNTING = (
    Program()
    .write("ran\n", fd=2)
    .code("(loop $l (br_if $l (call $read)))")
    .write(TEXT_HEAD + "ok")
    .wat()
)


@dataclass(frozen=True)
class Answer:
    """What came back: the statuses, and whether the connection was closed."""

    statuses: tuple[int, ...]
    closed: bool


def ask(port: int, data: bytes, patience: float) -> Answer:
    """Send bytes; wait ``patience`` seconds after the last answer for the connection to close."""
    received = b""
    closed = True
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        connection.settimeout(patience)
        try:
            while piece := connection.recv(65536):
                received += piece
        except TimeoutError:
            closed = False
        except ConnectionError:
            pass
    statuses = re.findall(rb"^HTTP/1\.[01] (\d{3})", received, re.MULTILINE)
    return Answer(tuple(int(status) for status in statuses), closed)


@contextmanager
def three_servers(folder: Path) -> Iterator[tuple[Server, int, int]]:
    """Ours, and the ports of nginx and of Go's net/http."""
    manifest = '[[module]]\nroute = "/..."\nmodule = "counting.wat"\n'
    site = 'server { listen 80; location / { return 200 "ok"; } }'
    source = Path(__file__).parents[1] / "support" / "net_http.go"
    go = subprocess.Popen([native_go(source)], stdout=subprocess.PIPE, text=True)
    try:
        assert go.stdout is not None
        go_port = int(go.stdout.readline())
        with (
            serving(folder, manifest, modules={"counting.wat": COUNTING}) as server,
            nginx(folder / "nginx", site) as nginx_port,
        ):
            yield server, nginx_port, go_port
    finally:
        go.kill()
        go.wait()


def first(answer: Answer) -> str:
    """The status, for a table."""
    return str(answer.statuses[0]) if answer.statuses else "none"


def table() -> str:
    """Each request with the three answers, and why they differ."""
    rows = [
        "| request | wagi | nginx | Go | why the difference |",
        "| --- | --- | --- | --- | --- |",
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        three_servers(Path(folder)) as (server, *others),
    ):
        for case in CASES + GOOD:
            answers = [first(ask(port, case.data, 1)) for port in (server.port, *others)]
            why = case.why if len(set(answers)) > 1 else ""
            rows.append(f"| {case.name} | {' | '.join(answers)} | {why} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
