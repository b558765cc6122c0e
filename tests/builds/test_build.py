"""The builds of a route map."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.builds import builds, entry, project, warnings
from wagi.errors import ConfigurationError

pytestmark = pytest.mark.fast


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
