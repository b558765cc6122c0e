"""Handlers of wasi:http from real toolchains, compared with ``wasmtime serve``."""

from __future__ import annotations

import http.client
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.server import ENVIRONMENT, serving
from tests.support.toolchains import (
    HANDLERS,
    c_component,
    javascript_wasi_http_handler,
    python_wasi_http_handler,
    rust_wasi_http_handler,
    wasmtime_cli,
)
from tests.support.upstream import upstream

pytestmark = pytest.mark.xdist_group("wasi-http-toolchains")

BUILDERS: dict[str, Callable[[], Path]] = {
    "c": lambda: c_component(HANDLERS / "responder.c"),
    "rust": lambda: rust_wasi_http_handler(HANDLERS / "wasi_http_rust"),
    "javascript": lambda: javascript_wasi_http_handler(HANDLERS / "wasi_http_javascript"),
    "python": lambda: python_wasi_http_handler(HANDLERS / "wasi_http_python"),
}
START_TIMEOUT_S = 120.0
BODY = bytes(range(256)) * 1024
_OWN_HEADERS = ("date", "server", "content-length", "transfer-encoding", "connection")
"""Headers of the servers themselves. How the body is delimited depends on the time at which the
handler writes it."""


@dataclass(frozen=True)
class Answer:
    """A response as far as the handler makes it; a broken connection has the status 0."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


@contextmanager
def reference(component: Path) -> Iterator[int]:
    """Serve a component with wasmtime. Yields: The port."""
    command = [str(wasmtime_cli()), "serve", "-Scli", "-Sinherit-network", "--addr", "127.0.0.1:0"]
    process = subprocess.Popen(
        [*command, str(component)], stderr=subprocess.PIPE, env=ENVIRONMENT, text=True
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert found, line
        yield int(found[1])
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


@pytest.fixture(scope="module", params=BUILDERS)
def servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, int, int, int]]:
    """Yield the language, the ports of the gateway and of wasmtime, and that of an upstream."""
    component = BUILDERS[request.param]()
    manifest = f"""
