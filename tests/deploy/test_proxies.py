"""deploy/proxies: each configuration with its real proxy in front of a real server.

The proxies' own checks (nginx -t, caddy validate, haproxy -c, apache2 -t) run before each start.
Traefik is in no package registry that the tests use: its files are only checked for references
that lead nowhere, and for the headers that they have to set. Names and types of its keys, and its
behavior, are not tested.
"""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.support.proxies import BODY_LIMIT, HOST, PROXIES, Ports, proxy
from tests.support.server import ROOT, Server, serving
from tests.support.streaming import assert_streamed
from tests.support.toolchains import tool
from tests.support.wat import TEXT_HEAD, Program

CLIENT = "127.0.0.2"
"""The address that clients connect from; the proxy connects to the server from 127.0.0.1."""
CONTROL_HEADERS = (
    *("X-Accel-Redirect", "X-Accel-Expires", "X-Accel-Buffering", "X-Accel-Limit-Rate"),
    *("X-Accel-Charset", "X-Sendfile", "X-Sendfile2", "X-LIGHTTPD-send-file"),
    "X-LIGHTTPD-send-tempfile",
)
"""Headers with which a response controls some proxy."""
CONTROL = "".join(f"{name}: /etc/passwd\n" for name in CONTROL_HEADERS)
READ_ALL = "(loop $l (br_if $l (call $read)))"
MODULES: dict[str, str | bytes] = {
    "environment.wat": (ROOT / "examples/wat/environment.wat").read_text(),
    "echo.wat": (ROOT / "examples/wat/echo.wat").read_text(),
    "trap.wat": Program().trap().wat(),
    "events.wat": Program().write(TEXT_HEAD + "one\n").sleep(500).write("two\n").wat(),
    "upload.wat": Program()
    .code("(drop (call $read))")
    .write("the upload has begun\n", fd=2)
    .code(READ_ALL)
    .write(TEXT_HEAD + "received\n")
    .wat(),
    "control.wat": Program().write(CONTROL + TEXT_HEAD + "text\n").wat(),
    "control-404.wat": Program().write(f"Status: 404\n{CONTROL}{TEXT_HEAD}text\n").wat(),
}
MANIFEST = "".join(
    f'[[module]]\nroute = "/{name.removesuffix(".wat")}/..."\nmodule = "{name}"\n'
    for name in MODULES
)


@dataclass(frozen=True)
class Site:
    """A proxy in front of a server."""

    server: Server
    ports: Ports

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.ports.https}"

    def curl(self, path: str, *options: str) -> tuple[str, str]:
        """Send a request over HTTPS. Returns: the head and the body of the response."""
        return self._curl(self.url + path, *options)

    def plain_curl(self, path: str) -> tuple[str, str]:
        """Send a request over HTTP."""
        return self._curl(f"http://{HOST}:{self.ports.http}{path}")

    def _curl(self, url: str, *options: str) -> tuple[str, str]:
        command = [
            *(tool("curl"), "-sSki", "--http1.1", "--noproxy", "*", "--interface", CLIENT),
            *("--connect-to", f"{HOST}::127.0.0.1:", "--max-time", "60", *options, url),
        ]
        done = subprocess.run(command, capture_output=True, check=True, timeout=120)
        head, _, body = done.stdout.decode("latin-1").partition("\r\n\r\n")
        while head.startswith("HTTP/1.1 100"):
            head, _, body = body.partition("\r\n\r\n")
        return head, body

    def variables(self, path: str, *headers: str) -> dict[str, str]:
        """The variables that a handler gets for a request with headers."""
        options = [word for header in headers for word in ("-H", header)]
        head, body = self.curl(f"/environment{path}", *options)
        assert head.startswith("HTTP/1.1 200"), head + body
        return dict(line.split("=", 1) for line in body.splitlines())

    def connect(self) -> ssl.SSLSocket:
        """Open a connection with TLS."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        plain = socket.create_connection(("127.0.0.1", self.ports.https), timeout=30)
        return context.wrap_socket(plain, server_hostname=HOST)


def _parameters() -> Iterator[object]:
    for name in ("nginx", "caddy", "haproxy", "apache"):
        for transport in ("unix", "tcp"):
            marks = pytest.mark.xdist_group(f"proxy-{name}-{transport}")
            yield pytest.param((name, transport), id=f"{name}-{transport}", marks=marks)


@pytest.fixture(scope="module", params=_parameters())
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A server with a proxy in front of it, over a unix socket or TCP."""
    name, transport = request.param
    # Not in pytest's folder, which the users of the proxies cannot access.
    folder = Path(tempfile.mkdtemp(prefix="wagi-proxy-"))
    folder.chmod(0o755)
    path = folder / "wagi.sock"
    over_unix = transport == "unix"
    listen = f"unix:{path},mode=0666" if over_unix else "127.0.0.1:0"
    trusted = ("--trusted-proxy", "unix" if over_unix else "127.0.0.1")
    try:
        with serving(folder, MANIFEST, *trusted, modules=MODULES, listen=listen) as server:
            upstream = str(path) if over_unix else f"127.0.0.1:{server.port}"
            with proxy(name, folder, upstream) as ports:
                yield Site(server, ports)
    finally:
        shutil.rmtree(folder)


