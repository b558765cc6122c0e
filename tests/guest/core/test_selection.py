"""Selection of the implementation: ``WAGI_CORE``, a missing build, and ``--memory``."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.server import ROOT, Server, manifest_of, run_wagi, serving, write_files
from tests.support.toolchains import require_core
from tests.support.wat import HELLO
from wagi import __version__
from wagi.guest import core

MODULES: dict[str, str | bytes] = {"hello.wat": HELLO}
MANIFEST = manifest_of(MODULES)
COMMANDS = (("--version",), ("check",), ("serve", "--listen", "127.0.0.1:0"))
TIB = 1 << 40


@pytest.fixture
def unbuilt(tmp_path: Path) -> Path:
    """A copy of the package without the compiled module."""
    return copy_of_package(tmp_path / "unbuilt")


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A copy of the package with a compiled module that cannot be loaded."""
    folder = copy_of_package(tmp_path / "broken")
    (folder / "wagi" / "guest" / "core" / "_core.abi3.so").write_bytes(b"this is not a library")
    return folder


def copy_of_package(folder: Path) -> Path:
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(ROOT / "wagi", folder / "wagi", ignore=ignored)
    return folder


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The working directory of wagi, with a modules.toml."""
    folder = tmp_path / "work"
    folder.mkdir()
    write_files(folder, {**MODULES, "modules.toml": MANIFEST})
    return folder


def version(work: Path, choice: str, package: Path = ROOT) -> str:
    """The implementation according to ``wagi --version``."""
    done = run_wagi(work, "--version", environment=environment(choice, package))
    assert (done.returncode, done.stderr) == (0, "")
    first, second, *_ = done.stdout.splitlines()
    assert first == f"wagi, version {__version__}"
    return second


def environment(choice: str, package: Path = ROOT) -> dict[str, str]:
    return {core.VARIABLE: choice, "PYTHONPATH": str(package)}


def expect_error(
    work: Path, arguments: Sequence[str], choice: str, package: Path, expected: str
) -> None:
    """Check that wagi exits with status 2 and one line that has this prefix."""
    done = run_wagi(work, *arguments, environment=environment(choice, package))
    assert done.returncode == 2, done
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {expected}"), line


def expect_hello(server: Server) -> None:
    answer = server.get("/hello")
    assert (answer.status, answer.body) == (200, b"hello\n")


@pytest.mark.parametrize("choice", ["", "auto", "required"])
def test_core_is_used_if_built(work: Path, choice: str) -> None:
    require_core()
    assert version(work, choice) == "core: compiled"


def test_switched_off(work: Path) -> None:
    assert version(work, "off") == "core: Python (WAGI_CORE=off)"
    with serving(work, environment=environment("off")) as server:
        expect_hello(server)


@pytest.mark.parametrize("choice", ["", "auto"])
def test_not_built(work: Path, unbuilt: Path, choice: str) -> None:
    assert version(work, choice, unbuilt) == "core: Python (compiled core: not built)"
    with serving(work, environment=environment(choice, unbuilt)) as server:
        expect_hello(server)


def test_module_that_cannot_be_loaded(work: Path, broken: Path) -> None:
    found = version(work, "auto", broken)
    assert found.startswith("core: Python (compiled core: ")
    assert "_core.abi3.so" in found
    with serving(work, environment=environment("auto", broken)) as server:
        expect_hello(server)
    assert version(work, "off", broken) == "core: Python (WAGI_CORE=off)"


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
def test_required_but_missing(
    work: Path, unbuilt: Path, broken: Path, arguments: Sequence[str]
) -> None:
    for package in (unbuilt, broken):
        expected = "WAGI_CORE=required: the compiled core cannot be used: "
        expect_error(work, arguments, "required", package, expected)


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
def test_unknown_choice(work: Path, arguments: Sequence[str]) -> None:
    expected = "WAGI_CORE=on: expected one of auto, off, required"
    expect_error(work, arguments, "on", ROOT, expected)


def address_space(server: Server) -> int:
    """Return the bytes of address space that the worker has reserved."""
    (worker,) = server.workers
    return int(Path(f"/proc/{worker}/statm").read_text().split()[0]) * 4096


def test_pool_reserves_address_space(work: Path) -> None:
    """The pool reserves address space for all guests in advance, the core for a few."""
    require_core()
    sizes = {}
    for memory in ("auto", "pool"):
        with serving(work, None, "--memory", memory) as server:
            expect_hello(server)
            sizes[memory] = address_space(server)
    assert sizes["auto"] < TIB < sizes["pool"]
