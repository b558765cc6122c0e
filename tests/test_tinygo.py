"""Handlers compiled by TinyGo: each feature that docs/languages.md promises."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
        "reactor.wasm": tinygo(HANDLERS / "tinygo_reactor.go", "-buildmode=c-shared").read_bytes(),
    }
    entries = [
        '[[module]]\nroute = "/entry"\nmodule = "reactor.wasm"\nentrypoint = "greet"\n',
        '[[module]]\nroute = "/dynamic/..."\nmodule = "reactor.wasm"\nentrypoint = "many"\n',
    ]
    entries += [
        f'[[module]]\nroute = "{route}"\nmodule = "features.wasm"\n'
        'volumes = {"/data" = "data"}\nenvironment = {GREETING = "hi"}\n'
        for route in ROUTES
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


@pytest.mark.parametrize("prefix", ["", "/many", "/deep/er"])
class TestFeatures:
    """Each feature, behind routes of several shapes."""

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