def test_variables_describe_the_request_of_the_client(site: Site) -> None:
    found = site.variables("/a%20b%2Fc?d=e")
    assert found["REMOTE_ADDR"] == found["REMOTE_HOST"] == CLIENT
    assert found["SERVER_NAME"] == HOST
    assert found["SERVER_PORT"] == str(site.ports.https)
    assert found["HTTP_HOST"] == f"{HOST}:{site.ports.https}"
    assert (found["HTTPS"], found["REQUEST_SCHEME"]) == ("on", "https")
    assert found["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert found["REQUEST_URI"] == "/environment/a%20b%2Fc?d=e"
    assert found["X_FULL_URL"] == f"{site.url}/environment/a%20b%2Fc?d=e"
    assert found["PATH_INFO"] == "/a b/c"


FORGED = (
    *("X-Forwarded-For: 6.6.6.6", "X-Forwarded-Host: forged.example", "X-Forwarded-Proto: http"),
    *("Forwarded: for=6.6.6.6;host=forged.example;proto=http", "X-Request-Id: forged.example"),
)


@pytest.mark.parametrize(
    "headers",
    [
        FORGED,
        tuple(header.replace("-", "_") for header in FORGED),
        (*FORGED, *FORGED),
        (*FORGED, "Connection: close, X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto"),
        (*FORGED, "Connection: close", "connection: x-forwarded-for", "Connection: Forwarded"),
        ("X-Forwarded-For: 127.0.0.1", "X-Forwarded-For: 6.6.6.6, 127.0.0.1", *FORGED[1:]),
        ("Forwarded: for=6.6.6.6;host=forged.example;proto=http", "Connection: X-Forwarded-For"),
    ],
    ids=["headers", "underscores", "twice", "hop-by-hop", "two-lines", "chain", "forwarded-only"],
)
def test_clients_cannot_forge_their_address(site: Site, headers: tuple[str, ...]) -> None:
    found = site.variables("", *headers)
    assert found["REMOTE_ADDR"] == CLIENT
    assert found["X_FULL_URL"] == f"{site.url}/environment"
    assert found["HTTPS"] == "on"
    forged = {name: value for name, value in found.items() if "6.6.6.6" in value}
    forged |= {name: value for name, value in found.items() if "forged" in value}
    assert forged == {}


def test_http_is_redirected(site: Site) -> None:
    head, _ = site.plain_curl("/a?b=c")
    assert head.startswith(("HTTP/1.1 301 ", "HTTP/1.1 308 "))
    assert f"\nlocation: https://{HOST}" in head.lower()
    assert "/a?b=c" in head


def test_responses_are_streamed(site: Site) -> None:
    request = f"GET /events HTTP/1.1\r\nHost: {HOST}:{site.ports.https}\r\nConnection: close\r\n"
    with site.connect() as client:
        client.sendall(f"{request}\r\n".encode())
        assert_streamed(client)


def test_uploads_are_streamed(site: Site) -> None:
    """The handler gets the first part before the client sends the second."""
    half = b"x" * 200_000
    head = f"POST /upload HTTP/1.1\r\nHost: {HOST}:{site.ports.https}\r\nConnection: close\r\n"
    with site.connect() as client:
        client.sendall(f"{head}Content-Length: {2 * len(half)}\r\n\r\n".encode() + half)
        site.server.wait_for_log("the upload has begun", 30)
        client.sendall(half)
        received = b""
        while piece := client.recv(65536):
            received += piece
    assert received.startswith(b"HTTP/1.1 200")
    assert b"received\n" in received


def test_large_bodies(site: Site, tmp_path: Path) -> None:
    """A body below the limit is passed on in both directions; a larger one is rejected."""
    body = tmp_path / "body"
    content = b"0123456789abcdef" * 500_000
    body.write_bytes(content)
    head, echoed = site.curl("/echo", "--data-binary", f"@{body}")
    assert head.startswith("HTTP/1.1 200")
    assert echoed.encode("latin-1") == content
    body.write_bytes(bytes(BODY_LIMIT + 1))
    head, _ = site.curl("/upload", "--data-binary", f"@{body}")
    assert head.startswith("HTTP/1.1 413")


def test_errors_have_the_request_id_of_the_proxy(site: Site) -> None:
    head, body = site.curl("/trap", "-H", "X-Request-Id: forged")
    assert head.startswith("HTTP/1.1 500 ")
    request_id = body.rpartition("Request id: ")[2].strip()
    assert len(request_id) >= 20
    site.server.wait_for_log(rf"\[{request_id}\].*trap")


@pytest.mark.parametrize(("path", "status"), [("/control", 200), ("/control-404", 404)])
def test_handlers_cannot_control_a_proxy(site: Site, path: str, status: int) -> None:
    head, body = site.curl(path)
    assert head.startswith(f"HTTP/1.1 {status} ")
    assert body == "text\n"
    assert [name for name in CONTROL_HEADERS if name.lower() in head.lower()] == []


@pytest.mark.fast
def test_the_references_in_the_files_of_traefik() -> None:
    static = yaml.safe_load((PROXIES / "traefik/traefik.yml").read_text())
    dynamic = yaml.safe_load((PROXIES / "traefik/wagi.yml").read_text())
    assert static["providers"]["file"]["filename"] == "/etc/traefik/wagi.yml"
    points = static["entryPoints"]
    assert points["http"]["http"]["redirections"]["entryPoint"]["to"] in points
    assert not any("forwardedHeaders" in point for point in points.values())
    http = dynamic["http"]
    for router in http["routers"].values():
        assert set(router["entryPoints"]) <= points.keys()
        assert set(router["middlewares"]) <= http["middlewares"].keys()
        assert router["service"] in http["services"]
    for service in http["services"].values():
        assert service["loadBalancer"]["serversTransport"] in http["serversTransports"]
    headers = http["middlewares"]["wagi-headers"]["headers"]
    assert headers["customRequestHeaders"] == {"Forwarded": "", "X-Request-Id": ""}
    assert headers["customResponseHeaders"] == dict.fromkeys(CONTROL_HEADERS, "")


@pytest.mark.fast
@pytest.mark.parametrize("name", ["nginx.conf", "Caddyfile", "haproxy.cfg", "apache.conf"])
def test_each_configuration_shows_the_command_of_the_server(name: str) -> None:
    """For both transports."""
    text = (PROXIES / name).read_text()
    assert "wagi serve --listen unix:/run/wagi/wagi.sock,mode=0660,group=" in text
    assert "--trusted-proxy unix" in text
    assert "with --listen 127.0.0.1:3000 --trusted-proxy 127.0.0.1:" in text
