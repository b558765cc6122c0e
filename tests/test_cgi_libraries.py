"""The CGI library of each language works behind every kind of route, with and without TLS.

The same application is written for each library. The links and redirects that it generates have to
lead back to it, so its variables have to describe the URL that the client requested.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.support.server import Server, serving
from tests.support.tls import certificate_of
from tests.support.toolchains import HANDLERS, compiled, python_packages, python_wasm

ROOTS = {"/": "", "/exact": "/exact", "/api/...": "/api", "/...": ""}
"""The routes, each with the application's root path behind it."""
WILDCARDS = [route for route in ROOTS if route.endswith("/...")]
FORM = [("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")]


def native(source: str) -> Callable[[], str]:
    return lambda: f'module = "{compiled(HANDLERS / source)}"'


def python(script: str) -> Callable[[], str]:
    """CPython as a WASI program, with its packages and bytecode in a volume."""

    def entry() -> str:
        packages = python_packages(HANDLERS / "requirements.txt")
        return f"""
        module = "{python_wasm()}"
        argv = "python /app/{script}"
        environment = {{PYTHONPATH = "/packages"}}
        volumes = {{"/packages" = "{packages}", "/app" = {{path = "{HANDLERS}", readonly = true}}}}
        """

    return entry


LIBRARIES = {
    "go": native("cgi_library.go"),
    "rust": native("cgi_library.rs"),
    "flask": python("flask_app.py"),
    "bottle": python("bottle_app.py"),
}


class Application(NamedTuple):
    """The application of a library.

    Attributes:
        library: Its name.
        servers: The server of each route; on one server, a route could shadow another one.
    """

    library: str
    servers: dict[str, Server]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            (library, scheme),
            id=f"{library}-{scheme}",
            marks=pytest.mark.xdist_group(f"cgi-{library}-{scheme}"),
        )
        for library in LIBRARIES
        for scheme in ("http", "https")
    ],
)
def application(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Application]:
    library, scheme = request.param
    entry = LIBRARIES[library]()
    folder = tmp_path_factory.mktemp(f"{library}-{scheme}")
    options: tuple[str, ...] = ()
    tls = None
    if scheme == "https":
        certificate, key = certificate_of(folder / "tls")
        options = ("--tls-cert", str(certificate), "--tls-key", str(key))
        tls = ssl.create_default_context(cafile=certificate)
    servers: dict[str, Server] = {}
    with ExitStack() as stack:
        for routes in (["/", "/exact", "/api/..."], ["/..."]):
            manifest = "[defaults]\ntimeout = 120\ncpu_timeout = 0\n"
            manifest += "".join(f'[[module]]\nroute = "{route}"\n{entry}\n' for route in routes)
            server = stack.enter_context(serving(folder, manifest, *options))
            server.tls = tls
            servers |= dict.fromkeys(routes, server)
        yield Application(library, servers)


def target_of(location: str | None, server: Server) -> str:
    """Return the path and query of a redirect, which must be on this server, not //host."""
    assert location is not None
    parts = urlsplit(location)
    if parts.netloc:
        assert f"{parts.scheme}://{parts.netloc}" == server.url
    assert parts.path.startswith("/")
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


@pytest.mark.parametrize("route", ROOTS)
def test_absolute_urls(application: Application, route: str) -> None:
    """The URL of the request and a generated link have the scheme, host and port of the client."""
    server, root = application.servers[route], ROOTS[route]
    for path in (root, f"{root}/") if route in WILDCARDS and root else (root or "/",):
        response = server.get(f"{path}?name=Ann&x=1")
        assert response.status == 200, (response, server.log)
        found = json.loads(response.text)
        assert found["link"] == f"{server.url}{root}/hello"
        if application.library in (
            "flask",
            "bottle",
        ):  # these libraries treat WSGI's path "" as "/"
            path = f"{root}/"
        assert found["url"] == f"{server.url}{path}?name=Ann&x=1"


@pytest.mark.parametrize("route", ROOTS)
def test_forms(application: Application, route: str) -> None:
    """A form is posted to the application."""
    server, root = application.servers[route], ROOTS[route]
    response = server.post(root or "/", b"other=x&name=Ann", headers=FORM)
    assert (response.status, response.text) == (200, "Hello, Ann!"), server.log


@pytest.mark.parametrize("route", WILDCARDS)
def test_redirects(application: Application, route: str) -> None:
    """A redirect within the application leads to the right page."""
    server, root = application.servers[route], ROOTS[route]
    response = server.get(f"{root}/old")
    assert response.status in (302, 303), (response, server.log)
    target = target_of(response.header("Location"), server)
    assert target == f"{root}/hello?name=moved"
    response = server.get(target)
    assert (response.status, response.text) == (200, "Hello, moved!")


@pytest.mark.parametrize("route", WILDCARDS)
def test_a_redirect_that_adds_a_slash(application: Application, route: str) -> None:
    """Go and Flask redirect to the path with a slash at its end if only that one has a page."""
    server, root = application.servers[route], ROOTS[route]
    response = server.get(f"{root}/tree?x=1")
    if application.library not in ("go", "flask"):
        assert response.status == 404
        return
    assert response.status in (301, 307, 308), (response, server.log)
    target = target_of(response.header("Location"), server)
    assert target == f"{root}/tree/?x=1"
    assert server.get(target).text == " of the tree"
    assert server.get(f"{root}/tree/a%20b/c").text == "a b/c of the tree"


@pytest.mark.parametrize("route", WILDCARDS)
def test_a_missing_page(application: Application, route: str) -> None:
    """The application's own 404, not the gateway's: the route is in the access log."""
    server, root = application.servers[route], ROOTS[route]
    assert server.get(f"{root}/missing").status == 404
    server.wait_for_access(rf'"GET {root}/missing HTTP/1.1" .*route="{route}"')
