"""``snapshot = true`` in modules.toml, with a real server and real interpreters."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.server import run_wagi, serving
from tests.support.toolchains import HANDLERS, python_packages, python_wasm, tool
from tests.support.wat import SLOW_START as TEXT

MANIFEST = """
[[module]]
route = "/plain"
module = "slow.wat"
[[module]]
route = "/made"
module = "slow.wat"
snapshot = true
"""


def test_a_module_is_replaced_and_the_snapshot_is_kept(tmp_path: Path) -> None:
    """The start of the module is not repeated; the second start of the server needs no tool."""
    tool("wasm-opt")
    (tmp_path / "cache").mkdir(mode=0o700)
    environment = {"WAGI_ARTEFACT_CACHE": str(tmp_path / "cache")}
    for path in ("", str(tmp_path / "nothing")):
        if path:
            environment = {**environment, "PATH": path}
        with serving(
            tmp_path, MANIFEST, modules={"slow.wat": TEXT}, environment=environment
        ) as server:
            assert server.post("/plain", b"a").text == server.post("/made", b"a").text == "a"
            server.wait_for_access("POST /made")
            assert "warning" not in server.log
            times = {
                name: float(re.findall(rf"POST /{name} .* cpu_ms=([\d.]+)", log)[0])
                for log in ["\n".join(server.access_log)]
                for name in ("plain", "made")
            }
            assert times["made"] < times["plain"] / 3


def test_the_states_in_the_list_of_routes(tmp_path: Path) -> None:
    """Commands that send single requests use a snapshot if there is one, and do not make it."""
    tool("wasm-opt")
    environment = {"WAGI_ARTEFACT_CACHE": str(tmp_path / "cache")}
    entry = '[[module]]\nroute = "/failed"\nmodule = "slow.wat"\nsnapshot = {request = "/"}\n'
    (tmp_path / "modules.toml").write_text(MANIFEST + entry)
    (tmp_path / "slow.wat").write_text(TEXT)
    for state in ("missing", "used"):
        done = run_wagi(tmp_path, "routes", "--json", environment=environment)
        found = {row["route"]: row["snapshot"] for row in json.loads(done.stdout)}
        assert found["/plain"] is None
        assert found["/made"] == {"state": state, "reason": ""}
        assert found["/failed"]["state"] == "failed"
        assert "require an interpreter" in found["/failed"]["reason"]
        assert "no snapshot of slow.wat" in done.stderr
        done = run_wagi(tmp_path, "call", "POST", "/made", "-d", "a", environment=environment)
        assert done.stdout.strip() == "a"
        run_wagi(tmp_path, "compile", environment=environment)


def test_wagi_build(tmp_path: Path) -> None:
    """It makes the snapshots of the entries that it builds, from the new modules."""
    tool("wasm-opt")
    (tmp_path / "source").write_text(TEXT)
    build = 'build = "cp source slow.wat"\n'
    (tmp_path / "modules.toml").write_text(MANIFEST + build)
    environment = {"WAGI_ARTEFACT_CACHE": str(tmp_path / "cache")}
    for options, status in ((("build", "/plain"), 2), (("build", "/made"), 0), (("build",), 0)):
        done = run_wagi(tmp_path, *options, environment=environment)
        assert done.returncode == status, done.stderr
        assert ("/made: snapshot is up to date" in done.stdout) == (status == 0)
    done = run_wagi(tmp_path, "routes", "--json", environment=environment)
    assert json.loads(done.stdout)[1]["snapshot"]["state"] == "used"
    (tmp_path / "source").write_text(TEXT.replace("1)\n  (data", "1) (memory 1)\n  (data"))
    done = run_wagi(tmp_path, "build", environment=environment)
    assert (done.returncode, "snapshot" in done.stdout) == (0, False)
    assert re.search(r"modules.toml:8.*no snapshot: .*more than one memory", done.stderr)


@pytest.mark.parametrize("reason", ["tool", "module"])
def test_without_a_snapshot_the_module_itself_serves(tmp_path: Path, reason: str) -> None:
    """One warning with the place in modules.toml and the reason."""
    tool("wasm-opt")
    environment = {"PATH": str(tmp_path)} if reason == "tool" else {}
    environment["WAGI_ARTEFACT_CACHE"] = str(tmp_path / "cache")
    text = TEXT if reason == "tool" else TEXT.replace("1)\n  (data", "1) (memory 1)\n  (data")
    with serving(tmp_path, MANIFEST, modules={"slow.wat": text}, environment=environment) as server:
        assert server.post("/made", b"a").text == "a"
        (line,) = (line for line in server.log.splitlines() if "no snapshot" in line)
    assert "modules.toml:" in line
    assert ("install it with `apt install" in server.log) == (reason == "tool")
    assert ("more than one memory" in server.log) == (reason == "module")


@pytest.mark.parametrize(
    ("snapshot", "reason"),
    [
        ('"yes"', "snapshot: expected true, false or a table, found 'yes'"),
        ("{other = 1}", "unknown key 'other': known keys: checkpoint, packages, request"),
        ('{request = "x"}', "snapshot.request: expected a path such as /hello, found 'x'"),
    ],
)
def test_mistakes_in_modules_toml(tmp_path: Path, snapshot: str, reason: str) -> None:
    (tmp_path / "modules.toml").write_text(MANIFEST.replace("true", snapshot))
    (tmp_path / "slow.wat").write_text(TEXT)
    done = run_wagi(tmp_path, "check")
    assert done.returncode == 2
    assert reason in done.stderr
    assert "modules.toml:8" in done.stderr


FLASK = """
[[module]]
route = "/..."
module = "python.wasm"
argv = "python /app/handler.py"
volumes = {"/app" = {path = "app", readonly = true}, "/packages" = "packages"}
snapshot = {packages = ["/packages"], request = "/hello?name=x"}
cpu_timeout = 60
"""


@pytest.mark.xdist_group("python-snapshot")
def test_flask(tmp_path: Path) -> None:
    """An unmodified application of Flask answers from a snapshot."""
    tool("wasm-opt")
    (tmp_path / "app").mkdir()
    script = (HANDLERS / "flask_app.py").read_text()
    head, _, _ = script.rpartition("CGIHandler().run(app)")
    (tmp_path / "app/application.py").write_text(head)
    (tmp_path / "app/handler.py").write_text(
        "from wsgiref.handlers import CGIHandler\nfrom application import app\n"
        "CGIHandler().run(app)\n"
    )
    (tmp_path / "python.wasm").symlink_to(python_wasm())
    (tmp_path / "packages").symlink_to(python_packages(HANDLERS / "requirements.txt"))
    (tmp_path / "modules.toml").write_text(FLASK)
    done = run_wagi(tmp_path, "compile", timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
    with serving(tmp_path, FLASK) as server:
        for name in ("Ann", "Bob"):
            assert server.get(f"/hello?name={name}").text == f"Hello, {name}!", server.log
        assert (
            server.post(
                "/", b"name=Eve", headers=[("Content-Type", "application/x-www-form-urlencoded")]
            ).text
            == "Hello, Eve!"
        )
        assert server.get("/missing").status == 404
