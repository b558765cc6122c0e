"""docs/architecture.md: the paths it names exist, and it names every package."""

from __future__ import annotations

import re

import pytest

from tests.support.server import ROOT

pytestmark = pytest.mark.fast

PAGE = (ROOT / "docs/architecture.md").read_text()
PATHS = set(re.findall(r"`((?:wagi|tests|docs|benchmarks|deploy)/[\w./]+)`", PAGE))


def test_every_path_exists() -> None:
    assert len(PATHS) > 40
    assert sorted(path for path in PATHS if not (ROOT / path).exists()) == []


def test_every_top_level_package_and_module_is_a_layer() -> None:
    listed = {path.removeprefix("wagi/") for path in re.findall(r"^\| `([^`]+)` \|", PAGE, re.M)}
    existing = {
        path.name
        for path in (ROOT / "wagi").iterdir()
        if not path.name.startswith("__") and (path.suffix == ".py" or path.is_dir())
    }
    assert existing - listed == set()


def test_every_make_target_it_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"`make ([a-z]+)`", PAGE))
    assert named
    assert [name for name in named if f"\n{name}:" not in makefile] == []
