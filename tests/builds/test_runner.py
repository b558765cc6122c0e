"""Running a build: its status, the times of its modules, interruptions."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.builds import builds, entry, project, warnings
from wagi.builds.build import builds_of
from wagi.builds.runner import run_build
from wagi.routemap.reader import read_route_map

pytestmark = pytest.mark.fast


def test_the_status_of_a_build(tmp_path: Path) -> None:
    (build,) = builds(tmp_path, entry("a.wasm", "exit 3"))
    assert run_build(build) == 3


def test_a_module_that_a_build_leaves_unchanged(tmp_path: Path) -> None:
    """As cargo does after a change of a comment: it is up to date all the same."""
    path = project(tmp_path, entry("a.wasm", "true"), "a.wasm", "src/a.c")
    assert len(warnings(path)) == 1
    (build,) = builds_of(read_route_map(path))
    assert run_build(build) == 0
    assert warnings(path) == []


def test_a_failed_build_leaves_the_module_outdated(tmp_path: Path) -> None:
    path = project(tmp_path, entry("a.wasm", "false"), "a.wasm", "src/a.c")
    (build,) = builds_of(read_route_map(path))
    assert run_build(build) == 1
    assert len(warnings(path)) == 1


def test_a_source_that_changes_during_a_build(tmp_path: Path) -> None:
    # Only what the shell itself can do: fast tests need no tools.
    wait = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"
    path = project(tmp_path, entry("a.wasm", f"{wait}; echo > src/a.c"), "a.wasm", "src/a.c")
    (build,) = builds_of(read_route_map(path))
    assert run_build(build) == 0
    assert len(warnings(path)) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_build_starts_kills_it(tmp_path: Path, number: int) -> None:
    """The process that ``Popen`` has started by then is not lost."""
    pid = tmp_path / "pid"
    program = f"""
import os, signal, subprocess, sys
from pathlib import Path
from wagi.builds.build import Build
from wagi.builds.runner import run_build

class Popen(subprocess.Popen):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        os.kill(os.getpid(), {int(number)})
        for _ in range(1000):
            pass  # the handler runs between two instructions

subprocess.Popen = Popen
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
command = "while :; do :; done & echo $! > pid; wait"
run_build(Build(command, Path({str(tmp_path)!r}), (), (), ()))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == (3 if number == signal.SIGTERM else -signal.SIGINT), done.stderr
    if pid.exists() and (found := pid.read_text().strip()):  # else it was killed before that
        deadline = time.monotonic() + 10
        while is_running(found):
            assert time.monotonic() < deadline


def is_running(pid: str) -> bool:
    """Whether a process exists and is no zombie; see proc(5)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
