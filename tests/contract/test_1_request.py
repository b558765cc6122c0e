"""Contract §1: request → guest. Each test names the promise it holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import ROOT, Response, Server, run_wagi, serving, write_files
from tests.support.toolchains import HANDLERS, compiled
from tests.support.wat import ARGV, HELLO, TEXT_HEAD, Program

ENVIRONMENT = (ROOT / "examples/wat/environment.wat").read_text()
ECHO = (ROOT / "examples/wat/echo.wat").read_text()
COUNTER = (
    Program()
    .write(TEXT_HEAD)
    .code(
        # A global in memory that a run finds at zero, however often there was one before.
        """(i32.store8 (i32.const 40) (i32.add (i32.load8_u (i32.const 40)) (i32.const 49)))
       (call $write (i32.const 1) (i32.const 40) (i32.const 1))"""
    )
)

MANIFEST = """
default_host = "fallback.example:8123"
[[module]]
route = "/env/..."
module = "environment.wat"
environment = {OWN = "module", SHARED = "module", SERVER_NAME = "evil", HTTP_ACCEPT = "evil"}
[[module]]
route = "/exact"
module = "environment.wat"
[[module]]
route = "/echo"
module = "echo.wat"
[[module]]
route = "/argv/..."
module = "argv.wat"
[[module]]
route = "/template"
module = "argv.wat"
argv = "ruby index.rb ${SCRIPT_NAME} ${ARGS}"
[[module]]
route = "/joined"
module = "argv.wat"
argv = "one-${ARGS}-word ${SCRIPT_NAME}x"
[[module]]
route = "/counter"
module = "counter.wat"
[[module]]
route = "/start"
module = "entrypoints.wat"
entrypoint = "other"
[[module]]
route = "/..."
module = "environment.wat"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("request")
    (folder / "first.env").write_text("SHARED=file\nFROM_FILE='quoted value'\n# comment\nTWICE=1\n")
    (folder / "second.env").write_text("TWICE=2\n")
    with serving(
        folder,
        MANIFEST,
        *("--env-file", "first.env", "--env-file", "second.env"),
        *("-e", "SHARED=option", "--env", "FROM_OPTION='quoted'", "-e", "EMPTY="),
        modules={
            "environment.wat": ENVIRONMENT,
            "echo.wat": ECHO,
            "argv.wat": ARGV,
            "counter.wat": COUNTER.wat(),
            "entrypoints.wat": Program().write(TEXT_HEAD + "the other one").wat("other"),
        },
        environment={"HOST_SECRET": "do not show"},
    ) as running:
        yield running


def test_every_request_gets_a_fresh_instance(server: Server) -> None:
    """No state survives from one request to the next."""
    assert [server.get("/counter").text for _ in range(3)] == ["1", "1", "1"]


def test_stdin_is_the_body(server: Server) -> None:
    """stdin is the request body."""
    body = bytes(range(256)) * 1000
    assert server.post("/echo", body).body == body


def test_stdin_is_the_body_without_its_transfer_coding(server: Server) -> None:
    """stdin is the request body, after transfer-coding is removed; CONTENT_LENGTH is true."""
    request = (
        b"POST /%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    )
    assert server.raw(request % b"echo").endswith(b"\r\n\r\nhello world")
    assert b"\nCONTENT_LENGTH=11\n" in server.raw(request % b"env")


def test_stdin_is_not_decompressed(server: Server) -> None:
    """A content-coding is the handler's: the bytes come as CONTENT_LENGTH counts them."""
    response = server.post("/echo", b"not gzip at all", headers=[("Content-Encoding", "gzip")])
    assert response.body == b"not gzip at all"


def test_no_body_is_the_end_of_file(server: Server) -> None:
    """No body: stdin is empty (end of file at once)."""
    assert server.get("/echo").body == b""
    assert server.post("/echo", b"").body == b""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/argv", ["/argv"]),
        ("/argv/below", ["/argv"]),
        ("/argv?", ["/argv"]),
        ("/argv?a=1&b=2", ["/argv", "a=1", "b=2"]),
        ("/argv?a%20b&&c+d", ["/argv", "a%20b", "", "c+d"]),
        ("/template?a=1&b=2", ["ruby", "index.rb", "/template", "a=1", "b=2"]),
        ("/template", ["ruby", "index.rb", "/template"]),
        ("/template?${SCRIPT_NAME}", ["ruby", "index.rb", "/template", "${SCRIPT_NAME}"]),
        ("/joined?a&b", ["one-a b-word", "/joinedx"]),
    ],
)
def test_argv(server: Server, path: str, expected: list[str]) -> None:
    """argv: SCRIPT_NAME and the query's items; a template is split before it is filled."""
    assert server.get(path).text.split("\n")[:-1] == expected


