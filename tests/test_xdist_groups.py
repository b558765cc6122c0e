"""How the tests are distributed over the processes of pytest-xdist."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.scheduling import LONG
from tests.support.server import ROOT

TEST = """
import os
import pytest

{mark}
@pytest.mark.parametrize("number", range(8))
def test_it(number):
    with open({log!r}, "a") as log:
        log.write(os.environ["PYTEST_XDIST_WORKER"] + " {name}\\n")
"""
GROUP = '@pytest.mark.xdist_group("group")'


def distributed(folder: Path, *options: str, **files: str) -> list[list[str]]:
    """Run files with the same test in two processes.

    Args:
        folder: Where the files are written.
        options: Options of pytest.
        files: A line before the test, by the name of the file.

    Returns:
        The process and the file of each test, in the order in which they ran.
    """
    log = folder / "log"
    (folder / "pytest.ini").write_text("[pytest]\n")
    for name, mark in files.items():
        (folder / f"{name}.py").write_text(TEST.format(mark=mark, log=str(log), name=name))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadgroup", *options, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.split() for line in log.read_text().splitlines()]


def test_a_group_runs_in_one_process(tmp_path: Path) -> None:
    """With pytest 9.2 and pytest-xdist 3.8, groups have no effect."""
    runs = distributed(tmp_path, test_a=GROUP, test_b=GROUP)
    assert len(runs) == 16
    assert len({process for process, _ in runs}) == 1


def test_a_file_runs_in_one_process(tmp_path: Path) -> None:
    runs = distributed(tmp_path, "-p", "tests.conftest", test_a="", test_b="", test_c="")
    assert len(runs) == 24
    assert len({(process, name) for process, name in runs}) == 3
    assert len({process for process, _ in runs}) == 2


def test_the_tests_of_a_single_file_run_in_all_processes(tmp_path: Path) -> None:
    runs = distributed(tmp_path, "-p", "tests.conftest", test_a="")
    assert len({process for process, _ in runs}) == 2


@pytest.mark.fast
def test_long_files_exist() -> None:
    assert [name for name in LONG if not (ROOT / "tests" / name).exists()] == []
