"""Modules that are older than their sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.builds import entry, project, warnings
from tests.support.server import write_files

pytestmark = pytest.mark.fast


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
