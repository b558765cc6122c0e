"""The pytest plugin, in a separate project as its users have it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.support.server import ENVIRONMENT, write_files
from tests.support.toolchains import HANDLERS, compiled

MANIFEST = '[[module]]\nroute = "/chatty/..."\nmodule = "build/chatty.wasm"\n'

GOOD = """
import asyncio
import pytest

CHATTY = pytest.mark.wagi(module="build/chatty.wasm", route="/own/...", environment={"A": "b c"})


def test_the_manifest(wagi_client):
    response = wagi_client.get("/chatty/x", params={"a": "1 2"})
    assert response.status_code == 200
    assert response.ok
    assert response.text == "GET /x a=1+2\\n\\n"
    assert response.headers["content-type"] == "text/plain"
    assert response.headers.getall("x-twice") == ["1", "2"]
    assert response.stderr == "asked for /x\\n"
    assert response.exit_code == 0
    assert response.trap is None
    assert response.variables["SCRIPT_NAME"] == "/chatty"
    assert response.argv == ["/chatty/x", "a=1+2"]
    assert response.cpu_seconds > 0
    assert response.memory >= 65536


def test_bodies(wagi_client):
    assert wagi_client.post("/chatty", "text").text.endswith("\\n\\ntext")
    response = wagi_client.post("/chatty", {"a": "1", "b": "ü"})
    assert response.text.endswith("application/x-www-form-urlencoded\\na=1&b=%C3%BC")
    response = wagi_client.put("/chatty", json={"a": [1]})
    assert response.text == 'PUT  \\napplication/json\\n{"a": [1]}'
    response = wagi_client.patch("/chatty", b"x", headers={"Content-Type": "x/y"})
    assert response.text == "PATCH  \\nx/y\\nx"
    assert wagi_client.delete("/chatty?x").text == "DELETE  x\\n\\n"
    assert wagi_client.options("/chatty").text == "OPTIONS  \\n\\n"
    assert wagi_client.head("/chatty").content == b""
    assert len(wagi_client.responses) == 7


def test_ends(wagi_client):
    assert wagi_client.get("/chatty?exit=3").exit_code == 3
    response = wagi_client.get("/chatty?trap")
    assert (response.status_code, response.exit_code) == (500, None)
    assert "unreachable" in response.trap
    assert wagi_client.get("/nowhere").status_code == 404
    with pytest.raises(AttributeError, match="no guest ran"):
        wagi_client.get("/nowhere").stderr


@CHATTY
def test_a_marker(wagi_client):
    assert wagi_client.get("/own/x").ok
    assert wagi_client.get("/own/x").variables["A"] == "b c"
    assert wagi_client.get("/chatty").status_code == 404


@pytest.mark.wagi("build/chatty.wasm", route="/one", volumes={"/v": "build"}, timeout=5)
@pytest.mark.wagi(
    "build/chatty.wasm",
    route="/two",
    volumes={"/v": {"path": "build", "readonly": True}},
    environment={"SMILE": "\\N{GRINNING FACE}"},
)
def test_several_markers(wagi_client):
    assert wagi_client.get("/one").ok
    assert wagi_client.get("/two").variables["SMILE"] == "\\N{GRINNING FACE}"


@pytest.mark.wagi(manifest="other.toml")
def test_another_manifest(wagi_client):
    assert wagi_client.get("/other").ok


def test_coroutines(wagi_async_client):
    async def ask():
        return await asyncio.gather(*(wagi_async_client.get(f"/chatty/{i}") for i in range(20)))

    responses = asyncio.run(ask())
    assert [r.text for r in responses] == [f"GET /{i} \\n\\n" for i in range(20)]
    assert [r.stderr for r in responses] == [f"asked for /{i}\\n" for i in range(20)]


def test_a_server(wagi_server):
    response = wagi_server.client.post("/chatty/x", "text")
    assert response.text.endswith("text")
    assert wagi_server.url == f"http://127.0.0.1:{wagi_server.port}"
    assert response.headers.getall("x-twice") == ["1", "2"]
    with pytest.raises(AttributeError, match="only by a gateway in this process"):
        response.stderr


