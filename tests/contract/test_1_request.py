"""Contract, "Request": each docstring states what docs/contract.md promises."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import (
    ROOT,
    Response,
    Server,
    read_all,
    run_wagi,
    serving,
    write_files,
)
from tests.support.tls import certificate_of
from tests.support.toolchains import HANDLERS, compiled
from tests.support.wat import ARGV, HELLO, TEXT_HEAD, Program

ENVIRONMENT = (ROOT / "examples/wat/environment.wat").read_text()
ECHO = (ROOT / "examples/wat/echo.wat").read_text()
COUNTER = (
    Program()
    .write(TEXT_HEAD)
    .code(
        # A counter in memory, which is zero at the start of every run.
        """(i32.store8 (i32.const 40) (i32.add (i32.load8_u (i32.const 40)) (i32.const 49)))
       (call $write (i32.const 1) (i32.const 40) (i32.const 1))"""
    )
)

MANIFEST = """
default_host = "fallback.example:8123"
[[module]]
route = "/env/..."
module = "environment.wat"
[module.environment]
OWN = "module"
SHARED = "module"
SERVER_NAME = "evil"
HTTP_ACCEPT = "evil"
HTTPS = "on"
REQUEST_SCHEME = "https"
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
route = "/below/..."
module = "argv.wat"
argv = "${SCRIPT_NAME} ${ARGS}"
[[module]]
route = "/login"
module = "environment.wat"
pass_authorization = true
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
    """The transfer coding of the body is removed; CONTENT_LENGTH is the actual length."""
    request = (
        b"POST /%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    )
    assert server.raw(request % b"echo").endswith(b"\r\n\r\nhello world")
    assert b"\nCONTENT_LENGTH=11\n" in server.raw(request % b"env")


def test_stdin_is_not_decompressed(server: Server) -> None:
    """Content codings are left to the handler: the bytes are passed on as sent."""
    response = server.post("/echo", b"not gzip at all", headers=[("Content-Encoding", "gzip")])
    assert response.body == b"not gzip at all"


def test_stdin_is_empty_without_a_body(server: Server) -> None:
    """Without a body, stdin is at end of file immediately."""
    assert server.get("/echo").body == b""
    assert server.post("/echo", b"").body == b""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/argv", ["/argv"]),
        ("/argv/below", ["/argv/below"]),
        ("/argv/%20a+b/?c", ["/argv/%20a+b/", "c"]),
        ("/argv?", ["/argv"]),
        ("/argv?a=1&b=2", ["/argv", "a=1", "b=2"]),
        ("/argv?a%20b&&c+d", ["/argv", "a%20b", "", "c+d"]),
        ("/template?a=1&b=2", ["ruby", "index.rb", "/template", "a=1", "b=2"]),
        ("/template", ["ruby", "index.rb", "/template"]),
        ("/template?${SCRIPT_NAME}", ["ruby", "index.rb", "/template", "${SCRIPT_NAME}"]),
        ("/joined?a&b", ["one-a b-word", "/joinedx"]),
        ("/below/a%20b?c", ["/below/a%20b", "c"]),
        ("/below/${ARGS}?c", ["/below/${ARGS}", "c"]),
    ],
)
def test_argv(server: Server, path: str, expected: list[str]) -> None:
    """argv is the path as sent and the query's items; a template is split, then substituted."""
    assert server.get(path).text.split("\n")[:-1] == expected


def env(server: Server, path: str, *headers: tuple[str, str]) -> dict[str, str]:
    response: Response = server.get(path, headers=headers)
    assert response.status == 200, response
    return response.variables


