"""The sdist is complete: its fast tests pass, and its README has no broken link."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.support.server import ROOT
from tests.support.toolchains import build_backend


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the unpacked sdist."""
    folder = tmp_path_factory.mktemp("sdist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(build_backend())},
        check=True,
        capture_output=True,
        timeout=120,
    )
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    (top,) = (path for path in folder.iterdir() if path.is_dir())
    return top


@pytest.mark.xdist_group("sdist")
def test_the_fast_tests_pass(unpacked: Path, tmp_path: Path) -> None:
    """Without external tools and without a compiled core; none of them is skipped."""
    environment = {name: value for name, value in os.environ.items() if "WAGI" not in name}
    environment |= {"PATH": str(tmp_path), "PYTHONPATH": str(unpacked), "WAGI_CORE": "auto"}
    environment.pop("PYTEST_XDIST_WORKER", None)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "fast", "-p", "no:cacheprovider"],
        cwd=unpacked,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d{3,} passed in", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.xdist_group("sdist")
def test_it_contains_all_files_of_the_repository(unpacked: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is not a checkout")
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert [name for name in listed if not (unpacked / name).exists()] == []


@pytest.mark.xdist_group("sdist")
def test_its_readme_has_no_relative_link(unpacked: Path) -> None:
    """A package index shows the README without the repository's files."""
    readme = (unpacked / "PKG-INFO").read_text()
    links = re.findall(r"\]\(([^)\s]+)\)", readme)
    assert "# wagi" in readme
    assert [link for link in links if "://" not in link and not link.startswith("#")] == []