@pytest.mark.parametrize("number", range(200))
def test_many(wagi_client, number):
    assert wagi_client.get(f"/chatty/{number}").text == f"GET /{number} \\n\\n"
"""

BAD = """
import pytest

def test_a_wrong_answer(wagi_client):
    assert wagi_client.get("/chatty/x?exit=7").text == "something else"

def test_a_trap(wagi_client):
    assert wagi_client.get("/chatty/x?trap").ok

def test_a_server(wagi_server):
    assert wagi_server.client.get("/chatty/logged").text == "something else"

@pytest.mark.wagi(module="build/absent.wasm")
def test_no_module(wagi_client):
    pass

@pytest.mark.wagi(module="build/absent.wasm")
def test_no_server(wagi_server):
    pass

@pytest.mark.wagi(route="/x")
def test_no_key(wagi_client):
    pass
"""


def project(folder: Path, tests: str) -> None:
    write_files(
        folder,
        {
            "modules.toml": MANIFEST,
            "other.toml": MANIFEST.replace("chatty/...", "other"),
            "test_handler.py": tests,
            "pytest.ini": "[pytest]\n",
        },
    )
    (folder / "build").mkdir()
    shutil.copy(compiled(HANDLERS / "chatty.c"), folder / "build/chatty.wasm")


def run_pytest(folder: Path, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env={k: v for k, v in ENVIRONMENT.items() if not k.startswith("PYTEST")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr


def test_fixtures(tmp_path: Path) -> None:
    project(tmp_path, GOOD)
    output = run_pytest(tmp_path)
    assert re.search(r"\n=+ 208 passed in ", output), output
    assert "warning" not in output


def test_reports_of_failed_tests(tmp_path: Path) -> None:
    """They show how the guest ended, and what it wrote."""
    project(tmp_path, BAD)
    output = run_pytest(tmp_path, "-rA")
    assert "3 failed, 3 errors" in output
    assert re.search(
        r"-+ wagi: GET /chatty/x\?exit=7 → 200 -+\nthe guest: exit 7\nstderr:\nasked for /x\n",
        output,
    )
    assert re.search(r"-+ wagi: GET /chatty/x\?trap → 500 -+\nthe guest: trap\n", output)
    assert "trap: wasm `unreachable` instruction executed" in output
    assert output.count("library functions on the stack") <= 1
    assert re.search(r"-+ wagi: the server's log -+\n.*asked for /logged", output)
    assert output.count("no such file: ") >= 2
    assert "expected module= or manifest=" in output


def test_the_manifest_by_option(tmp_path: Path) -> None:
    project(tmp_path, "def test_other(wagi_client):\n    assert wagi_client.get('/other').ok\n")
    assert "1 passed" in run_pytest(tmp_path, "--wagi-manifest", "other.toml")
    write_files(tmp_path, {"pytest.ini": "[pytest]\nwagi_manifest = other.toml\n"})
    assert "1 passed" in run_pytest(tmp_path)
    assert "1 failed" in run_pytest(tmp_path, "--wagi-manifest", "modules.toml")


def test_a_test_server_ends_with_its_parent(tmp_path: Path) -> None:
    """For tests in any language: one line of JSON, and no process is left behind."""
    project(tmp_path, "")
    script = (
        f"'{sys.executable}' -m wagi test-server > address.json & "
        "while ! grep -q pid address.json; do sleep 0.05; done; echo started"
    )
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    assert "started" in done.stdout
    found = re.search(r'"pid": (\d+)', (tmp_path / "address.json").read_text())
    assert found
    deadline = time.monotonic() + 10
    while Path(f"/proc/{found[1]}").exists() and not _is_zombie(int(found[1])):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_test_server_that_cannot_start(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wagi", "test-server", "absent.toml"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "no such file: absent.toml" in done.stderr
