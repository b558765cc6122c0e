"""Handlers compiled by TinyGo: each feature that docs/languages.md promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.programs import wasmtime_command
from tests.support.component_runs import VARIABLES, run_here, run_in_wasmtime
from tests.support.server import Server, serving
from tests.support.toolchains import HANDLERS, tinygo

pytestmark = pytest.mark.xdist_group("tinygo")

ROUTES = ("/", "/exact", "/many/...", "/deep/er/...", "/...")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("tinygo")
    (folder / "data").mkdir()
    modules = {
        "features.wasm": tinygo(HANDLERS / "tinygo.go").read_bytes(),
        "component.wasm": tinygo(HANDLERS / "tinygo.go", target="wasip2").read_bytes(),
        "reactor.wasm": tinygo(HANDLERS / "tinygo_reactor.go", "-buildmode=c-shared").read_bytes(),
    }
    entries = [
        '[[module]]\nroute = "/entry"\nmodule = "reactor.wasm"\nentrypoint = "greet"\n',
        '[[module]]\nroute = "/dynamic/..."\nmodule = "reactor.wasm"\nentrypoint = "many"\n',
    ]
    modules_of_routes = {"/component/...": "component", **dict.fromkeys(ROUTES, "features")}
    entries += [
        f'[[module]]\nroute = "{route}"\nmodule = "{module}.wasm"\n'
        'volumes = {"/data" = "data"}\nenvironment = {GREETING = "hi"}\n'
        for route, module in modules_of_routes.items()
    ]
    with serving(folder, "".join(entries), modules=modules) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "route", "script", "rest"),
    [
        ("/", "/", "/", ""),
        ("/exact", "/exact", "/exact", ""),
        ("/many", "/many/...", "/many", ""),
        ("/many/x/environment", "/many/...", "/many", "/x/environment"),
        ("/deep/er/environment", "/deep/er/...", "/deep/er", "/environment"),
        ("/other/environment", "/...", "/", "/other/environment"),
    ],
)
def test_every_shape_of_route(
    server: Server, path: str, route: str, script: str, rest: str
) -> None:
    response = server.get(path)
    assert response.status == 200
    found = response.variables
    assert found["X_MATCHED_ROUTE"] == route
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == (script, rest)


def test_entry_points_and_dynamic_routes(server: Server) -> None:
    """A reactor (-buildmode=c-shared) exports functions; its runtime starts in _initialize."""
    assert server.get("/entry?Ann").text == "Hello, Ann!\n"
    assert server.get("/dynamic/greet?Ann").text == "Hello, Ann!\n"
    assert server.get("/dynamic/many/x").text == "many /x\n"
    assert server.get("/dynamic/other").text == "many /other\n"


@pytest.mark.parametrize("prefix", ["", "/many", "/deep/er", "/component"])
class TestFeatures:
    """Each feature, behind routes of several shapes, and in a component for WASI preview 2."""

    def test_environment(self, server: Server, prefix: str) -> None:
        found = server.get(f"{prefix}/environment?a=1").variables
        assert (found["GREETING"], found["QUERY_STRING"]) == ("hi", "a=1")
        assert found["PATH_INFO"] == "/environment"

    def test_arguments(self, server: Server, prefix: str) -> None:
        assert server.get(f"{prefix}/arguments?a=1&b").text == f"{prefix}/arguments a=1 b\n"

    def test_a_body(self, server: Server, prefix: str) -> None:
        body = bytes(range(256)) * 4000
        assert server.post(f"{prefix}/body", body).body == body

    def test_json(self, server: Server, prefix: str) -> None:
        response = server.post(f"{prefix}/json", b'{"item": "tea", "prices": [3, 4]}')
        assert response.header("Content-Type") == "application/json"
        assert response.text == '{"item":"tea","total":7}\n'
        assert server.post(f"{prefix}/json", b"{").status == 400

    def test_a_query(self, server: Server, prefix: str) -> None:
        assert server.get(f"{prefix}/query?name=a%20b&name=c").text == "[a b c]\n"

    def test_a_volume(self, server: Server, prefix: str) -> None:
        first = int(server.get(f"{prefix}/volume").text)
        assert server.get(f"{prefix}/volume").text == f"{first + 1}\n"

    @pytest.mark.parametrize("code", [0, 1, 255])
    def test_exit_codes(self, server: Server, prefix: str, code: int) -> None:
        response = server.get(f"{prefix}/exit?{code}")
        assert (response.status, response.text) == (200, "before the exit\n")

    def test_a_panic(self, server: Server, prefix: str) -> None:
        assert server.get(f"{prefix}/panic").status == 500
        assert server.get(f"{prefix}/query?name=a").text == "[a]\n"

    def test_goroutines(self, server: Server, prefix: str) -> None:
        assert server.get(f"{prefix}/goroutines").text == "55\n"

    def test_a_status(self, server: Server, prefix: str) -> None:
        assert server.get(f"{prefix}/nothing").status == 404


INPUTS = {
    "environment": ("a=1", b""),
    "arguments": ("", b""),
    "body": ("", bytes(range(256)) * 1000),
    "json": ("", b'{"item": "tea", "prices": [3, 4]}'),
    "query": ("name=a%20b&name=c", b""),
    "volume": ("", b""),
    "goroutines": ("", b""),
    "exit": ("3", b""),
    "panic": ("", b""),
}
"""Query string and body for each feature."""


@pytest.mark.parametrize("feature", INPUTS)
def test_a_component_does_what_wasmtime_does(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, feature: str
) -> None:
    query, body = INPUTS[feature]
    wasm = tinygo(HANDLERS / "tinygo.go", target="wasip2")
    wasmtime = wasmtime_command(tmp_path_factory.mktemp("wasmtime"))
    variables = {**VARIABLES, "PATH_INFO": f"/{feature}", "QUERY_STRING": query}
    endings, counts = [], []
    for run in (run_in_wasmtime, run_here):
        volume = tmp_path / run.__name__
        volume.mkdir()
        (volume / "count").write_text("6")
        endings.append(run(wasm, volume, wasmtime, ("first", "a=1"), variables, body))
        counts.append((volume / "count").read_text())
    # os.Environ has a random order.
    assert sorted(endings[0].stdout.splitlines()) == sorted(endings[1].stdout.splitlines())
    assert endings[0].succeeded == endings[1].succeeded == (feature not in ("exit", "panic"))
    assert counts == ["7" if feature == "volume" else "6"] * 2