def env(server: Server, path: str, *headers: tuple[str, str]) -> dict[str, str]:
    response: Response = server.get(path, headers=headers)
    assert response.status == 200, response
    return response.variables


def test_variables_are_all_there(server: Server) -> None:
    """Environment: always all of these, empty string where there is no value."""
    found = env(server, "/exact", ("Host", "example.com:81"))
    for name in (
        *("GATEWAY_INTERFACE", "SERVER_SOFTWARE", "SERVER_PROTOCOL", "SERVER_NAME", "SERVER_PORT"),
        *("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "X_RAW_PATH_INFO", "PATH_TRANSLATED"),
        *("QUERY_STRING", "X_MATCHED_ROUTE", "X_FULL_URL", "CONTENT_LENGTH", "CONTENT_TYPE"),
        *("REMOTE_ADDR", "REMOTE_HOST", "REMOTE_USER", "AUTH_TYPE"),
    ):
        assert name in found
    assert found["GATEWAY_INTERFACE"] == "CGI/1.1"
    assert found["SERVER_SOFTWARE"] == "WAGI/1"
    assert found["REQUEST_METHOD"] == "GET"
    assert found["REMOTE_USER"] == found["AUTH_TYPE"] == found["CONTENT_TYPE"] == ""
    assert found["CONTENT_LENGTH"] == "0"
    assert found["QUERY_STRING"] == ""


def test_server_protocol_is_as_spoken(server: Server) -> None:
    """SERVER_PROTOCOL: as the client spoke it."""
    assert env(server, "/exact")["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert b"\nSERVER_PROTOCOL=HTTP/1.0\n" in server.raw(b"GET /exact HTTP/1.0\r\n\r\n")


@pytest.mark.parametrize(
    ("host", "name", "port"),
    [
        ("example.com:81", "example.com", "81"),
        ("example.com", "example.com", "8123"),
        ("[::1]:3000", "[::1]", "3000"),
        ("[2001:db8::1]", "[2001:db8::1]", "8123"),
    ],
)
def test_server_name_and_port(server: Server, host: str, name: str, port: str) -> None:
    """SERVER_NAME, SERVER_PORT: from the Host header, what it lacks from the default host."""
    found = env(server, "/exact", ("Host", host))
    assert (found["SERVER_NAME"], found["SERVER_PORT"]) == (name, port)


def test_server_name_without_host_header(server: Server) -> None:
    """SERVER_NAME, SERVER_PORT: without a Host header both come from the default host."""
    answer = server.raw(b"GET /exact HTTP/1.0\r\n\r\n")
    assert b"\nSERVER_NAME=fallback.example\n" in answer
    assert b"\nSERVER_PORT=8123\n" in answer


def test_default_host_is_localhost(tmp_path: Path) -> None:
    """The default host is localhost:3000 unless configured; --hostname goes before the file."""
    modules = {"environment.wat": ENVIRONMENT}
    manifest = '[[module]]\nroute = "/"\nmodule = "environment.wat"\n'
    with serving(tmp_path, manifest, modules=modules) as plain:
        assert b"\nX_FULL_URL=http://localhost:3000/\n" in plain.raw(b"GET / HTTP/1.0\r\n\r\n")
    manifest = f'default_host = "file.example:1"\n{manifest}'
    with serving(tmp_path, manifest, "--hostname", "option.example") as named:
        answer = named.raw(b"GET / HTTP/1.0\r\n\r\n")
        # The default host has no port: the listening socket's is the last resort.
        assert b"\nX_FULL_URL=http://option.example:%d/\n" % named.port in answer


@pytest.mark.parametrize(
    ("path", "script_name", "path_info", "raw"),
    [
        ("/env", "/env", "", ""),
        ("/env/", "/env", "/", "/"),
        ("/env/a/b", "/env", "/a/b", "/a/b"),
        ("/env/a%20b%2Fc+d", "/env", "/a b/c+d", "/a%20b%2Fc+d"),
        ("/env/a%2520b", "/env", "/a%20b", "/a%2520b"),
        ("/env/%C3%A9", "/env", "/é", "/%C3%A9"),
        ("/exact", "/exact", "", ""),
        ("/", "/", "/", "/"),
        ("/other", "/", "/other", "/other"),
    ],
)
def test_path_variables(
    server: Server, path: str, script_name: str, path_info: str, raw: str
) -> None:
    """SCRIPT_NAME, PATH_INFO (decoded once, + stays +), X_RAW_PATH_INFO, PATH_TRANSLATED."""
    found = env(server, path)
    assert found["SCRIPT_NAME"] == script_name
    assert found["PATH_INFO"] == found["PATH_TRANSLATED"] == path_info
    assert found["X_RAW_PATH_INFO"] == raw


def test_query_string_is_as_sent(server: Server) -> None:
    """QUERY_STRING: as sent, not decoded, without ?."""
    assert env(server, "/exact?a=%20b&c=?d")["QUERY_STRING"] == "a=%20b&c=?d"


def test_matched_route(server: Server) -> None:
    """X_MATCHED_ROUTE: the route as configured, /... included."""
    assert env(server, "/env/a")["X_MATCHED_ROUTE"] == "/env/..."
    assert env(server, "/exact")["X_MATCHED_ROUTE"] == "/exact"


def test_full_url(server: Server) -> None:
    """X_FULL_URL: scheme://host:port/path?query."""
    found = env(server, "/env/a%20b?x=1", ("Host", "example.com:81"))
    assert found["X_FULL_URL"] == "http://example.com:81/env/a%20b?x=1"
    assert env(server, "/exact", ("Host", "[::1]"))["X_FULL_URL"] == "http://[::1]:8123/exact"


def test_absolute_form_names_the_host(server: Server) -> None:
    """RFC 9112 §3.2.2: with a target in absolute form its host counts, not the Host header."""
    answer = server.raw(b"GET http://real.example/exact?q HTTP/1.0\r\nHost: other\r\n\r\n")
    assert b"\nX_FULL_URL=http://real.example:8123/exact?q\n" in answer


def test_content_variables(server: Server) -> None:
    """CONTENT_LENGTH, CONTENT_TYPE: the body's, and not repeated as HTTP_* variables."""
    response = server.post("/exact", b"12345", headers=[("Content-Type", "text/x; charset=y")])
    found = response.variables
    assert found["CONTENT_LENGTH"] == "5"
    assert found["CONTENT_TYPE"] == "text/x; charset=y"
    assert "HTTP_CONTENT_TYPE" not in found
    assert "HTTP_CONTENT_LENGTH" not in found


def test_remote_address(server: Server) -> None:
    """REMOTE_ADDR, REMOTE_HOST: the client's IP address (both)."""
    found = env(server, "/exact")
    assert found["REMOTE_ADDR"] == found["REMOTE_HOST"] == "127.0.0.1"


def test_header_variables(server: Server) -> None:
    """HTTP_*: every other request header."""
    found = env(server, "/exact", ("X-Custom-Header", "v"), ("user-agent", "ua"))
    assert found["HTTP_X_CUSTOM_HEADER"] == "v"
    assert found["HTTP_USER_AGENT"] == "ua"
    assert found["HTTP_HOST"] == f"127.0.0.1:{server.port}"


def test_hidden_headers(server: Server) -> None:
    """Authorization, Connection and Proxy never reach the guest; nor names with an underscore."""
    found = env(
        server,
        "/exact",
        ("Authorization", "Basic c2VjcmV0"),
        ("Connection", "keep-alive"),
        ("Proxy", "http://evil"),
        ("X_Real_IP", "1.2.3.4"),
    )
    text = "\n".join(f"{k}={v}" for k, v in found.items())
    for secret in ("c2VjcmV0", "HTTP_CONNECTION", "HTTP_PROXY", "evil", "1.2.3.4"):
        assert secret not in text


def test_repeated_headers(server: Server) -> None:
    """A repeated header is joined with ", " in arrival order, Cookie with "; "."""
    found = env(server, "/exact", ("X-A", "1"), ("Cookie", "a=1"), ("x-a", "2"), ("Cookie", "b=2"))
    assert found["HTTP_X_A"] == "1, 2"
    assert found["HTTP_COOKIE"] == "a=1; b=2"


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /env/%00 HTTP/1.1",
        b"GET /env/%ff HTTP/1.1",
        b"GET /env/%c3%28 HTTP/1.1",
        b"GET /env/\xff. HTTP/1.1",
        b"GET /env?\xff HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
    ],
)
def test_uncarriable_path(server: Server, request_line: bytes) -> None:
    """A path that WASI cannot carry (NUL, not UTF-8 after decoding) is answered with 400."""
    answer = server.raw(request_line + b"\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert re.match(rb"HTTP/1\.[01] 400 ", answer)
    assert b"aiohttp" not in answer


def test_uncarriable_header(server: Server) -> None:
    """A header value that is not UTF-8 is answered with 400."""
    answer = server.raw(b"GET /exact HTTP/1.1\r\nHost: a\r\nX: \xff\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_configured_variables(server: Server) -> None:
    """--env-file < --env < a module's own environment table."""
    found = env(server, "/env")
    assert found["SHARED"] == found["OWN"] == "module"
    assert found["FROM_FILE"] == "quoted value"
    assert found["FROM_OPTION"] == "quoted"
    assert found["TWICE"] == "2"
    assert found["EMPTY"] == ""
    assert env(server, "/exact")["SHARED"] == "option"


def test_configured_variables_replace_no_cgi_variable(server: Server) -> None:
    """None of them can replace a CGI variable."""
    found = env(server, "/env", ("Accept", "text/html"), ("Host", "true.example"))
    assert found["SERVER_NAME"] == "true.example"
    assert found["HTTP_ACCEPT"] == "text/html"


def test_host_environment_is_invisible(server: Server) -> None:
    """The host's environment is never visible."""
    assert "do not show" not in server.get("/exact").text
    assert "PATH" not in env(server, "/exact")


def test_files(tmp_path: Path) -> None:
    """Files: nothing but volumes; .. and symbolic links that leave the volume fail in the guest."""
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume/given.txt").write_text("given by the host")
    (tmp_path / "outside.txt").write_text("secret")
    (tmp_path / "volume/link.txt").symlink_to("../outside.txt")
    manifest = """
    [[module]]
    route = "/with"
    module = "files.wasm"
    volumes = {"/data" = "volume"}
    [[module]]
    route = "/without"
    module = "files.wasm"
    """
    module = compiled(HANDLERS / "files.c").read_bytes()
    with serving(tmp_path, manifest, modules={"files.wasm": module}) as server:
        lines = dict(line.split(": ", 1) for line in server.get("/with").text.splitlines())
        assert lines["/data/new.txt"] == "written by the guest"
        assert lines["/data/given.txt"] == "given by the host"
        assert lines["size"] == str(len("given by the host"))
        assert lines["after seek"] == "by the host"
        without = server.get("/without").text
    assert (tmp_path / "volume/new.txt").read_text() == "written by the guest"
    for denied in ("/data/../outside.txt", "/data/link.txt", "/etc/passwd"):
        assert "secret" not in lines[denied]
        assert "root:" not in lines[denied]
    assert "given by" not in without


def test_missing_volume_is_a_start_up_error(tmp_path: Path) -> None:
    """A volume whose host path is missing is a start-up error."""
    write_files(tmp_path, {"hello.wat": HELLO})
    (tmp_path / "modules.toml").write_text(
        '[[module]]\nroute = "/"\nmodule = "hello.wat"\nvolumes = {"/data" = "nowhere"}\n'
    )
    done = run_wagi(tmp_path, "serve")
    assert done.returncode == 2
    assert "modules.toml:4: volumes: " in done.stderr
    assert "nowhere" in done.stderr


def test_entrypoint(server: Server) -> None:
    """Entrypoint: _start unless entrypoint = "name"."""
    assert server.get("/start").text == "the other one"


def test_missing_entrypoint_is_a_start_up_error(tmp_path: Path) -> None:
    """A missing export is a start-up error naming the module and its exports."""
    write_files(tmp_path, {"hello.wat": HELLO})
    (tmp_path / "modules.toml").write_text(
        '[[module]]\nroute = "/"\nmodule = "hello.wat"\nentrypoint = "handle"\n'
    )
    done = run_wagi(tmp_path, "serve")
    assert done.returncode == 2
    assert "modules.toml:4: entrypoint: hello.wat: " in done.stderr
    assert "'handle' is not exported; it exports: _start, memory" in done.stderr


@pytest.mark.parametrize(
    "host", [b"a b", b"a/b", b"a@b", b"\xff", b"h\xc3\xa9", b"[::g]", b"a:99999"]
)
def test_bad_host(server: Server, host: bytes) -> None:
    """A Host that is none, or two of them: 400 (RFC 9112 §3.2)."""
    answer = server.raw(b"GET /exact HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")
    assert re.match(rb"HTTP/1\.[01] 400 ", answer)


def test_two_hosts(server: Server) -> None:
    """RFC 9112 §3.2: more than one Host header is 400."""
    answer = server.raw(b"GET /exact HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    assert re.match(rb"HTTP/1\.[01] 400 ", answer)
