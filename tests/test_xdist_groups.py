"""The tests of a group run one after another in one process, as many tests rely on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TEST = """
import os
import pytest

@pytest.mark.xdist_group("group")
@pytest.mark.parametrize("number", range(8))
def test_it(number):
    with open({log!r}, "a") as log:
        log.write(os.environ["PYTEST_XDIST_WORKER"] + "\\n")
"""


def test_a_group_runs_in_one_process(tmp_path: Path) -> None:
    """With pytest 9.2 and pytest-xdist 3.8, groups have no effect."""
    log = tmp_path / "log"
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    for name in ("test_a.py", "test_b.py"):
        (tmp_path / name).write_text(TEST.format(log=str(log)))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        "2",
        "--dist",
        "loadgroup",
        "-q",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    workers = log.read_text().split()
    assert len(workers) == 16
    assert len(set(workers)) == 1
