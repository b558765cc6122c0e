"""A script in a snapshot of Python sees an ordinary CGI world, in a fresh instance."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import Server, run_wagi, serving
from tests.support.toolchains import python_wasm, tool

pytestmark = pytest.mark.xdist_group("python-snapshot")  # each snapshot takes 10 s of CPU time

SCRIPT = """
import http.cookies, json, logging, os, random, secrets, sys, tempfile, time, uuid
import greeting

COUNT = [0]

def world():
    COUNT[0] += 1
    return {
        "argv": sys.argv, "name": __name__, "file": __file__, "count": COUNT[0],
        "variables": dict(os.environ), "body": sys.stdin.read(), "path": sys.path[0],
        "greeting": greeting.hello("Ann"), "time": time.time(),
    }

def random_values():
    return [
        random.random(), random.getrandbits(64), secrets.token_hex(8), os.urandom(8).hex(),
        str(uuid.uuid4()), str(uuid.uuid1()), next(tempfile._get_candidate_names()),
        random.SystemRandom().random(), random.Random().random(),
    ]

print("Content-Type: application/json")
print()
match os.environ["PATH_INFO"]:
    case "/world": print(json.dumps(world()))
    case "/random": print(json.dumps(random_values()))
    case "/exit": print("before"); sys.exit(3)
    case "/error": raise ValueError("a mistake")
"""
MANIFEST = """
[defaults]
environment = {GREETING = "hi"}
cpu_timeout = 60
timeout = 120
[[module]]
route = "/plain/..."
module = "python.wasm"
argv = "python /app/handler.py ${ARGS}"
volumes = {"/app" = {path = "app", readonly = true}}
[[module]]
route = "/made/..."
module = "made.wasm"
argv = "python /app/handler.py ${ARGS}"
volumes = {"/app" = {path = "app", readonly = true}}
"""


def make(
    folder: Path, script: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    tool("wasm-opt")
    (folder / "app").mkdir()
    (folder / "app/handler.py").write_text(script)
    (folder / "app/greeting.py").write_text('def hello(name): return f"Hello, {name}!"')
    (folder / "python.wasm").symlink_to(python_wasm())
    arguments = ("--argv", "python /app/handler.py", "--volume", "/app=app")
    return run_wagi(
        folder,
        "snapshot",
        "python.wasm",
        *arguments,
        "-o",
        "made.wasm",
        environment=environment,
        timeout=600,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("python")
    done = make(folder, SCRIPT, {"A_SECRET_NAME": "a-secret-of-the-host"})
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving(folder, MANIFEST) as server:
        yield server


def test_the_world_of_a_script(server: Server) -> None:
    """The same as without a snapshot: arguments, variables, body, modules."""
    headers = [("Cookie", "a=b"), ("X-Empty", "")]
    found = {}
    for route in ("plain", "made"):
        response = server.post(f"/{route}/world?x=1&y=%20z", b"the body", headers=headers)
        assert response.status == 200, server.log
        found[route] = json.loads(response.text.replace("/made", "/plain"))
        for name in ("REMOTE_PORT", "PWD", "LC_CTYPE"):
            found[route]["variables"].pop(name, None)
    plain, made = found["plain"], found["made"]
    assert plain.pop("time") <= made.pop("time")
    assert made == plain
    assert made["argv"] == ["/app/handler.py", "x=1", "y=%20z"]
    assert made["variables"]["HTTP_COOKIE"] == "a=b"
    assert made["variables"]["GREETING"] == "hi"


def test_requests_share_nothing(server: Server) -> None:
    for _ in range(3):
        assert json.loads(server.get("/made/world").text)["count"] == 1


def test_nothing_random_is_shared(server: Server) -> None:
    """In 1,000 instances, no value of any source of random numbers occurs twice."""
    seen: set[object] = set()
    for _ in range(1000):
        values = json.loads(server.get("/made/random").text)
        assert seen.isdisjoint(values)
        seen.update(values)
    assert len(seen) == 9000


def test_ends(server: Server) -> None:
    """Exit statuses and tracebacks are those of the script."""
    response = server.get("/made/exit")
    assert (response.status, response.text) == (200, "before\n")
    server.wait_for_access("GET /made/exit")
    assert server.get("/made/error").status == 200  # the headers were printed
    server.wait_for_log("ValueError: a mistake")
    log = server.log
    assert 'File "/app/handler.py"' in log
    assert "prelude" not in log
    assert 'File "<string>"' not in log


def test_many_variables(server: Server) -> None:
    headers = [(f"X-Header-{number}", "v" * 800) for number in range(60)]
    response = server.get("/made/world", headers=headers)
    assert json.loads(response.text)["variables"]["HTTP_X_HEADER_59"] == "v" * 800


def test_the_host_is_not_part_of_it(folder: Path) -> None:
    content = (folder / "made.wasm").read_bytes()
    assert b"a-secret-of-the-host" not in content
    assert b"A_SECRET_NAME" not in content
    assert str(folder).encode() not in content


BAD = {
    "a syntax error": ("SyntaxError", "x = ("),
    "stdin is read early": (
        "reads stdin before it is ready (while importing early",
        "import early",
    ),
    "random numbers": ("random numbers are drawn while importing draws", "import draws"),
    "random bytes": ("random numbers are drawn while importing secret", "import secret"),
    "an open file": ("holds open files", "import opens"),
}


@pytest.mark.parametrize("name", BAD)
def test_scripts_without_a_snapshot(tmp_path: Path, name: str) -> None:
    reason, script = BAD[name]
    app = tmp_path / "app"
    modules = {
        "early": "import os; os.read(0, 10)",
        "draws": "import random; VALUE = random.random()",
        "secret": "import secrets; KEY = secrets.token_hex()",
        "opens": "FILE = open('/app/handler.py')",
    }
    tool("wasm-opt")
    app.mkdir()
    for module, text in modules.items():
        (app / f"{module}.py").write_text(text)
    (app / "handler.py").write_text(script)
    (tmp_path / "python.wasm").symlink_to(python_wasm())
    arguments = ("--argv", "python /app/handler.py", "--volume", "/app=app")
    done = run_wagi(tmp_path, "snapshot", "python.wasm", *arguments, "-o", "made.wasm", timeout=600)
    assert done.returncode == 2
    assert reason in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "made.wasm").exists()
