"""Contract, "Response": each docstring states what docs/contract.md promises."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import Response, Server, manifest_of, serving
from tests.support.toolchains import HANDLERS, compiled
from tests.support.wat import SPIN, TEXT_HEAD, Program, printing

BODY = "body\r\nwith \0 bytes\n\n"
OUTPUTS: dict[str, str | bytes] = {
    "lf": "Content-Type: text/plain\nX-A: 1\n\n" + BODY,
    "crlf": "Content-Type: text/plain\r\nX-A: 1\r\n\r\n" + BODY,
    "crcrlf": "Content-Type: text/plain\r\r\nX-A: 1\r\r\n\r\r\n" + BODY,
    "mixed": "Content-Type: text/plain\r\nX-A: 1\n\r\n" + BODY,
    "empty-first-line": "\nContent-Type: text/plain\nX-A: 1\n\n" + BODY,
    "empty-first-line-crlf": "\r\nContent-Type: text/plain\r\nX-A: 1\r\n\r\n" + BODY,
    "indented": "\n    Content-Type : text/plain\n    X-A\t: 1 \n\n" + BODY,
    "last-type": "Content-Type: text/html\nX-A: 1\nContent-Type: text/plain\n\n" + BODY,
    "case": "CONTENT-type: text/plain\nsTaTuS: 201\n\n" + BODY,
    "nothing": "",
    "no-blank": "Content-Type: text/plain\n",
    "no-headers": "\n\nbody",
    "wrong-headers": "X-Other: 1\n\nsecret",
    "too-large": "X: " + "a" * 70_000 + "\nContent-Type: text/plain\n\n",
    "status-number": "Status: 404\n\nbody",
    "status-text": "Status: 404 Not Found\n\nbody",
    "status-599": "Status: 599\n\n",
    "status-latin-1": b"Status: 404 Non trouv\xe9\n\nbody",
    "status-nul": "Status: 404 a\0b\n\nbody",
    "status-no-space": "Status:404;x\n\nbody",
    "status-last": "Status: 200\nContent-Type: text/plain\nStatus: 404\n\nbody",
    "status-line": "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\n\r\nbody",
    "status-line-only": "HTTP/1.0 404\n\nbody",
    "status-line-and-status": "HTTP/1.1 200 OK\nStatus: 404\n\nbody",
    "status-word": "Status: fine\n\nsecret",
    "status-empty": "Content-Type: text/plain\nStatus:\n\nsecret",
    "status-4040": "Status: 4040\n\nsecret",
    "status-line-100": "HTTP/1.1 100 Continue\nContent-Type: text/plain\n\nsecret",
    "location-nul": "Location: /secret\0x\n\nsecret",
    "location-cr": "Location: /x\rSet-Cookie: secret=1\nStatus: 301\n\nsecret",
    "type-bell": "Content-Type: text/\x07secret\n\nsecret",
    "status-600": "Status: 600\n\n",
    "status-99": "Status: 99\n\n",
    "status-100": "Status: 100\n\n",
    "redirect": "Location: https://example.com/%20?a=b#c\n\n",
    "redirect-latin-1": b"Location: /caf\xe9\n\n",
    "redirect-utf-8": "Location: /caf\u00e9\n\n",
    "redirect-last": "Location: /a\nLocation: /b\n\n",
    "redirect-status-line": "HTTP/1.1 303 See Other\nLocation: /x\n\n",
    "redirect-status-after": "Location: /x\nStatus: 301\n\n",
    "redirect-status-before": "Status: 307\nLocation: relative\n\n",
    "obs-text": b"Content-Type: text/plain\nX-A: \x80 caf\xe9 \xff\nX-B: \xc3\xa9\n\n",
    "folded": "Content-Type: text/plain\nX-A: 1\n\t2\n X-B: 3\n\nbody",
    "cookies": "Content-Type: text/plain\nSet-Cookie: a=1\nSet-Cookie: b=2\n\n",
    "hop-by-hop": "Content-Type: text/plain\nConnection: close\nKeep-Alive: 1\n"
    "Transfer-Encoding: chunked\nUpgrade: x\nTE: x\nTrailer: x\nProxy-Authenticate: x\n"
    "X-Kept: 1\n\nbody",
    "forbidden": "Content-Type: text/plain\nX Y: 1\nX-Bell: a\x07b\nX-Cr: a\rSet-Cookie: evil=1\n"
    "no colon\n: empty\nX-Kept: 1\n\nbody",
    "true-length": "Content-Type: text/plain\nContent-Length: 4\n\nbody",
    "short": "Content-Type: text/plain\nContent-Length: 10\n\nbody",
    "long": "Content-Type: text/plain\nContent-Length: 2\n\nbody",
    "bad-length": "Content-Type: text/plain\nContent-Length: 4x\n\nbody",
    "equal-lengths": "Status: 200\nContent-Length: 4\nContent-Length: 4\n\nbody",
    "two-lengths": "Status: 200\nContent-Length: 2\nContent-Length: 4\n\nbody",
    "reset-content": "Status: 205\nContent-Type: text/plain\n\nbody",
    "reset-content-length": "Status: 205 Reset Content\nContent-Length: 4\n\nbody",
    "no-content": "Status: 204\nContent-Length: 4\n\nbody",
    "not-modified": 'Status: 304\nETag: "x"\n\nbody',
}
ENDINGS = {
    "exit-0": Program().write(TEXT_HEAD + "done").exit(0),
    "exit-3": Program().write(TEXT_HEAD + "done").exit(3),
    "exit-3-no-head": Program().write("Content-").exit(3),
    "trap": Program().write(TEXT_HEAD + "done").trap(),
    "trap-silent": Program().trap(),
    "trap-later": Program().write(TEXT_HEAD + "some").sleep(50).trap(),
    "spin": Program().code(SPIN),
    "spin-later": Program().write(TEXT_HEAD + "some").sleep(50).code(SPIN),
    "sleep-forever": Program().sleep(3_600_000),
    "short-later": Program().write("Status: 200\nContent-Length: 9\n\nsome").sleep(50).write("x"),
    "reset-later": Program().write("Status: 205\n\nsome").sleep(50).write("more"),
    "long-later": Program().write("Status: 200\nContent-Length: 3\n\nsome").sleep(50).write("x"),
    "head-later": Program().write(TEXT_HEAD + "some").sleep(50).write("more"),
    "stderr": Program()
    .write("first li", fd=2)
    .write("ne\nsecond \x1b[31mline\n" + "x" * 10_000 + "\nlast", fd=2)
    .write(TEXT_HEAD),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("response")
    modules: dict[str, str | bytes] = {
        **{f"{name}.wat": printing(output) for name, output in OUTPUTS.items()},
        **{f"{name}.wat": program.wat() for name, program in ENDINGS.items()},
    }
    manifest = manifest_of(modules, "[defaults]\ntimeout = 2\n")
    with serving(folder, manifest, "--log-dir", "logs", modules=modules) as running:
        yield running


def error_page(server: Server, path: str, status: int) -> Response:
    """Check the error page: short, plain text, with the request id that the log has."""
    response = server.get(path)
    assert response.status == status
    assert response.header("Content-Type") == "text/plain; charset=utf-8"
    assert len(response.body) < 300
    request_id = response.header("X-Request-Id")
    assert request_id
    assert request_id in response.text
    assert request_id in server.wait_for_log(rf"\[{request_id}\]")
    return response


@pytest.mark.parametrize(
    "name",
    ["lf", "crlf", "crcrlf", "mixed", "empty-first-line", "empty-first-line-crlf", "indented",
     "last-type", "case"],
)  # fmt: skip
def test_output_is_headers_empty_line_body(server: Server, name: str) -> None:
    """Output is headers, an empty line and a body; lines end in LF, CRLF or CRCRLF.

    Header names are case-insensitive, white space around names and values is trimmed, an empty
    first line is skipped, the last of several Content-Type lines counts, and the body is unchanged.
    """
    response = server.get(f"/{name}")
    assert response.status == (201 if name == "case" else 200)
    assert response.all("Content-Type") == ["text/plain"]
    assert response.header("X-A") == (None if name == "case" else "1")
    assert response.body == BODY.encode()
    assert response.header("Content-Length") == str(len(BODY))


def test_required_headers(server: Server) -> None:
    """Without Content-Type, Location and Status: 500; the log names what is missing."""
    for name in ("wrong-headers", "no-headers"):
        response = error_page(server, f"/{name}", 500)
        assert "Content-Type, Location and Status" in response.text
        assert "secret" not in response.text


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("status-number", 404),
        ("status-text", 404),
        ("status-599", 599),
        ("status-latin-1", 404),
        ("status-nul", 404),
        ("status-no-space", 404),
        ("status-last", 404),
        ("status-line", 404),
        ("status-line-only", 404),
        ("status-line-and-status", 404),
    ],
)
def test_status(server: Server, name: str, status: int) -> None:
    """The number of a Status counts; a first line such as HTTP/1.1 404 counts as a Status."""
    response = server.get(f"/{name}")
    assert response.status == status
    assert response.header("Status") is None
    assert response.text == ("" if name == "status-599" else "body")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("status-word", "Status is not a number from 200 to 599: found 'fine'"),
        ("status-empty", "Status is not a number from 200 to 599: found ''"),
        ("status-600", "Status is not a number from 200 to 599: found '600'"),
        ("status-4040", "Status is not a number from 200 to 599: found '4040'"),
        ("status-99", "Status is not a number from 200 to 599: found '99'"),
        ("status-100", "Status is not a number from 200 to 599: found '100'"),
        ("status-line-100", "Status is not a number from 200 to 599: found '100 Continue'"),
        ("location-nul", "Location header has a control character (0x00): found '/secret"),
        ("location-cr", "Location header has a control character (0x0d): found '/x"),
        ("type-bell", "Content-Type header has a control character (0x07): found 'text/"),
    ],
)
def test_invalid_control_headers(server: Server, name: str, reason: str) -> None:
    """502, with the reason in the log: a failed redirect must not become a 200."""
    response = error_page(server, f"/{name}", 502)
    assert "secret" not in response.text
    assert response.header("Set-Cookie") is None
    assert response.header("Location") is None
    server.wait_for_log(f"route /{name}, .*answered 502: .*{re.escape(reason)}")


@pytest.mark.parametrize(
    ("name", "status", "location"),
    [
        ("redirect", 302, "https://example.com/%20?a=b#c"),
        ("redirect-latin-1", 302, "/caf\xe9"),
        ("redirect-utf-8", 302, "/caf\xc3\xa9"),
        ("redirect-last", 302, "/b"),
        ("redirect-status-line", 303, "/x"),
        ("redirect-status-after", 301, "/x"),
        ("redirect-status-before", 307, "relative"),
    ],
)
def test_location(server: Server, name: str, status: int, location: str) -> None:
    """A Location has the status 302 unless there is a Status; its value is unchanged.

    The client decodes the value as ISO-8859-1.
    """
    response = server.get(f"/{name}")
    assert (response.status, response.all("Location")) == (status, [location])


def test_values_with_bytes_above_127(server: Server) -> None:
    """Header values may contain bytes above 127 (obs-text), which are passed on unchanged."""
    request = b"GET /obs-text HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    head = server.raw(request).partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert head[0] == b"HTTP/1.1 200 OK"
    assert b"X-A: \x80 caf\xe9 \xff" in head
    assert b"X-B: \xc3\xa9" in head


def test_an_indented_line_is_a_separate_header(server: Server) -> None:
    """CGI has no continuation lines: no folded line reaches the client."""
    request = b"GET /folded HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    head, _, body = server.raw(request).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert b"X-A: 1" in lines
    assert b"X-B: 3" in lines
    assert not any(line.startswith((b" ", b"\t")) for line in lines)
    assert body == b"body"
    server.wait_for_log("route /folded, .*dropped header '2': the line has no colon")


def test_repeated_headers_are_kept(server: Server) -> None:
    """Every other header is passed on; repeated headers (Set-Cookie) are all kept."""
    assert server.get("/cookies").all("Set-Cookie") == ["a=1", "b=2"]
    assert server.get("/lf").header("X-A") == "1"


def test_hop_by_hop_headers_are_dropped(server: Server) -> None:
    """Hop-by-hop headers are dropped."""
    response = server.get("/hop-by-hop")
    assert response.body == b"body"
    assert response.header("X-Kept") == "1"
    for name in ("Keep-Alive", "Transfer-Encoding", "Upgrade", "TE", "Trailer"):
        assert response.header(name) is None
    assert response.header("Connection") is None
    assert response.header("Proxy-Authenticate") is None


def test_forbidden_headers_are_dropped(server: Server) -> None:
    """A header that HTTP forbids is dropped with a warning; it never splits the response."""
    response = server.get("/forbidden")
    assert response.body == b"body"
    assert response.header("X-Kept") == "1"
    assert response.header("Set-Cookie") is None
    assert response.header("X-Bell") is None
    assert response.header("X-Cr") is None
    server.wait_for_log("route /forbidden, .*dropped header 'X-Cr': the value has a control")


def test_content_length(server: Server) -> None:
    """Longer output is truncated, with a warning; an invalid Content-Length is dropped.

    Several equal ones count as one; different ones are all dropped.
    """
    assert server.get("/true-length").body == b"body"
    response = server.get("/long")
    assert (response.header("Content-Length"), response.body) == ("2", b"bo")
    server.wait_for_log("route /long, .*output beyond the Content-Length was cut")
    assert server.get("/long-later").body == b"som"
    for name in ("bad-length", "equal-lengths", "two-lengths"):
        response = server.get(f"/{name}")
        assert (response.all("Content-Length"), response.body) == (["4"], b"body")
    for name in ("bad-length", "two-lengths"):
        server.wait_for_log(f"route /{name}, .*dropped header 'Content-Length': expected one")


@pytest.mark.parametrize("name", ["short", "short-later"])
def test_short_output_aborts_the_connection(server: Server, name: str) -> None:
    """If the output is shorter than its Content-Length, the connection is aborted."""
    answer = server.raw(b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % name.encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"Content-Length: {10 if name == 'short' else 9}".encode() in head
    assert len(body) < 9
    server.wait_for_log(f"route /{name}, .*before its Content-Length")


@pytest.mark.parametrize("name", ["lf", "head-later", "redirect"])
def test_head_has_no_body(server: Server, name: str) -> None:
    """A response to HEAD has the headers of GET and no body."""
    request = b"HEAD /%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % name.encode()
    answer = server.raw(request)
    assert answer.endswith(b"\r\n\r\n")
    assert answer.count(b"\r\n\r\n") == 1
    if name == "lf":
        assert f"Content-Length: {len(BODY)}".encode() in answer


@pytest.mark.parametrize(("name", "status"), [("no-content", 204), ("not-modified", 304)])
def test_no_body_for_204_and_304(server: Server, name: str, status: int) -> None:
    """204 and 304 have no body; the connection stays usable."""
    request = b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % name.encode()
    last = b"GET /lf HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    first, _, rest = server.raw(request + last).partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 %d " % status)
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("name", ["reset-content", "reset-content-length", "reset-later"])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_no_body_for_205(server: Server, name: str, method: bytes) -> None:
    """205 has no body and a Content-Length of 0 (RFC 9110 §15.3.6); the connection stays usable."""
    request = method + b" /%s HTTP/1.1\r\nHost: a\r\n\r\n" % name.encode()
    last = b"GET /lf HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    first, _, rest = server.raw(request + last).partition(b"\r\n\r\n")
    head = first.lower() + b"\r\n"
    assert head.startswith(b"http/1.1 205 reset content\r\n")
    assert head.count(b"content-length:") == 1
    assert b"\r\ncontent-length: 0\r\n" in head
    assert b"\r\ntransfer-encoding:" not in head
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nothing", "printed nothing"),
        ("no-blank", "no empty line"),
        ("too-large", "header block is too large"),
    ],
)
def test_no_header_block(server: Server, name: str, reason: str) -> None:
    """No output, or no empty line within header_limit: 500, with the reason in the log."""
    response = error_page(server, f"/{name}", 500)
    assert "aaaa" not in response.text
    server.wait_for_log(f"route /{name}, module {name}.wat: answered 500: .*{reason}")


def test_exit_0_is_success(server: Server) -> None:
    """A run is successful if _start returns or calls proc_exit(0)."""
    response = server.get("/exit-0")
    assert (response.status, response.text) == (200, "done")


def test_other_exit_with_header_block(server: Server) -> None:
    """After proc_exit(n), a complete response is delivered, and the status is logged."""
    response = server.get("/exit-3")
    assert (response.status, response.text) == (200, "done")
    server.wait_for_log("WARNING .*route /exit-3, module exit-3.wat: .*exited with status 3")
    assert error_page(server, "/exit-3-no-head", 500)


@pytest.mark.parametrize("name", ["trap", "trap-silent"])
def test_trap_before_the_headers_were_sent(server: Server, name: str) -> None:
    """After a trap before the head was sent: 500; the log has module, route and backtrace."""
    response = error_page(server, f"/{name}", 500)
    assert "done" not in response.text
    assert "main" not in response.text
    log = server.wait_for_log(f"route /{name}, module {name}.wat: answered 500: trap: ")
    assert "\n    main" in log
    assert "unreachable" in log


def test_trap_after_the_headers_were_sent(server: Server) -> None:
    """After a trap, the connection is aborted if the head has been sent."""
    answer = server.raw(b"GET /trap-later HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"some" in answer
    assert not answer.endswith(b"0\r\n\r\n")
    server.wait_for_log("route /trap-later, .*trap: .*unreachable.*, after the headers were sent")


def test_trap_after_the_headers_is_a_reset_for_http_1_0(server: Server) -> None:
    """If the connection's end is the response's end, only a reset signals the failure."""
    with server.connect() as connection:
        connection.sendall(b"GET /trap-later HTTP/1.0\r\n\r\n")
        connection.settimeout(5)
        server.wait_for_log(
            "route /trap-later, .*trap: .*unreachable.*, after the headers were sent"
        )
        pieces = bytearray()
        with pytest.raises(ConnectionResetError):
            pieces += b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("name", ["spin", "sleep-forever"])
def test_timeout_before_the_headers(server: Server, name: str) -> None:
    """After a timeout before the head was sent: 504."""
    error_page(server, f"/{name}", 504)
    server.wait_for_log(f"route /{name}, .*exceeded its time limit of 2 s")


def test_timeout_after_the_headers(server: Server) -> None:
    """After a timeout, the connection is aborted if the head has been sent."""
    answer = server.raw(b"GET /spin-later HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"some" in answer
    assert not answer.endswith(b"0\r\n\r\n")


def test_memory_limit(tmp_path: Path) -> None:
    """At memory_limit, an allocation fails as on a machine that is out of memory."""
    module = compiled(HANDLERS / "memory.c").read_bytes()
    manifest = "".join(
        f'[[module]]\nroute = "/{limit}"\nmodule = "memory.wasm"\nmemory_limit = "{limit}"\n'
        for limit in ("32MiB", "1GiB")
    )
    with serving(tmp_path, manifest, modules={"memory.wasm": module}) as server:
        small, large = (int(server.get(f"/{limit}").text) for limit in ("32MiB", "1GiB"))
    assert 4 < small < 32
    assert 256 < large < 1024


def test_stderr(server: Server) -> None:
    """stderr is written to LOG_DIR/<SHA-256 of the route>/module.stderr and to the log."""
    assert server.get("/stderr").status == 200
    log = server.wait_for_log(r"stderr of /stderr .*: last")
    assert "stderr of /stderr [" in log
    assert "first line" in log
    assert "second \\x1b[31mline" in log
    assert max(map(len, log.splitlines())) < 9_000
    folder = Path(f"/proc/{server.process.pid}/cwd").resolve() / "logs"
    file = folder / hashlib.sha256(b"/stderr").hexdigest() / "module.stderr"
    lines = file.read_bytes().split(b"\n")
    assert lines[:2] == [b"first line", b"second \x1b[31mline"]
    assert len(lines[2]) == 8192
    assert lines[3:] == [b"last", b""]
