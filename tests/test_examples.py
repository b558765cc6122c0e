"""The examples build with their toolchains and serve."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.server import ROOT, Server, run_wagi, serving
from tests.support.toolchains import EXAMPLES, compiled, go_module, tinygo


@pytest.fixture(scope="module")
def demo() -> Iterator[Server]:
    """Serve modules.toml of the repository, which a new user runs first."""
    with serving(ROOT) as server:
        yield server


def test_hello(demo: Server) -> None:
    for path in ("/", "/hello"):
        assert demo.get(path).text == "Hello, world!\n"


def test_environment(demo: Server) -> None:
    found = demo.get("/environment/some/path?a=1").variables
    assert found["GREETING"] == "hi"
    assert found["PATH_INFO"] == "/some/path"


def test_large_environment(demo: Server) -> None:
    """The example's memory grows with its environment."""
    headers = [(f"X-{i}", "y" * 4000) for i in range(15)]
    response = demo.get("/environment", headers=headers)
    assert response.text.count("y" * 4000) == 15


def test_echo(demo: Server) -> None:
    assert demo.post("/echo", b"some text").body == b"some text"


def test_redirect(demo: Server) -> None:
    response = demo.get("/redirect")
    assert (response.status, response.header("Location")) == (302, "/hello")


def test_status(demo: Server) -> None:
    response = demo.get("/status")
    assert (response.status, response.text) == (404, "Nothing here.\n")
    assert response.all("Set-Cookie") == ["a=1", "b=2"]


def test_the_demo_has_no_problems() -> None:
    done = run_wagi(ROOT, "check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "modules.toml: 6 routes, no problems\n"


def serve_example(folder: Path, source: str, route: str) -> AbstractContextManager[Server]:
    module = compiled(EXAMPLES / source)
    return serving(folder, f'[[module]]\nroute = "{route}"\nmodule = "{module}"\n')


def test_rust(tmp_path: Path) -> None:
    with serve_example(tmp_path, "rust/environment.rs", "/env/...") as server:
        lines = server.get("/env/x?y").text.splitlines()
    assert lines[0] == "Hello, world!"
    assert "PATH_INFO: /x" in lines


def test_go(tmp_path: Path) -> None:
    """Unmodified net/http/cgi, which ends every run with proc_exit(0)."""
    with serve_example(tmp_path, "go/main.go", "/app/...") as server:
        assert server.get("/app/hello?name=Ann").text == "Hello, Ann!\n"
        body = bytes(range(256)) * 4000
        assert server.post("/app/echo", body).body == body
        redirect = server.get("/app/redirect")
        assert (redirect.status, redirect.header("Location")) == (303, "/app/hello?name=again")
        status = server.get("/app/status")
        assert (status.status, status.all("Set-Cookie")) == (418, ["seen=1"])
        assert server.get("/app/unknown").status == 404


def test_tinygo(tmp_path: Path) -> None:
    module = tinygo(EXAMPLES / "tinygo/main.go")
    with serving(tmp_path, f'[[module]]\nroute = "/tiny"\nmodule = "{module}"\n') as server:
        assert server.get("/tiny?you").text == "Hello, you\n"
        assert server.post("/tiny?you", b"body").text == "Hello, you\nbody"


def test_lua(tmp_path: Path) -> None:
    module = go_module(EXAMPLES / "lua")
    manifest = f"""
    [[module]]
    route = "/..."
    module = "{module}"
    argv = "lua /app/handler.lua"
    volumes = {{"/app" = {{path = "{EXAMPLES / "lua"}", readonly = true}}}}
    """
    with serving(tmp_path, manifest) as server:
        assert server.get("/?name=Ann").text == "Hello, Ann!\n"
        assert server.post("/echo", b"some text").text == "some text"


def test_c(tmp_path: Path) -> None:
    with serve_example(tmp_path, "c/echo.c", "/echo") as server:
        response = server.post("/echo", b"\0\1\2" * 100_000, headers=[("Content-Type", "a/b")])
    assert (response.body, response.header("Content-Type")) == (b"\0\1\2" * 100_000, "a/b")
    with serve_example(tmp_path, "c/hello.c", "/hello") as server:
        assert server.get("/hello").text == "Hello from C!\n"


def test_zig(tmp_path: Path) -> None:
    with serve_example(tmp_path, "zig/status.zig", "/status/...") as server:
        response = server.get("/status/418")
    assert (response.status, response.text) == (418, "This is status 418.\n")


def test_assemblyscript(tmp_path: Path) -> None:
    with serve_example(tmp_path, "assemblyscript/redirect.ts", "/go") as server:
        response = server.get("/go?to=/there")
        assert (response.status, response.header("Location")) == (302, "/there")
        assert server.get("/go?to=//evil.example").status == 400
