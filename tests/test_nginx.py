"""Behind a real nginx: the seed case, and the example configuration."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.nginx import example_site, nginx
from tests.support.server import ROOT, Server, serving
from tests.support.streaming import assert_streamed
from tests.support.toolchains import HANDLERS, compiled, tool
from tests.support.wat import TEXT_HEAD, Program

SEED_VARIABLES = (
    *("HTTP_ACCEPT", "QUERY_STRING", "SERVER_PROTOCOL", "GATEWAY_INTERFACE", "REQUEST_METHOD"),
    *("SERVER_PORT", "REMOTE_ADDR", "X_FULL_URL", "X_RAW_PATH_INFO", "CONTENT_TYPE"),
    *("SERVER_NAME", "SCRIPT_NAME", "AUTH_TYPE", "PATH_TRANSLATED", "PATH_INFO"),
    *("CONTENT_LENGTH", "X_MATCHED_ROUTE", "REMOTE_HOST", "REMOTE_USER", "SERVER_SOFTWARE"),
    *("HTTP_HOST", "HTTP_USER_AGENT"),
)


def curl(*arguments: str) -> tuple[str, str]:
    """Run curl; return the head and body that it received."""
    done = subprocess.run(
        [tool("curl"), "-sSki", "--noproxy", "*", *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    head, _, body = done.stdout.partition("\n\n")
    return head, body


def test_seed_case(tmp_path: Path) -> None:
    """A Rust program behind nginx with default proxy settings, requested by curl."""
    module = compiled(HANDLERS / "seed.rs").read_bytes()
    manifest = '[[module]]\nroute = "/"\nmodule = "seed.wasm"\n'
    with serving(tmp_path, manifest, modules={"seed.wasm": module}) as server:
        site = (
            f"server {{ listen 80; location / {{ proxy_pass http://127.0.0.1:{server.port}; }} }}"
        )
        with nginx(tmp_path / "nginx", site) as port:
            head, body = curl(f"http://127.0.0.1:{port}/")
    assert head.startswith("HTTP/1.1 200 OK\n")
    assert "\nContent-Type: text/plain\n" in head
    greeting, *lines = body.splitlines()
    assert greeting == "Hello, world!"
    variables = dict(line.split(": ", 1) for line in lines)
    assert sorted(set(SEED_VARIABLES) - set(variables)) == []
    # Newer versions of nginx, such as 1.30, use HTTP/1.1 by default.
    assert variables["SERVER_PROTOCOL"] in ("HTTP/1.0", "HTTP/1.1")
    assert variables["SERVER_SOFTWARE"] == "WAGI/1"
    assert variables["GATEWAY_INTERFACE"] == "CGI/1.1"
    assert variables["REMOTE_ADDR"] == "127.0.0.1"
    assert variables["HTTP_HOST"] == f"127.0.0.1:{server.port}"
    assert variables["X_FULL_URL"] == f"http://127.0.0.1:{server.port}/"
    assert variables["SCRIPT_NAME"] == variables["X_MATCHED_ROUTE"] == "/"
    assert variables["HTTP_USER_AGENT"].startswith("curl/")


MODULES: dict[str, str | bytes] = {
    "environment.wat": (ROOT / "examples/wat/environment.wat").read_text(),
    "echo.wat": (ROOT / "examples/wat/echo.wat").read_text(),
    "trap.wat": Program().trap().wat(),
    "trap-later.wat": Program().write(TEXT_HEAD + "some").sleep(100).trap().wat(),
    "events.wat": Program().write(TEXT_HEAD + "one\n").sleep(500).write("two\n").wat(),
}
MANIFEST = "".join(
    f'[[module]]\nroute = "/{name.removesuffix(".wat")}/..."\nmodule = "{name}"\n'
    for name in MODULES
)


def test_example_configuration(tmp_path: Path) -> None:
    """The example: over a unix socket, with keep-alive, the address and host of the client."""
    path = tmp_path / "wagi.sock"
    site, port = example_site(tmp_path, f"unix:{path}")
    options = ("--trusted-proxy", "unix")
    with (
        serving(tmp_path, MANIFEST, *options, modules=MODULES, listen=f"unix:{path}") as server,
        nginx(tmp_path / "nginx", site) as plain_port,
    ):
        url = f"https://127.0.0.1:{port}"
        head, _ = curl(f"http://127.0.0.1:{plain_port}/a?b=c")
        assert head.startswith("HTTP/1.1 301 ")
        assert "\nLocation: https://127.0.0.1/a?b=c" in head
        _, body = curl(
            *("-H", "X-Forwarded-For: 6.6.6.6", "-H", "X-Forwarded-Host: evil"),
            *("-H", "Forwarded: for=6.6.6.6", f"{url}/environment/a%20b?c=d"),
        )
        found = dict(line.split("=", 1) for line in body.splitlines())
        assert found["REMOTE_ADDR"] == found["REMOTE_HOST"] == "127.0.0.1"
        assert found["X_FULL_URL"] == f"{url}/environment/a%20b?c=d"
        assert found["HTTPS"] == "on"
        assert found["SERVER_PROTOCOL"] == "HTTP/1.1"
        assert found["PATH_INFO"] == "/a b"
        assert "HTTP_CONNECTION" not in found
        check_errors(server, url)
        check_streaming(port)
        big = tmp_path / "big"
        big.write_bytes(bytes(range(256)) * 20_000)
        done = subprocess.run(
            [tool("curl"), "-sSk", "--data-binary", f"@{big}", f"{url}/echo"],
            capture_output=True,
            check=True,
        )
        assert done.stdout == big.read_bytes()


def check_errors(server: Server, url: str) -> None:
    """The request id of nginx is in the error page and in the log."""
    head, body = curl(f"{url}/trap")
    assert head.startswith("HTTP/1.1 500 ")
    request_id = body.rpartition("Request id: ")[2].strip()
    assert len(request_id) == 32
    assert f"X-Request-Id: {request_id}" in head
    server.wait_for_log(rf"\[{request_id}\].*trap")
    done = subprocess.run(
        [tool("curl"), "-sSk", f"{url}/trap-later"], capture_output=True, text=True, check=False
    )
    assert done.returncode in (18, 56), "curl did not detect that the response is truncated"


def check_streaming(port: int) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as connection,
        context.wrap_socket(connection) as client,
    ):
        client.sendall(b"GET /events HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert_streamed(client)


CONTROL_HEADERS = {
    "X-Accel-Redirect": "/internal/secret",
    "X-Accel-Expires": "3600",
    "X-Accel-Buffering": "yes",
    "X-Accel-Limit-Rate": "100",
    "X-Accel-Charset": "koi8-r",
    "X-Sendfile": "/etc/passwd",
    "X-Sendfile2": "/etc/passwd 0-",
    "X-LIGHTTPD-send-file": "/etc/passwd",
    "X-LIGHTTPD-send-tempfile": "/etc/passwd",
}
"""Headers with which a response controls some proxy."""
CONTROL_BODY = "from the handler\n" * 1000
INTERNAL = """
    charset_types text/plain;
    location /internal/ { internal; return 200 "a secret"; }
    location / {"""


def test_handlers_cannot_control_nginx(tmp_path: Path) -> None:
    """deploy/proxies/nginx.conf ignores such headers and hides them; the gateway passes them on."""
    with serving_control_headers(tmp_path) as (path, server_url):
        head, body = curl("--unix-socket", str(path), server_url)
        for name, value in CONTROL_HEADERS.items():
            assert f"\n{name}: {value}\n" in head
        site, port = site_with_internal_location(tmp_path, path)
        with nginx(tmp_path / "nginx", site):
            head, body = curl(f"https://127.0.0.1:{port}/orders")
            refused, _ = curl(f"https://127.0.0.1:{port}/internal/secret")
    assert head.startswith("HTTP/1.1 200 ")
    assert body == CONTROL_BODY
    for name in CONTROL_HEADERS:
        assert name.lower() not in head.lower()
    assert "\nContent-Type: text/plain\n" in head
    assert refused.startswith("HTTP/1.1 404 ")


@pytest.mark.parametrize("directive", ["proxy_ignore_headers", "proxy_hide_header"])
def test_nginx_needs_both_directives(tmp_path: Path, directive: str) -> None:
    """Without either of the two directives, the test above would fail."""
    with serving_control_headers(tmp_path) as (path, _):
        site, port = site_with_internal_location(tmp_path, path)
        site = re.sub(rf"\s{directive} [^;]*;", "", site)
        assert directive not in site
        with nginx(tmp_path / "nginx", site):
            head, body = curl(f"https://127.0.0.1:{port}/orders")
    if directive == "proxy_ignore_headers":
        assert body == "a secret"
    else:
        assert body == CONTROL_BODY
        for name in ("X-Sendfile", "X-Sendfile2", "X-LIGHTTPD-send-file"):
            assert f"\n{name}: " in head


def site_with_internal_location(folder: Path, path: Path) -> tuple[str, int]:
    """The example configuration with an additional internal location, and its port."""
    site, port = example_site(folder, f"unix:{path}")
    assert site.count("\n    location / {") == 1
    return site.replace("\n    location / {", INTERNAL), port


@contextmanager
def serving_control_headers(folder: Path) -> Iterator[tuple[Path, str]]:
    """Serve a handler that prints such headers. Yields: the socket and the handler's URL."""
    path = folder / "wagi.sock"
    head = "".join(f"{name}: {value}\n" for name, value in CONTROL_HEADERS.items())
    program = Program().write(head + TEXT_HEAD + CONTROL_BODY).wat()
    manifest = '[[module]]\nroute = "/orders"\nmodule = "orders.wat"\n'
    options = ("--trusted-proxy", "unix")
    modules = {"orders.wat": program}
    with serving(folder, manifest, *options, modules=modules, listen=f"unix:{path}"):
        yield path, "http://localhost/orders"
