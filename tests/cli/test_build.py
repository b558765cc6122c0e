"""wagi build, and the warning that a module is older than its sources."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.server import ENVIRONMENT, WAGI, run_wagi, write_files
from tests.support.toolchains import EXAMPLES, python_module
from tests.support.wat import TEXT_HEAD, printing


def entry(route: str, module: str, build: str) -> str:
    return f"[[module]]\nroute = '{route}'\nmodule = '{module}'\nbuild = '{build}'\n"


TWICE = "echo run >> runs; mkdir -p build; cp src/hello.wat build/a.wat; cp build/a.wat build/b.wat"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    manifest = (
        entry("/a", "build/a.wat", TWICE)
        + entry("/b", "build/b.wat", TWICE)
        + entry("/c", "c.wat", "cp src/hello.wat c.wat")
        + '[[module]]\nroute = "/plain"\nmodule = "src/hello.wat"\n'
    )
    write_files(
        tmp_path, {"modules.toml": manifest, "src/hello.wat": printing(TEXT_HEAD + "hello\n")}
    )
    return tmp_path


def test_every_command_runs_once(folder: Path) -> None:
    done = run_wagi(folder, "build")
    assert (done.returncode, done.stderr) == (
        0, f"building: {TWICE}\nbuilding: cp src/hello.wat c.wat\n",
    )  # fmt: skip
    size = (folder / "src/hello.wat").stat().st_size
    assert done.stdout == "".join(
        f"{name}: {size:,} bytes\n" for name in ("build/a.wat", "build/b.wat", "c.wat")
    )
    assert (folder / "runs").read_text() == "run\n"
    assert run_wagi(folder, "call", "/b").stdout == "hello\n"


@pytest.mark.parametrize(
    ("arguments", "built"),
    [
        (("c",), ["c.wat"]),
        (("/b",), ["build/a.wat", "build/b.wat"]),
        (("build/a.wat",), ["build/a.wat", "build/b.wat"]),
        (("c.wat", "a"), ["build/a.wat", "build/b.wat", "c.wat"]),
        (("modules.toml", "c"), ["c.wat"]),
        ((".", "c"), ["c.wat"]),
        (("-c", "modules.toml", "c"), ["c.wat"]),
    ],
)
def test_selection(folder: Path, arguments: tuple[str, ...], built: list[str]) -> None:
    done = run_wagi(folder, "build", *arguments)
    assert done.returncode == 0, done.stderr
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == built


def test_in_another_folder(folder: Path) -> None:
    """Commands run beside the route map."""
    done = run_wagi(folder.parent, "build", folder.name, "c")
    assert done.stdout.startswith(f"{folder.name}/c.wat: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("d",), "modules.toml: no entry with the key build is named 'd'\n"),
        (("buld/a.wat",), "is named 'buld/a.wat': did you mean 'build/a.wat'?\n"),
        (("/plain",), "no entry with the key build is named '/plain'"),
        (("absent.toml",), "no such file: absent.toml"),
        (("modules.toml", "-c", "other.toml"), "expected one modules.toml, found both"),
    ],
)
def test_bad_usage(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    done = run_wagi(folder, "build", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert not (folder / "c.wat").exists()


def test_a_failed_build(folder: Path) -> None:
    """The output of the command, its status, and the line that names it; the others run."""
    failing = 'echo "x.c:1: error: oops"; echo more >&2; exit 7'
    write_files(
        folder,
        {
            "modules.toml": entry("/x", "x.wat", failing)
            + entry("/y", "y.wat", "true")
            + entry("/c", "c.wat", "cp src/hello.wat c.wat")
        },
    )
    done = run_wagi(folder, "build")
    assert done.returncode == 1
    assert done.stdout.startswith("c.wat: ")
    assert done.stderr == (
        f"building: {failing}\nx.c:1: error: oops\nmore\n"
        f"error: modules.toml:4: build: exited with status 7: {failing}\n"
        "building: true\nerror: modules.toml:8: build: y.wat is missing after: true\n"
        "building: cp src/hello.wat c.wat\n"
    )


def test_nothing_to_build(folder: Path) -> None:
    write_files(folder, {"modules.toml": '[[module]]\nroute = "/"\nmodule = "src/hello.wat"\n'})
    done = run_wagi(folder, "build")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "warning: modules.toml: nothing to build: no entry has the key build\n"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build(tmp_path: Path, how: signal.Signals) -> None:
    """The command and its children end with it."""
    write_files(tmp_path, {"modules.toml": entry("/", "a.wat", "sleep 300 & echo $! > pid; wait")})
    process = subprocess.Popen(
        [*WAGI, "build"],
        cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    pid = tmp_path / "pid"
    _until(lambda: pid.exists() and pid.read_text().endswith("\n"))
    process.send_signal(how)
    assert process.wait(20) == (130 if how == signal.SIGINT else 143)
    _until(lambda: not _runs(int(pid.read_text())))


def _until(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_compiler(tmp_path: Path) -> None:
    """From sources to an answer; an edit is reported until the next build."""
    (tmp_path / "src").mkdir()
    shutil.copy(EXAMPLES / "c/hello.c", tmp_path / "src/hello.c")
    zig = f"{sys.executable} -m {python_module('ziglang')} cc -target wasm32-wasi -O2"
    write_files(
        tmp_path, {"modules.toml": entry("/", "hello.wasm", f"{zig} src/hello.c -o hello.wasm")}
    )
    done = run_wagi(tmp_path, "call", "/")
    assert done.returncode == 2
    assert "(run `wagi build` to create it)" in done.stderr
    assert run_wagi(tmp_path, "build").returncode == 0
    before = run_wagi(tmp_path, "call", "/")
    assert (before.returncode, before.stderr) == (0, "")
    source = (tmp_path / "src/hello.c").read_text()
    (tmp_path / "src/hello.c").write_text(source.replace("Hello", "Hallo"))
    done = run_wagi(tmp_path, "call", "/")
    assert done.stdout == before.stdout
    assert done.stderr == (
        "warning: modules.toml:3: hello.wasm is older than src/hello.c: run `wagi build`\n"
    )
    assert run_wagi(tmp_path, "build").returncode == 0
    done = run_wagi(tmp_path, "call", "/")
    assert (done.stdout, done.stderr) == (before.stdout.replace("Hello", "Hallo"), "")
    (tmp_path / "src/hello.c").write_text("nonsense")
    done = run_wagi(tmp_path, "build")
    assert done.returncode == 1
    assert "src/hello.c:1:1: error: " in done.stderr


OUTDATED = "modules.toml:3: build/a.wat is older than src/hello.wat: run `wagi build`"


@pytest.mark.parametrize(
    "command", [("call", "/a"), ("run", "build/a.wat"), ("test", "case.toml"), ("pytest",)]
)
def test_an_outdated_module(folder: Path, command: tuple[str, ...]) -> None:
    """One warning; in pytest's own way there, for each fixture."""
    write_files(
        folder,
        {
            "modules.toml": entry("/a", "build/a.wat", "true"),
            "build/a.wat": printing(TEXT_HEAD + "old\n"),
            "case.toml": '[request]\ntarget = "/a"\n[response]\nbody = "old\\n"\n',
            "pytest.ini": "[pytest]\n",
            "test_a.py": "def test_a(wagi_client): assert wagi_client.get('/a').ok\n"
            "def test_b(wagi_client): assert wagi_client.get('/a').ok\n"
            "def test_c(wagi_server): assert wagi_server.client.get('/a').ok\n",
        },
    )
    os.utime(folder / "build/a.wat", (1, 1))
    if command == ("pytest",):
        environment = {k: v for k, v in ENVIRONMENT.items() if not k.startswith("PYTEST")}
        pytest_command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
        done = subprocess.run(
            pytest_command, cwd=folder, env=environment, capture_output=True, text=True, check=True
        )
        assert f"WagiWarning: {folder / OUTDATED}\n" in done.stdout
        assert "3 passed, 2 warnings" in done.stdout
    else:
        done = run_wagi(folder, *command)
        assert (done.returncode, done.stderr) == (0, f"warning: {OUTDATED}\n")
        assert "old" in done.stdout or "1 passed" in done.stdout
