"""The wheel has the compiled core if a C compiler is available, and is pure Python otherwise."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.server import ROOT
from tests.support.toolchains import build_backend, missing, python_module, tool

MODULE = "wagi/guest/core/_core.abi3.so"
NO_COMPILER = {"CC": "/nonexistent/cc"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the sources, because the build writes to them."""
    folder = tmp_path / "tree"
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(ROOT / "wagi", folder / "wagi", ignore=ignored)
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    (folder / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "wagi.1", folder / "docs")
    return folder


def build(tree: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    pip = [sys.executable, "-m", python_module("pip"), "wheel", "--no-deps", "--no-index"]
    kept = {name: value for name, value in os.environ.items() if name not in ("CC", "WAGI_CORE")}
    return subprocess.run(
        [*pip, "--no-build-isolation", "-w", str(tree / "dist"), str(tree)],
        env={**kept, "PYTHONPATH": str(build_backend()), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def wheel_of(tree: Path, environment: dict[str, str]) -> Path:
    done = build(tree, environment)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    (wheel,) = (tree / "dist").iterdir()
    return wheel


def installed_core(wheel: Path, tmp_path: Path) -> str:
    """The implementation according to ``wagi --version`` after installing a wheel."""
    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target"]
    subprocess.run([*pip, str(target), str(wheel)], check=True, capture_output=True, timeout=300)
    done = subprocess.run(
        [sys.executable, "-m", "wagi", "--version"],
        env={**os.environ, "PYTHONPATH": str(target), "WAGI_CORE": "auto"},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout.splitlines()[1]


def test_with_a_compiler(tree: Path, tmp_path: Path) -> None:
    """A wheel for all versions of Python from 3.11 on."""
    if not sys.platform.startswith("linux"):
        missing("Linux: the compiled core is not built elsewhere")
    wheel = wheel_of(tree, {"CC": tool("cc"), "WAGI_CORE": "required"})
    assert "-cp311-abi3-linux_" in wheel.name
    assert MODULE in zipfile.ZipFile(wheel).namelist()
    assert installed_core(wheel, tmp_path) == "core: compiled"


@pytest.mark.parametrize("environment", [NO_COMPILER, {"WAGI_CORE": "off"}], ids=["CC", "off"])
def test_without_a_compiler(tree: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    wheel = wheel_of(tree, environment)
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")]
    assert installed_core(wheel, tmp_path) == "core: Python (compiled core: not built)"


def test_failing_compiler(tree: Path, tmp_path: Path) -> None:
    """As without a compiler; files of an earlier build are not used."""
    (tree / MODULE).write_bytes(b"left over")
    wheel = wheel_of(tree, {"CC": "false"})
    assert wheel.name.endswith("-py3-none-any.whl")
    assert MODULE not in zipfile.ZipFile(wheel).namelist()


def test_required(tree: Path) -> None:
    done = build(tree, {**NO_COMPILER, "WAGI_CORE": "required"})
    assert done.returncode != 0
    assert "the compiled core cannot be built: /nonexistent/cc: No such file" in done.stderr