[[module]]
route = "/..."
module = "{component}"
allowed_hosts = ["127.0.0.1"]
"""
    folder = tmp_path_factory.mktemp(f"wasi-http-{request.param}")
    with (
        upstream() as backend,
        reference(component) as port,
        serving(folder, manifest) as server,
    ):
        yield request.param, server.port, port, backend.port


def ask(port: int, method: str, path: str, body: bytes | None, chunked: bool = False) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Host": "example.com:8080", "X-Mixed": "Case", "Authorization": "Basic eDp5"}
    try:
        content: object = body
        if chunked and body is not None:
            content = iter((body[: len(body) // 2], body[len(body) // 2 :]))
        connection.request(method, path, content, headers, encode_chunked=chunked)  # type: ignore[arg-type]
        response = connection.getresponse()
        found = [(name.lower(), value) for name, value in response.getheaders()]
        kept = sorted(item for item in found if item[0] not in _OWN_HEADERS)
        return Answer(response.status, kept, response.read())
    except (http.client.HTTPException, ConnectionError):
        return Answer(0, [], b"")
    finally:
        connection.close()


SAME = {
    "c": [("GET", "/hello", None), ("POST", "/echo", BODY), ("POST", "/echo", b"")],
    "rust": [
        ("GET", "/hello", None),
        ("HEAD", "/hello", None),
        ("POST", "/echo", BODY),
        ("PUT", "/echo", b""),
        ("GET", "/status/404", None),
        ("GET", "/status/204", None),
        ("GET", "/status/304", None),
        ("GET", "/headers", None),
        ("GET", "/large/1000000", None),
        ("GET", "/no-body", None),
        ("GET", "/unfinished", None),
        ("GET", "/length/3", None),
        ("GET", "/length/8", None),
        ("GET", "/length/12", None),
        ("GET", "/header-errors", None),
        ("POST", "/body-errors", b"body"),
        ("GET", "/stream", None),
        ("GET", "/sleep/10", None),
        ("GET", "/nothing", None),
    ],
    "javascript": [
        ("GET", "/hello", None),
        ("POST", "/echo", BODY),
        ("POST", "/json", b'{"name": "Ann"}'),
        ("GET", "/nothing", None),
        ("GET", "/throw", None),
    ],
    "python": [
        ("GET", "/hello?name=Ann", None),
        ("POST", "/echo", BODY),
        ("POST", "/echo", b""),
    ],
}
"""Requests that both servers answer in the same way."""


def test_the_same_as_wasmtime_serve(servers: tuple[str, int, int, int]) -> None:
    language, gateway, wasmtime, _ = servers
    for method, path, body in SAME[language]:
        for chunked in (False, True) if path == "/echo" and body else (False,):
            expected = ask(wasmtime, method, path, body, chunked)
            found = ask(gateway, method, path, body, chunked)
            assert found == expected, (method, path, chunked)


@pytest.mark.parametrize("servers", ["rust", "javascript"], indirect=True)
def test_outbound_requests_are_the_same(servers: tuple[str, int, int, int]) -> None:
    language, gateway, wasmtime, backend = servers
    for method, body in (("GET", None), ("POST", b"x" * 100_000)):
        for path in ("status?code=404", "large?n=100000"):
            target = f"/fetch?127.0.0.1:{backend}/{path}"
            expected = ask(wasmtime, method, target, body)
            assert ask(gateway, method, target, body) == expected, (method, path)
            assert expected.status in (200, 404)
    if language == "rust":
        refused = "/fetch?127.0.0.1:1/"
        assert ask(gateway, "GET", refused, None) == ask(wasmtime, "GET", refused, None)


@pytest.mark.parametrize("servers", ["rust"], indirect=True)
def test_what_a_handler_sees(servers: tuple[str, int, int, int]) -> None:
    """All but fields that only one server passes on: wasmtime withholds Host."""
    _, gateway, wasmtime, _ = servers
    for path in ("/request", "/request?", "/request?a=%20&b", "/request/%41"):
        expected = ask(wasmtime, "PROPFIND", path, b"a").body.decode().splitlines()
        found = ask(gateway, "PROPFIND", path, b"a").body.decode().splitlines()
        assert [line for line in found if not line.startswith("host: ")] == expected
        assert "authorization: Basic eDp5" in found


DIFFERENT = {
    "/no-response": (500, 500),
    "/return": (500, 500),
    "/trap": (500, 500),
    "/error": (502, 500),
    "/status/100": (502, 500),
    "/status/700": (502, 700),
}
"""The statuses of the gateway and of wasmtime for errors of the handler."""


@pytest.mark.parametrize("servers", ["rust"], indirect=True)
def test_errors_of_the_handler(servers: tuple[str, int, int, int]) -> None:
    _, gateway, wasmtime, _ = servers
    found = {
        path: (ask(gateway, "GET", path, None).status, ask(wasmtime, "GET", path, None).status)
        for path in DIFFERENT
    }
    assert found == DIFFERENT


@pytest.mark.parametrize("servers", ["python"], indirect=True)
def test_exceptions_of_the_handler(servers: tuple[str, int, int, int]) -> None:
    _, gateway, wasmtime, _ = servers
    for path in ("/nothing", "/throw"):
        assert ask(gateway, "GET", path, None).status == 500
        assert ask(wasmtime, "GET", path, None).status == 500


@pytest.mark.parametrize("servers", ["rust"], indirect=True)
def test_a_response_that_breaks_off(servers: tuple[str, int, int, int]) -> None:
    """With wasmtime, the client waits for the rest of the response."""
    _, gateway, _, _ = servers
    connection = http.client.HTTPConnection("127.0.0.1", gateway, timeout=60)
    connection.request("GET", "/trap-later")
    response = connection.getresponse()
    with pytest.raises(http.client.IncompleteRead):
        response.read()
    connection.close()


@pytest.mark.parametrize("servers", ["rust", "javascript", "python"], indirect=True)
def test_sleeping_handlers(servers: tuple[str, int, int, int]) -> None:
    language, gateway, _, _ = servers
    path = "/sleep/300" if language == "rust" else "/sleep"
    started = time.monotonic()
    assert ask(gateway, "GET", path, None).body == b"slept\n"
    assert time.monotonic() - started > 0.29
