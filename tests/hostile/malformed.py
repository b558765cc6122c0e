"""Malformed requests of many kinds, and unusual but valid requests.

``python -m tests.hostile.malformed`` prints the table of docs/security.md.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.support.wire import Answer, Case, table

HOST = b"Host: a\r\n"
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
STRICT_FRAMING = "two servers could understand two lengths as different requests: RFC 9112 §6.3"
STRICT_SYNTAX = (
    "RFC 9112 §2.2 and §5 allow a server to reject it, and no client sends it by accident"
)
ONLY_CHUNKED = "no other coding is implemented: RFC 9112 §6.1"


def get(fields: bytes = b"", line: bytes = b"GET / HTTP/1.1") -> bytes:
    """A request without a body. ``fields`` is header fields, each with its line end."""
    return line + b"\r\n" + HOST + fields + b"\r\n"


def post(fields: bytes, body: bytes = b"hello", line: bytes = b"POST / HTTP/1.1") -> bytes:
    """A request with a body, which is sent unchanged."""
    return line + b"\r\n" + HOST + fields + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    """A request with a chunked body, which is sent unchanged."""
    return post(b"Transfer-Encoding: chunked\r\n", body)


def _rejected(name: str, data: bytes, status: int, why: str = "") -> Case:
    return Case(name, data, Answer((status,), closed=True), why)


def _answered(name: str, data: bytes, reply: str = "GET /\n", why: str = "") -> Case:
    return Case(name, data, Answer((reply,), closed=False), why)


def _coding(name: str, value: bytes, why: str = ONLY_CHUNKED) -> Case:
    """An unsupported transfer coding with a valid chunked body."""
    return _rejected(name, post(b"Transfer-Encoding:" + value + b"\r\n", CHUNKS), 501, why)


_LINES = (
    _rejected("bytes that are not HTTP", b"\x00\x01\x02\r\n\r\n", 400),
    _rejected(
        "a TLS handshake",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 50,
        400,
        "Apache and Go wait for the end of a line",
    ),
    _rejected("no version", b"GET /\r\n\r\n", 505, "HTTP/0.9, which nginx and Apache still answer"),
    _rejected("no target", b"GET  HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    _rejected("a space in the target", get(line=b"GET /a b HTTP/1.1"), 400),
    _rejected("tabs instead of spaces", get(line=b"GET\t/\tHTTP/1.1"), 400),
    _rejected(
        "an unknown method",
        get(line=b"FROB / HTTP/1.1"),
        400,
        "the parser knows the registered methods only",
    ),
    _rejected(
        "a lower-case method",
        get(line=b"get / HTTP/1.1"),
        400,
        "methods are case-sensitive (RFC 9110 §9.1), and this one is not registered",
    ),
)
_VERSIONS = (
    _rejected("http/1.1 in lower case", get(line=b"GET / http/1.1"), 400),
    _rejected(
        "HTTP/0.9",
        get(line=b"GET / HTTP/0.9"),
        505,
        "nginx and Apache answer 400 below version 1.0",
    ),
    _rejected(
        "HTTP/1.10",
        get(line=b"GET / HTTP/1.10"),
        400,
        "nginx reads a minor version of several digits; RFC 9112 §2.3 has one digit",
    ),
    _rejected("HTTP/01.1", get(line=b"GET / HTTP/01.1"), 400),
    _rejected("HTTP/1", get(line=b"GET / HTTP/1"), 400),
    _rejected("HTTP/1.", get(line=b"GET / HTTP/1."), 400),
    _rejected("HTTP/1,1", get(line=b"GET / HTTP/1,1"), 400),
    _rejected(
        "HTTP/2.0",
        get(line=b"GET / HTTP/2.0"),
        505,
        "Apache answers every later version as HTTP/1.1",
    ),
    _rejected(
        "HTTP/2.1",
        get(line=b"GET / HTTP/2.1"),
        505,
        "Apache answers every later version as HTTP/1.1",
    ),
    _rejected(
        "HTTP/9.9",
        get(line=b"GET / HTTP/9.9"),
        505,
        "Apache answers every later version as HTTP/1.1",
    ),
    _rejected(
        "the preface of HTTP/2",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        505,
        "Go's handler is called",
    ),
)
_CODINGS = (
    _coding("Transfer-Encoding: gzip", b" gzip"),
    _coding("Transfer-Encoding: identity", b" identity"),
    _coding("Transfer-Encoding: gzip, chunked", b" gzip, chunked"),
    _coding("Transfer-Encoding: identity, chunked", b" identity, chunked"),
    _coding("Transfer-Encoding: nonsense, chunked", b" nonsense, chunked"),
    _coding("Transfer-Encoding: chunked, gzip", b" chunked, gzip"),
    _coding("Transfer-Encoding: chunked, chunked", b" chunked, chunked"),
    _coding("Transfer-Encoding: chunked,", b" chunked,"),
    _coding("Transfer-Encoding: , chunked", b" , chunked"),
    _coding("Transfer-Encoding: xchunked", b" xchunked"),
    _coding("Transfer-Encoding: chunkedx", b" chunkedx"),
    _coding("Transfer-Encoding: chunked;q=1", b" chunked;q=1"),
    _coding('Transfer-Encoding: "chunked"', b' "chunked"'),
    _coding("a vertical tab before chunked", b" \x0bchunked"),
    _coding("a form feed after chunked", b" chunked\x0c"),
    _coding("an empty Transfer-Encoding", b""),
    _coding("a Transfer-Encoding of white space", b" \t "),
    _coding("Transfer-Encoding: chunked, twice", b" chunked\r\nTransfer-Encoding: chunked"),
    _coding(
        "gzip and chunked in two Transfer-Encoding fields", b" gzip\r\nTransfer-Encoding: chunked"
    ),
    _coding(
        "chunked and identity in two Transfer-Encoding fields",
        b" chunked\r\nTransfer-Encoding: identity",
    ),
    _coding("chunked and an empty Transfer-Encoding field", b" chunked\r\nTransfer-Encoding:"),
    _rejected(
        "Transfer-Encoding: gzip without a body",
        get(b"Transfer-Encoding: gzip\r\n"),
        501,
        ONLY_CHUNKED,
    ),
    _rejected(
        "Transfer-Encoding: chunked in HTTP/1.0",
        post(b"Transfer-Encoding: chunked\r\n", CHUNKS, b"POST / HTTP/1.0"),
        400,
        "the framing is faulty: RFC 9112 §6.1",
    ),
    _rejected(
        "Transfer-Encoding: chunked in HTTP/1.0 with keep-alive",
        post(
            b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n", CHUNKS, b"POST / HTTP/1.0"
        ),
        400,
        "the framing is faulty: RFC 9112 §6.1",
    ),
)
_LENGTHS = (
    _rejected(
        "a length and chunks",
        post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", CHUNKS),
        400,
        STRICT_FRAMING,
    ),
    _rejected(
        "chunks and a length",
        post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", CHUNKS),
        400,
        STRICT_FRAMING,
    ),
    _rejected(
        "chunks and a length of 0",
        post(b"Transfer-Encoding: Chunked\r\nContent-Length: 0\r\n", CHUNKS),
        400,
        STRICT_FRAMING,
    ),
    _rejected("two lengths", post(b"Content-Length: 5\r\nContent-Length: 6\r\n"), 400),
    _rejected(
        "the same length twice",
        post(b"Content-Length: 5\r\nContent-Length: 5\r\n"),
        400,
        STRICT_FRAMING,
    ),
    _rejected("a list of lengths", post(b"Content-Length: 5, 5\r\n"), 400, STRICT_FRAMING),
    _rejected("a length with a sign", post(b"Content-Length: +5\r\n"), 400),
    _rejected("a negative length", post(b"Content-Length: -5\r\n"), 400),
    _rejected("a hexadecimal length", post(b"Content-Length: 0x5\r\n"), 400),
    _rejected("a length beyond 64 bits", post(b"Content-Length: 99999999999999999999\r\n"), 400),
    _rejected("an empty length", post(b"Content-Length:\r\n"), 400),
)
_CHUNKS = (
    _rejected("a chunk size that is a word", chunked(b"xyz\r\nhello\r\n0\r\n\r\n"), 400),
    _rejected("an empty chunk size", chunked(b"\r\nhello\r\n0\r\n\r\n"), 400),
    _rejected("a negative chunk size", chunked(b"-1\r\nhello\r\n0\r\n\r\n"), 400),
    _rejected("a chunk size with a sign", chunked(b"+5\r\nhello\r\n0\r\n\r\n"), 400),
    _rejected("a chunk size with 0x", chunked(b"0x5\r\nhello\r\n0\r\n\r\n"), 400),
    _rejected("a chunk size after a space", chunked(b" 5\r\nhello\r\n0\r\n\r\n"), 400),
    _rejected(
        "a chunk size beyond 64 bits",
        chunked(b"f" * 17 + b"\r\nhello\r\n0\r\n\r\n"),
        400,
        "Apache answers 413",
    ),
    _rejected("a chunk longer than its size", chunked(b"3\r\nhello\r\n0\r\n\r\n"), 400),
    _rejected(
        "a chunk shorter than its size",
        chunked(b"6\r\nhello\r\n0\r\n\r\n"),
        400,
        "nginx ends this chunk at the bare LF",
    ),
    _rejected(
        "chunks that end in bare LF",
        chunked(b"5\nhello\n0\n\n"),
        400,
        "all servers on the way must find the same end: RFC 9112 §7.1",
    ),
    _rejected(
        "a bare LF after a chunk size",
        chunked(b"5\nhello\r\n0\r\n\r\n"),
        400,
        "all servers on the way must find the same end: RFC 9112 §7.1",
    ),
    _rejected(
        "a trailer field without a colon",
        chunked(b"5\r\nhello\r\n0\r\nnonsense\r\n\r\n"),
        400,
        "nginx does not look at trailer fields",
    ),
)
_FIELDS = (
    _rejected("bare LF", b"GET / HTTP/1.1\nHost: a\n\n", 400, STRICT_SYNTAX),
    _rejected(
        "one bare LF among the fields",
        b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        400,
        STRICT_SYNTAX,
    ),
    _rejected("bare CR", get(b"X: a\rY: b\r\n"), 400),
    _rejected(
        "obsolete folding",
        get(b"X: a\r\n b\r\n"),
        400,
        "RFC 9112 §5.2 allows a server to reject it",
    ),
    _rejected("NUL in a value", get(b"X: a\0b\r\n"), 400),
    _rejected("NUL in the target", get(line=b"GET /\0 HTTP/1.1"), 400),
    _rejected(
        "bytes above 127 in the target",
        get(line="GET /é HTTP/1.1".encode()),
        400,
        "a URI is ASCII (RFC 3986 §2); browsers and curl with --url-query encode it",
    ),
    _rejected("a space before the colon", get(b"X : b\r\n"), 400),
    _rejected("a field without a colon", get(b"nonsense\r\n"), 400, "nginx drops such a field"),
    _rejected("a field without a name", get(b": b\r\n"), 400),
    _rejected("a name with brackets", get(b"X(y): b\r\n"), 400, "nginx drops such a field"),
    _rejected("no Host", b"GET / HTTP/1.1\r\n\r\n", 400),
    _rejected("two Hosts", get(b"Host: b\r\n"), 400),
    _rejected("a Host with a space", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    _rejected("a Host with a path", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
)
_SIZES = (
    _rejected(
        "a target of 20,000 bytes",
        get(line=b"GET /" + b"a" * 20_000 + b" HTTP/1.1"),
        414,
        "Go's limit is 1 MiB for the whole head",
    ),
    _rejected(
        "a target of 70,000 bytes",
        get(line=b"GET /" + b"a" * 70_000 + b" HTTP/1.1"),
        414,
        "Go's limit is 1 MiB for the whole head",
    ),
    _rejected(
        "a target without an end",
        b"GET /" + b"a" * 2_000_000,
        414,
        "Go has one limit for line and fields",
    ),
    _rejected(
        "a field of 100,000 bytes",
        get(b"X: " + b"a" * 100_000 + b"\r\n"),
        431,
        "nginx and Apache answer 400; Go's limit is 1 MiB",
    ),
    _rejected(
        "a name of 100,000 bytes",
        get(b"X" * 100_000 + b": a\r\n"),
        431,
        "nginx and Apache answer 400; Go's limit is 1 MiB",
    ),
    _rejected(
        "200 fields",
        get(b"".join(b"X-%d: a\r\n" % i for i in range(200))),
        431,
        "as in Apache, which answers 400, the number of fields is limited: each becomes a variable",
    ),
    _rejected(
        "fields without an end",
        b"GET / HTTP/1.1\r\n" + HOST + b"X: 0123456789\r\n" * 80_000,
        431,
        "nginx and Apache answer 400",
    ),
)
_TARGETS = (
    _rejected(
        "OPTIONS *",
        get(line=b"OPTIONS * HTTP/1.1"),
        400,
        "no handler answers for the whole server; Go's and Apache's do",
    ),
    _rejected("GET *", get(line=b"GET * HTTP/1.1"), 400, "only OPTIONS may: RFC 9112 §3.2.4"),
    _rejected(
        "the authority form",
        get(line=b"GET a:80 HTTP/1.1"),
        400,
        "only CONNECT may: RFC 9112 §3.2.3",
    ),
    _rejected(
        "CONNECT",
        get(line=b"CONNECT a:443 HTTP/1.1"),
        400,
        "wagi is not a proxy; others call their handler, or answer 405",
    ),
    _rejected(
        "CONNECT with a path",
        get(line=b"CONNECT /a HTTP/1.1"),
        400,
        "wagi is not a proxy; others call their handler, or answer 405",
    ),
    _rejected(
        "the absolute form of ftp",
        get(line=b"GET ftp://b/x HTTP/1.1"),
        400,
        "there is no such URL here",
    ),
)
CASES = (*_LINES, *_VERSIONS, *_CODINGS, *_LENGTHS, *_CHUNKS, *_FIELDS, *_SIZES, *_TARGETS)
GOOD = (
    _answered("a plain request", get()),
    _answered(
        "the absolute form",
        get(line=b"GET http://b/x HTTP/1.1"),
        "GET /x\n",
        "the variables of Apache and Go have the target as it was sent",
    ),
    _answered(
        "empty lines before the request",
        b"\r\n\r\n" + get(),
        why="RFC 9112 §2.2 asks a server to skip it",
    ),
    _answered("HTTP/1.2", get(line=b"GET / HTTP/1.2")),
    _answered("HTTP/1.9", get(line=b"GET / HTTP/1.9")),
    _answered("chunks", chunked(CHUNKS), "POST /\nhello"),
    _answered("chunks in HTTP/1.2", chunked(CHUNKS).replace(b"1.1", b"1.2"), "POST /\nhello"),
    _answered("chunks of a GET", chunked(CHUNKS).replace(b"POST", b"GET"), "GET /\nhello"),
    _answered(
        "Transfer-Encoding: CHUNKED",
        post(b"Transfer-Encoding: CHUNKED\r\n", CHUNKS),
        "POST /\nhello",
    ),
    _answered(
        "transfer-encoding:cHuNkEd", post(b"transfer-encoding:cHuNkEd\r\n", CHUNKS), "POST /\nhello"
    ),
    _answered(
        "spaces around chunked",
        post(b"Transfer-Encoding:   chunked  \r\n", CHUNKS),
        "POST /\nhello",
    ),
    _answered(
        "tabs around chunked",
        post(b"Transfer-Encoding:\t\tchunked\t\t\r\n", CHUNKS),
        "POST /\nhello",
        "they are not part of the value (RFC 9110 §5.5), but nginx takes them for that",
    ),
    _answered("a chunk extension", chunked(b"5;a=b\r\nhello\r\n0\r\n\r\n"), "POST /\nhello"),
    _answered("a trailer field", chunked(b"5\r\nhello\r\n0\r\nX: y\r\n\r\n"), "POST /\nhello"),
    _answered(
        "a head of 70,000 bytes",
        get(
            b"".join(b"X-%d: %b\r\n" % (i, b"a" * 693) for i in range(10, 100)),
            b"GET /" + b"a" * 6999 + b" HTTP/1.1",
        ),
        f"GET /{'a' * 6999}\n",
        "nginx's limit is 32 KiB for the whole head",
    ),
    _answered(
        "an upgrade that is not supported",
        get(b"Connection: Upgrade\r\nUpgrade: websocket\r\n"),
    ),
)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(table(Path(folder), CASES + GOOD))
