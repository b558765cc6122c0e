"""The pytest plugin: fixtures for tests of handlers.

``wagi_client`` sends requests to a gateway in this process, ``wagi_async_client`` does so for
coroutines, and ``wagi_server`` is a real server on a free port. They serve the modules.toml given
by ``--wagi-manifest`` or the ini option ``wagi_manifest``, or the modules given by a marker:

    @pytest.mark.wagi(module="build/hello.wasm", route="/...", environment={"A": "1"})
    def test_hello(wagi_client):
        assert wagi_client.get("/").text == "hello"

The report of a failed test shows, for each response, how the guest ended and its stderr.
"""

from __future__ import annotations

import difflib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from wagi.errors import Problem
    from wagi.testing.client import AsyncClient, Client, Response
    from wagi.testing.local_gateway import LocalGateway

_MARKER = (
    "wagi(manifest=FILE, module=FILE, route='/...', **keys): serve a modules.toml, or a module with"
    " the keys of its entry, in this test; several markers serve several modules"
)
_LOG_TIMEOUT_S = 0.5
_RESPONSES = pytest.StashKey[list["Response"]]()
_SERVER_LOG = pytest.StashKey[tuple[Path, int]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    parser.addini("wagi_manifest", "route map to serve in tests", default="")
    parser.getgroup("wagi").addoption(
        "--wagi-manifest",
        metavar="FILE",
        help="route map to serve in tests (default: modules.toml or spin.toml)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", _MARKER)


class _Gateways:
    """The gateways and servers of a session, each created when it is first used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._local: dict[str, LocalGateway] = {}
        self._servers: dict[str, TestServer] = {}

    def manifest(self, node: pytest.Item) -> str:
        """Return the route map of a test: its text, or its path after ``@``."""
        from wagi.routemap.reader import find_route_map

        markers = list(node.iter_markers("wagi"))
        root = node.config.rootpath
        for marker in markers:
            if "manifest" in marker.kwargs:
                return f"@{root / marker.kwargs['manifest']}"
        if not markers:
            option = node.config.getoption("--wagi-manifest")
            path = find_route_map(root / (option or node.config.getini("wagi_manifest")))
            return f"@{path}"
        return "\n".join(_entry(root, marker) for marker in reversed(markers))

    def _file(self, manifest: str) -> Path:
        if manifest.startswith("@"):
            return Path(manifest[1:])
        path = Path(tempfile.mkdtemp(dir=self._folder)) / "modules.toml"
        path.write_text(manifest, "utf-8")
        return path

    def local(self, node: pytest.Item) -> LocalGateway:
        """Return the gateway in this process that serves the route map of a test."""
        from wagi.config.settings import Settings
        from wagi.errors import WagiError
        from wagi.testing.local_gateway import local_gateway

        manifest = self.manifest(node)
        if manifest not in self._local:
            context = local_gateway(Settings(), self._file(manifest))
            failure = ""
            try:
                self._local[manifest] = self._stack.enter_context(context)
            except WagiError as error:
                failure = error.explain()
            if failure:  # outside of the handler: pytest would print the exception as well
                pytest.fail(failure, pytrace=False)
            _warn(node, self._local[manifest].warnings)
        return self._local[manifest]

    def server(self, node: pytest.Item) -> TestServer:
        """Return the server that serves the route map of a test."""
        from wagi.builds.outdated import outdated_warnings

        manifest = self.manifest(node)
        if manifest not in self._servers:
            file = self._file(manifest)
            server = TestServer(file, self._folder)
            self._stack.callback(server.close)
            self._servers[manifest] = server
            _warn(node, outdated_warnings(file))
        return self._servers[manifest]

    def close(self) -> None:
        """Stop all gateways and servers."""
        self._stack.close()


class WagiWarning(pytest.PytestWarning):
    """A warning about the route map of a test, such as a module that is older than its sources."""


def _warn(node: pytest.Item, warnings: Iterable[Problem]) -> None:
    for warning in warnings:
        node.warn(WagiWarning(str(warning)))


class TestServer:
    """A server process on a free port, started by ``wagi test-server``.

    Attributes:
        url: The URL of the server.
        port: Its port.
        client: A client for it.
        log: The file with its log.
    """

    __test__ = False  # not a test class

    def __init__(self, file: Path, folder: Path) -> None:
        from wagi.testing.client import Client, over_http

        self.log = Path(tempfile.mkdtemp(dir=folder)) / "server.log"
        with self.log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "wagi", "test-server", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            pytest.fail(
                f"the server did not start:\n{self.log.read_text('utf-8', 'replace')}",
                pytrace=False,
            )
        found = json.loads(line)
        self.url, self.port = str(found["url"]), int(found["port"])
        self.client = Client(over_http("127.0.0.1", self.port, timeout=60))

    def close(self) -> None:
        """Stop the server."""
        self._process.terminate()
        self._process.wait()


def _entry(root: Path, marker: pytest.Mark) -> str:
    from wagi.config.text import format_toml
    from wagi.routemap.entries import ModuleEntry

    keys = {"route": "/...", **marker.kwargs}
    if marker.args:
        keys["module"] = marker.args[0]
    known = [*ModuleEntry.model_fields, "manifest"]
    for key in keys:
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(known)}"
            pytest.fail(f"@pytest.mark.wagi: unknown keyword {key!r}: {hint}", pytrace=False)
    if "module" not in keys:
        pytest.fail("@pytest.mark.wagi: expected module= or manifest=", pytrace=False)
    if ":" not in str(keys["module"]):
        keys["module"] = str(root / keys["module"])
    if "volumes" in keys:
        keys["volumes"] = {guest: _volume(root, host) for guest, host in keys["volumes"].items()}
    return "[[module]]\n" + "".join(
        f"{key} = {format_toml(value)}\n" for key, value in keys.items()
    )


def _volume(root: Path, host: Any) -> Any:
    if isinstance(host, dict):
        return {**host, "path": str(root / host["path"])} if "path" in host else host
    return str(root / host)


@pytest.fixture(scope="session")
def _wagi_gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Gateways]:
    gateways = _Gateways(tmp_path_factory.mktemp("wagi"))
    yield gateways
    gateways.close()


@pytest.fixture
def wagi_client(request: pytest.FixtureRequest, _wagi_gateways: _Gateways) -> Client:
    """A client for a gateway in this process."""
    from wagi.testing.client import Client, in_process

    gateway = _wagi_gateways.local(request.node)
    client = Client(in_process(gateway))
    request.node.stash[_RESPONSES] = client.responses
    return client


@pytest.fixture
def wagi_async_client(request: pytest.FixtureRequest, _wagi_gateways: _Gateways) -> AsyncClient:
    """An asynchronous client for a gateway in this process."""
    from wagi.testing.client import AsyncClient

    client = AsyncClient(_wagi_gateways.local(request.node))
    request.node.stash[_RESPONSES] = client.responses
    return client


@pytest.fixture
def wagi_server(request: pytest.FixtureRequest, _wagi_gateways: _Gateways) -> TestServer:
    """A server on a free port, shared by all tests with the same route map."""
    server = _wagi_gateways.server(request.node)
    request.node.stash[_SERVER_LOG] = server.log, server.log.stat().st_size
    return server


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Add the records of the guests to the report of a failed test."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.when != "call" or not report.failed:
        return
    for response in item.stash.get(_RESPONSES, []):
        request = response.request
        title = f"wagi: {request.method} {request.target} → {response.status_code}"
        report.sections.append((title, _describe_guest(response)))
    if _SERVER_LOG in item.stash:
        report.sections.append(("wagi: the server's log", _new_lines(*item.stash[_SERVER_LOG])))


def _new_lines(log: Path, start: int) -> str:
    """Return new lines of a server's log, and wait briefly for the first one."""
    deadline = time.monotonic() + _LOG_TIMEOUT_S
    while log.stat().st_size == start and time.monotonic() < deadline:
        time.sleep(0.01)
    return log.read_bytes()[start:].decode(errors="replace")


def _describe_guest(response: Response) -> str:
    guest = response.exchange.guest if response.exchange else None
    if guest is None:
        return f"no guest ran\n{response.content.decode(errors='replace')}"
    lines = [f"the guest: {guest.end}"]
    if guest.trap:  # the functions that were running are in the captured log
        lines.append(guest.trap.partition("\n")[0])
    lines.append(f"stderr:\n{response.stderr}" if response.stderr else "stderr: nothing")
    if response.status_code >= 500:
        lines.append(f"stdout:\n{guest.stdout.decode(errors='replace')}")
    return "\n".join(lines)
