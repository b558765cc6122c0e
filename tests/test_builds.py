"""Builds of a route map, and modules that are older than their sources."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.server import write_files
from wagi.builds import Build, builds_of, outdated_warnings, run_build
from wagi.errors import ConfigurationError
from wagi.routemap.reader import read_route_map

pytestmark = pytest.mark.fast


def entry(module: str, build: str = "make", watch: str = "") -> str:
    lines = ["[[module]]", f'route = "/{module}"', f'module = "{module}"']
    lines += [f"build = '{build}'"] if build else []
    lines += [f"watch = {watch}"] if watch else []
    return "\n".join(lines) + "\n"


def builds(folder: Path, manifest: str) -> tuple[Build, ...]:
    write_files(folder, {"modules.toml": manifest})
    return builds_of(read_route_map(folder / "modules.toml"))


def project(folder: Path, manifest: str, *files: str) -> Path:
    """Write a route map and files; each file is newer than those before it."""
    write_files(folder, {"modules.toml": manifest})
    for number, name in enumerate(files):
        write_files(folder, {name: ""})
        os.utime(folder / name, (number, number))
    return folder / "modules.toml"


def warnings(path: Path | None) -> list[str]:
    return [str(warning) for warning in outdated_warnings(path)]


def test_one_command_is_one_build(tmp_path: Path) -> None:
    manifest = entry("a.wasm") + entry("b.wasm", watch='["lib"]') + entry("c.wasm", "other")
    first, second = builds(tmp_path, manifest + entry("a.wasm") + entry("oci:host/x:1"))
    assert (first.command, first.folder) == ("make", tmp_path)
    assert [tree.path for tree in first.sources] == [tmp_path / "src", tmp_path / "lib"]
    assert first.modules == (tmp_path / "a.wasm", tmp_path / "b.wasm")
    assert len(first.entries) == 3
    assert (second.command, second.modules) == ("other", (tmp_path / "c.wasm",))


def test_a_pattern_in_watch(tmp_path: Path) -> None:
    """Only files that it matches make a module outdated."""
    manifest = entry("a.wasm", watch='["**/*.c"]')
    path = project(tmp_path, manifest, "src/a.c", "a.wasm", "src/notes.txt")
    assert warnings(path) == []
    os.utime(tmp_path / "src/a.c", (9, 9))
    assert "a.wasm is older than src/a.c" in warnings(path)[0]


def test_an_invalid_pattern_in_watch(tmp_path: Path) -> None:
    path = project(tmp_path, entry("a.wasm", watch='["a**"]'))
    with pytest.raises(ConfigurationError, match=r"modules.toml:\d+: watch: expected \*\* only"):
        warnings(path)


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


@pytest.mark.parametrize(
    ("manifest", "files"),
    [
        (entry("a.wasm"), ("src/a.c", "a.wasm")),
        (entry("a.wasm"), ("a.wasm",)),
        (entry("a.wasm"), ("src/a.c",)),
        (entry("a.wasm"), ("a.wasm", "other/a.c")),
        (entry("a.wasm"), ("a.wasm", "src/.a.c.swp", "src/.git/index", "src/node_modules/x.js")),
        (entry("a.wasm", ""), ("a.wasm", "src/a.c")),
        (entry("src/a.wasm"), ("src/a.c", "src/a.wasm")),
        (entry("oci:host/x:1"), ("src/a.c",)),
    ],
)
def test_up_to_date(tmp_path: Path, manifest: str, files: tuple[str, ...]) -> None:
    assert warnings(project(tmp_path, manifest, *files)) == []


@pytest.mark.parametrize(
    ("manifest", "files", "message"),
    [
        (entry("a.wasm"), ("a.wasm", "src/deep/a.c"), "src/deep/a.c: run `wagi build`"),
        (entry("a.wasm"), ("src/b.c", "a.wasm", "src/a.c"), "src/a.c: run `wagi build`"),
        (entry("a.wasm", watch='["x", "Makefile"]'), ("a.wasm", "Makefile"), "Makefile: run"),
        (entry("a.wasm", "", watch='["lib"]'), ("a.wasm", "lib/a.c"), "lib/a.c: build it again"),
        (entry("a.wasm") * 2, ("a.wasm", "src/a.c"), "src/a.c: run `wagi build`"),
    ],
)
def test_an_outdated_module(
    tmp_path: Path, manifest: str, files: tuple[str, ...], message: str
) -> None:
    path = project(tmp_path, manifest, *files)
    (warning,) = warnings(path)
    assert warning.startswith(f"{path}:3: a.wasm is older than {message}")


def test_several_outdated_modules_are_one_warning(tmp_path: Path) -> None:
    path = project(tmp_path, entry("a.wasm") + entry("b.wasm"), "a.wasm", "b.wasm", "src/x.c")
    assert warnings(path) == [
        f"{path}:3: 2 modules are older than their sources: for example, a.wasm is older than"
        " src/x.c: run `wagi build`"
    ]


def test_a_single_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sources are those of the nearest modules.toml."""
    project(tmp_path, entry("build/a.wasm") + entry("b.wasm"), "build/a.wasm", "b.wasm", "src/x.c")
    monkeypatch.chdir(tmp_path / "build")
    expected = ["../modules.toml:3: build/a.wasm is older than src/x.c: run `wagi build`"]
    assert warnings(Path("a.wasm")) == expected
    assert warnings(tmp_path / "build/a.wasm") == expected
    write_files(tmp_path / "build", {"modules.toml": "nonsense"})
    assert warnings(Path("a.wasm")) == []
    write_files(tmp_path / "build", {"modules.toml": ""})
    assert warnings(Path("a.wasm")) == []


def test_a_bindle_has_no_sources() -> None:
    assert warnings(None) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_build_starts_kills_it(tmp_path: Path, number: int) -> None:
    """The process that ``Popen`` has started by then is not lost."""
    pid = tmp_path / "pid"
    program = f"""
import os, signal, subprocess, sys
from pathlib import Path
from wagi.builds import Build, run_build

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
