"""The example of outbound HTTP in each language, against a real server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.server import serving
from tests.support.toolchains import EXAMPLES, assemblyscript, compiled, tinygo
from tests.support.upstream import upstream

pytestmark = pytest.mark.xdist_group("outbound")

HANDLERS: dict[str, Callable[[], Path]] = {
    "rust": lambda: compiled(EXAMPLES / "rust/ask.rs"),
    "c": lambda: compiled(EXAMPLES / "c/ask.c"),
    "go": lambda: compiled(EXAMPLES / "go-outbound/main.go"),
    "tinygo": lambda: tinygo(EXAMPLES / "go-outbound/main.go"),
    "assemblyscript": lambda: assemblyscript(EXAMPLES / "assemblyscript/ask.ts"),
}


@pytest.mark.parametrize("language", HANDLERS)
def test_the_example(tmp_path: Path, language: str) -> None:
    module = HANDLERS[language]()
    manifest = "".join(
        f'[[module]]\nroute = "{route}"\nmodule = "{module}"\nallowed_hosts = {json.dumps(hosts)}\n'
        "http_timeout = 1\n"
        for route, hosts in {"/allowed": ["127.0.0.1"], "/denied": ["api.example.com"]}.items()
    )
    with upstream() as backend, serving(tmp_path, manifest) as server:
        address = f"http://127.0.0.1:{backend.port}"
        seen = json.loads(server.get(f"/allowed?{address}/echo").text)
        assert (seen["method"], seen["path"]) == ("GET", "/echo")
        expected = "go" if language == "tinygo" else language
        assert dict(seen["headers"])["x-from"] == expected
        large = server.get(f"/allowed?{address}/large?n=100000")
        assert (large.status, large.text) == (200, "x" * 100_000)
        assert server.get(f"/allowed?{address}/status?code=404").status == 404
        failures = {
            f"/denied?{address}/echo": 7,
            "/allowed?ftp:nowhere": 10,
            f"/allowed?{address}/slow?s=5": 11,
        }
        for target, code in failures.items():
            response = server.get(target)
            assert (response.status, response.text) == (502, f"failure {code}\n")
        assert "GET /echo" in backend.requests
        assert backend.requests.count("GET /echo") == 1  # the denied one was not sent