def test_all_variables_are_set(server: Server) -> None:
    """These variables are always set, possibly to an empty string."""
    found = env(server, "/exact", ("Host", "example.com:81"))
    for name in (
        *("GATEWAY_INTERFACE", "SERVER_SOFTWARE", "SERVER_PROTOCOL", "SERVER_NAME", "SERVER_PORT"),
        *("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "X_RAW_PATH_INFO", "PATH_TRANSLATED"),
        *("QUERY_STRING", "X_MATCHED_ROUTE", "X_FULL_URL", "CONTENT_LENGTH", "CONTENT_TYPE"),
        *("REMOTE_ADDR", "REMOTE_HOST", "REMOTE_USER", "AUTH_TYPE", "REQUEST_URI"),
        *("REQUEST_SCHEME", "REMOTE_PORT", "SERVER_ADDR"),
    ):
        assert name in found
    assert found["GATEWAY_INTERFACE"] == "CGI/1.1"
    assert found["SERVER_SOFTWARE"] == "WAGI/1"
    assert found["REQUEST_METHOD"] == "GET"
    assert found["REMOTE_USER"] == found["AUTH_TYPE"] == found["CONTENT_TYPE"] == ""
    assert found["CONTENT_LENGTH"] == "0"
    assert found["QUERY_STRING"] == ""


def test_server_protocol(server: Server) -> None:
    """SERVER_PROTOCOL: as used by the client."""
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
    """SERVER_NAME, SERVER_PORT: from the Host header, completed from the default host."""
    found = env(server, "/exact", ("Host", host))
    assert (found["SERVER_NAME"], found["SERVER_PORT"]) == (name, port)


def test_server_name_without_host_header(server: Server) -> None:
    """SERVER_NAME, SERVER_PORT: from the default host if there is no Host header."""
    answer = server.raw(b"GET /exact HTTP/1.0\r\n\r\n")
    assert b"\nSERVER_NAME=fallback.example\n" in answer
    assert b"\nSERVER_PORT=8123\n" in answer


ONE_ROUTE = '[[module]]\nroute = "/"\nmodule = "environment.wat"\n'


def test_without_a_default_host(tmp_path: Path) -> None:
    """SERVER_NAME, SERVER_PORT: the scheme's port; without a Host, the listening socket."""
    with serving(tmp_path, ONE_ROUTE, modules={"environment.wat": ENVIRONMENT}) as plain:
        found = env(plain, "/", ("Host", "example.com"))
        assert (found["SERVER_NAME"], found["SERVER_PORT"]) == ("example.com", "80")
        assert found["X_FULL_URL"] == "http://example.com/"
        found = env(plain, "/", ("Host", "[::1]"))
        assert (found["SERVER_NAME"], found["SERVER_PORT"]) == ("[::1]", "80")
        assert found["X_FULL_URL"] == "http://[::1]/"
        for request in (b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.0\r\nHost:\r\n\r\n"):
            answer = plain.raw(request)
            assert b"\nX_FULL_URL=http://127.0.0.1:%d/\n" % plain.port in answer


def test_hostname_overrides_the_file(tmp_path: Path) -> None:
    """--hostname overrides default_host; without a port, it has the scheme's default port."""
    manifest = f'default_host = "file.example:1"\n{ONE_ROUTE}'
    options = ("--hostname", "option.example")
    modules = {"environment.wat": ENVIRONMENT}
    with serving(tmp_path, manifest, *options, modules=modules) as named:
        assert b"\nX_FULL_URL=http://option.example/\n" in named.raw(b"GET / HTTP/1.0\r\n\r\n")
        assert env(named, "/", ("Host", "a.example"))["X_FULL_URL"] == "http://a.example/"


@pytest.mark.parametrize(
    ("headers", "url"),
    [
        ((("X-Forwarded-Proto", "https"),), "https://a.example/"),
        ((("X-Forwarded-Proto", "http"),), "http://a.example/"),
        ((), "http://a.example/"),
        ((("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "b.example")), "https://b.example/"),
        ((("X-Forwarded-Host", "b.example:8443"),), "http://b.example:8443/"),
        ((("Forwarded", "proto=https;host=b.example"),), "https://b.example/"),
    ],
)
def test_the_scheme_behind_a_proxy(
    proxied: Server, headers: tuple[tuple[str, str], ...], url: str
) -> None:
    """REQUEST_SCHEME, HTTPS: as used by the client; the default port is that of the scheme."""
    found = env(proxied, "/", ("Host", "a.example"), *headers)
    scheme = url.partition(":")[0]
    assert found["X_FULL_URL"] == url
    assert found["REQUEST_SCHEME"] == scheme
    assert found.get("HTTPS") == ("on" if scheme == "https" else None)


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("proxied")
    options = ("--trusted-proxy", "127.0.0.1")
    with serving(folder, ONE_ROUTE, *options, modules={"environment.wat": ENVIRONMENT}) as running:
        yield running


def test_scheme_over_tls(tmp_path: Path) -> None:
    """REQUEST_SCHEME, HTTPS: with TLS, the scheme is https and the default port 443."""
    certificate, key = certificate_of(tmp_path / "tls")
    options = ("--tls-cert", str(certificate), "--tls-key", str(key))
    with serving(tmp_path, ONE_ROUTE, *options, modules={"environment.wat": ENVIRONMENT}) as server:
        server.tls = ssl.create_default_context(cafile=certificate)
        found = env(server, "/", ("Host", "example.com"))
    assert (found["REQUEST_SCHEME"], found["HTTPS"]) == ("https", "on")
    assert (found["SERVER_NAME"], found["SERVER_PORT"]) == ("example.com", "443")
    assert found["X_FULL_URL"] == "https://example.com/"


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
    """X_MATCHED_ROUTE: the route as configured, with /... ."""
    assert env(server, "/env/a")["X_MATCHED_ROUTE"] == "/env/..."
    assert env(server, "/exact")["X_MATCHED_ROUTE"] == "/exact"


def test_full_url(server: Server) -> None:
    """X_FULL_URL: scheme://host:port/path?query."""
    found = env(server, "/env/a%20b?x=1", ("Host", "example.com:81"))
    assert found["X_FULL_URL"] == "http://example.com:81/env/a%20b?x=1"
    assert env(server, "/exact", ("Host", "[::1]"))["X_FULL_URL"] == "http://[::1]:8123/exact"
    for host in ("example.com:80", "[::1]:80"):
        found = env(server, "/exact", ("Host", host))
        assert found["SERVER_PORT"] == "80"
        assert found["X_FULL_URL"] == f"http://{host.removesuffix(':80')}/exact"


@pytest.mark.parametrize("target", ["/env/a%20b?x=1", "/exact", "/exact?", "/env//%2f/"])
def test_request_uri(server: Server, target: str) -> None:
    """REQUEST_URI: path and query as sent."""
    assert env(server, target)["REQUEST_URI"] == target


def test_request_uri_of_an_absolute_target(server: Server) -> None:
    """REQUEST_URI: only path and query, even of a target in absolute form."""
    answer = server.raw(b"GET http://real.example/exact?q HTTP/1.0\r\n\r\n")
    assert b"\nREQUEST_URI=/exact?q\n" in answer


def test_absolute_form_overrides_the_host_header(server: Server) -> None:
    """RFC 9112 §3.2.2: the host of a target in absolute form overrides the Host header."""
    answer = server.raw(b"GET http://real.example/exact?q HTTP/1.0\r\nHost: other\r\n\r\n")
    assert b"\nX_FULL_URL=http://real.example:8123/exact?q\n" in answer


def test_content_variables(server: Server) -> None:
    """CONTENT_LENGTH, CONTENT_TYPE: of the body; they also exist as HTTP_* variables."""
    response = server.post("/exact", b"12345", headers=[("Content-Type", "text/x; charset=y")])
    found = response.variables
    assert found["CONTENT_LENGTH"] == "5"
    assert found["CONTENT_TYPE"] == "text/x; charset=y"
    assert found["HTTP_CONTENT_LENGTH"] == "5"
    assert found["HTTP_CONTENT_TYPE"] == "text/x; charset=y"
    found = env(server, "/exact")
    assert "HTTP_CONTENT_TYPE" not in found
    assert "HTTP_CONTENT_LENGTH" not in found


def test_content_length_of_a_chunked_body(server: Server) -> None:
    """CONTENT_LENGTH: the length of the body, even if the client sent no such header."""
    answer = server.raw(
        b"POST /exact HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: a/b\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    )
    assert b"\nCONTENT_LENGTH=5\n" in answer
    assert b"\nHTTP_CONTENT_TYPE=a/b\n" in answer
    assert b"HTTP_CONTENT_LENGTH" not in answer
    assert b"HTTP_TRANSFER_ENCODING" not in answer


def test_remote_address(server: Server) -> None:
    """REMOTE_ADDR, REMOTE_HOST: the client's IP address (both)."""
    found = env(server, "/exact")
    assert found["REMOTE_ADDR"] == found["REMOTE_HOST"] == "127.0.0.1"


def test_connection_addresses(server: Server) -> None:
    """REMOTE_PORT, SERVER_ADDR: the client's port, the local address."""
    with server.connect() as connection:
        connection.sendall(b"GET /exact HTTP/1.0\r\n\r\n")
        answer = read_all(connection)
        port = connection.getsockname()[1]
    assert b"\nREMOTE_PORT=%d\n" % port in answer
    assert b"\nSERVER_ADDR=127.0.0.1\n" in answer


@pytest.mark.parametrize("client", ["192.0.2.7", "127.0.0.1"])
def test_remote_port_behind_a_proxy(proxied: Server, client: str) -> None:
    """REMOTE_PORT: empty if unknown, as behind a proxy."""
    found = env(proxied, "/", ("X-Forwarded-For", client))
    assert (found["REMOTE_ADDR"], found["REMOTE_PORT"]) == (client, "")
    assert found["SERVER_ADDR"] == "127.0.0.1"
    found = env(proxied, "/")
    assert found["REMOTE_ADDR"] == "127.0.0.1"
    assert int(found["REMOTE_PORT"]) > 0


def test_connection_addresses_of_a_unix_socket(tmp_path: Path) -> None:
    """REMOTE_PORT, SERVER_ADDR: empty for a unix socket."""
    modules = {"environment.wat": ENVIRONMENT}
    path = tmp_path / "wagi.sock"
    with (
        serving(tmp_path, ONE_ROUTE, modules=modules, listen=f"unix:{path}"),
        socket.socket(socket.AF_UNIX) as connection,
    ):
        connection.settimeout(30)
        connection.connect(str(path))
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = read_all(connection)
    for line in (b"REMOTE_ADDR=", b"REMOTE_PORT=", b"SERVER_ADDR=", b"SERVER_PORT=80"):
        assert b"\n%s\n" % line in answer
    assert b"\nX_FULL_URL=http://localhost/\n" in answer


def test_header_variables(server: Server) -> None:
    """HTTP_*: every request header."""
    found = env(server, "/exact", ("X-Custom-Header", "v"), ("user-agent", "ua"))
    assert found["HTTP_X_CUSTOM_HEADER"] == "v"
    assert found["HTTP_USER_AGENT"] == "ua"
    assert found["HTTP_HOST"] == f"127.0.0.1:{server.port}"


def test_hidden_headers(server: Server) -> None:
    """Some headers, and all names with an underscore, never reach the guest."""
    found = env(
        server,
        "/exact",
        ("Authorization", "Basic c2VjcmV0"),
        ("Proxy-Authorization", "Basic c2VjcmV0"),
        ("Connection", "keep-alive"),
        ("Proxy", "http://evil"),
        ("X_Real_IP", "1.2.3.4"),
    )
    text = "\n".join(f"{k}={v}" for k, v in found.items())
    for secret in ("c2VjcmV0", "HTTP_CONNECTION", "HTTP_PROXY", "evil", "1.2.3.4"):
        assert secret not in text


def test_pass_authorization(server: Server) -> None:
    """pass_authorization = true passes on Authorization, but not Proxy-Authorization."""
    headers = (("Authorization", "Bearer token"), ("Proxy-Authorization", "Basic c2VjcmV0"))
    found = env(server, "/login", *headers)
    assert found["HTTP_AUTHORIZATION"] == "Bearer token"
    assert "c2VjcmV0" not in str(found)
    assert "HTTP_AUTHORIZATION" not in env(server, "/login")


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
def test_a_path_that_wasi_cannot_represent(server: Server, request_line: bytes) -> None:
    """A path that WASI cannot represent (NUL, not UTF-8 after decoding) results in 400."""
    answer = server.raw(request_line + b"\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert re.match(rb"HTTP/1\.[01] 400 ", answer)
    assert b"aiohttp" not in answer


def test_header_that_is_not_utf_8(server: Server) -> None:
    """A header value that is not UTF-8 is read as ISO-8859-1 and passed on as UTF-8."""
    answer = server.raw(
        b"GET /exact HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        b"X-Latin: caf\xe9\r\nX-Utf: caf\xc3\xa9\r\nX-Both: \xe9\r\nX-Both: \xc3\xa9\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 200 ")
    for line in ("HTTP_X_LATIN=café", "HTTP_X_UTF=café", "HTTP_X_BOTH=é, é"):
        assert f"\n{line}\n".encode() in answer


def test_header_with_a_nul_byte(server: Server) -> None:
    """A variable cannot contain a NUL byte: 400."""
    answer = server.raw(b"GET /exact HTTP/1.1\r\nHost: a\r\nX: \0\r\nConnection: close\r\n\r\n")
    assert re.match(rb"HTTP/1\.[01] 400 ", answer)


def test_configured_variables(server: Server) -> None:
    """Precedence, lowest first: --env-file, --env, the entry's environment table."""
    found = env(server, "/env")
    assert found["SHARED"] == found["OWN"] == "module"
    assert found["FROM_FILE"] == "quoted value"
    assert found["FROM_OPTION"] == "quoted"
    assert found["TWICE"] == "2"
    assert found["EMPTY"] == ""
    assert env(server, "/exact")["SHARED"] == "option"


def test_configured_variables_cannot_override_cgi_variables(server: Server) -> None:
    """No configured variable can override a CGI variable."""
    found = env(server, "/env", ("Accept", "text/html"), ("Host", "true.example"))
    assert found["SERVER_NAME"] == "true.example"
    assert found["HTTP_ACCEPT"] == "text/html"
    assert found["REQUEST_SCHEME"] == "http"
    assert "HTTPS" not in found


def test_host_environment_is_invisible(server: Server) -> None:
    """The host's environment is never visible."""
    assert "do not show" not in server.get("/exact").text
    assert "PATH" not in env(server, "/exact")


def test_files(tmp_path: Path) -> None:
    """Only volumes are visible; .. and symbolic links that leave a volume are errors."""
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


def test_missing_volume_is_a_startup_error(tmp_path: Path) -> None:
    """A volume whose host path is missing is an error at startup."""
    write_files(tmp_path, {"hello.wat": HELLO})
    (tmp_path / "modules.toml").write_text(
        '[[module]]\nroute = "/"\nmodule = "hello.wat"\nvolumes = {"/data" = "nowhere"}\n'
    )
    done = run_wagi(tmp_path, "serve")
    assert done.returncode == 2
    assert "modules.toml:4: volumes: " in done.stderr
    assert "nowhere" in done.stderr


def test_entrypoint(server: Server) -> None:
    """The entry point is _start, or the function that entrypoint names."""
    assert server.get("/start").text == "the other one"


def test_missing_entrypoint_is_a_startup_error(tmp_path: Path) -> None:
    """A missing function is an error at startup that names the module and its exports."""
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
    """An invalid Host results in 400 (RFC 9112 §3.2)."""
    answer = server.raw(b"GET /exact HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")
    assert re.match(rb"HTTP/1\.[01] 400 ", answer)


def test_two_hosts(server: Server) -> None:
    """More than one Host header results in 400 (RFC 9112 §3.2)."""
    answer = server.raw(b"GET /exact HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    assert re.match(rb"HTTP/1\.[01] 400 ", answer)
