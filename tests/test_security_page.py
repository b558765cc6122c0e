"""docs/security.md is accurate: its tests exist, and its defaults are the actual ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from wagi.config.settings import Settings
from wagi.config.values import parse_size
from wagi.limits import limit_fields

pytestmark = pytest.mark.fast

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text()
ROWS = re.findall(r"^\| `(--)?([a-z_-]+)`(?: †)? \| (\S+) \| \S", PAGE, re.MULTILINE)


def test_named_tests_exist() -> None:
    named = re.findall(r"`([a-z_0-9/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 60
    for file, name in named:
        assert f"\ndef {name}(" in (ROOT / "tests" / file).read_text(), (file, name)


def test_every_hostile_test_is_named() -> None:
    """The page covers the whole suite of hostile tests."""
    missing = [
        f"{path.name}::{name}"
        for path in sorted((ROOT / "tests" / "hostile").glob("test_*.py"))
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
        if f"{path.name}::{name}`" not in PAGE
    ]
    assert missing == []


def test_the_defaults() -> None:
    of_modules = {name: default for option, name, default in ROWS if not option}
    of_servers = {name: default for option, name, default in ROWS if option}
    assert len(of_servers) > 10
    assert of_modules.keys() == {limit.name for limit in limit_fields()}
    daggers = re.findall(r"^\| `([a-z_]+)` † ", PAGE, re.MULTILINE)
    assert daggers == [limit.name for limit in limit_fields() if not limit.zero_disables]
    for limit in limit_fields():
        default = of_modules[limit.name]
        expected = None if default == "none" else parse_size(default)
        assert expected == limit.default, limit.name
    for name, default in of_servers.items():
        wanted = Settings.model_fields[name.replace("-", "_")].default
        assert (default if wanted == "auto" else parse_size(default)) == wanted, name
