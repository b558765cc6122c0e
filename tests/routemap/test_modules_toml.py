"""modules.toml: defaults, overrides and lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from wagi.errors import ConfigurationError
from wagi.routemap.entries import RouteMap
from wagi.routemap.location import Location
from wagi.routemap.modules_toml import read_modules_toml
from wagi.routemap.toml_document import TomlDocument

TEXT = """\
default_host = "example.com"
[defaults]
environment = {A = "defaults", B = "defaults"}
timeout = 0
memory_limit = "1MiB"

[[module]]
route = "/a"
module = "a.wasm"

[[module]]
route = "/b"
module = "b.wasm"
timeout = 5
environment.B = "entry"
"""


def read(folder: Path, text: str = TEXT) -> RouteMap:
    path = folder / "modules.toml"
    path.write_text(text)
    return read_modules_toml(TomlDocument.read(path))


def test_an_entry_overrides_defaults(tmp_path: Path) -> None:
    first, second = read(tmp_path).modules
    assert (first.limits.timeout, second.limits.timeout) == (None, 5)
    assert (first.limits.memory_limit, second.limits.memory_limit) == (1 << 20, 1 << 20)
    assert first.environment == {"A": "defaults", "B": "defaults"}
    assert second.environment == {"A": "defaults", "B": "entry"}


def test_locations(tmp_path: Path) -> None:
    """A key of [defaults] is reported at the entry for which it is invalid."""
    found = read(tmp_path)
    path = tmp_path / "modules.toml"
    first, second = found.modules
    header = Location(path, 7, column=1, width=10, source="[[module]]")
    route = Location(path, 8, column=9, width=4, source='route = "/a"')
    assert (first.location(), first.location("route")) == (header, route)
    assert first.location("memory_limit") == header
    assert second.location("timeout").line == 14
    assert second.location("environment").line == 15
    assert (found.location, found.folder) == (Location(path), tmp_path)
    assert (found.default_host, found.listen) == ("example.com", None)


def test_all_mistakes_are_reported_in_the_order_of_their_lines(tmp_path: Path) -> None:
    text = TEXT.replace("timeout = 5", 'timeout = "5"').replace('route = "/a"', "route = 1")
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, f"{text}rout = 1\n")
    assert [(problem.line, problem.message) for problem in caught.value.problems] == [
        (8, "route: expected a string, found 1"),
        (14, "timeout: expected seconds as a number, found '5'"),
        (16, "unknown key 'rout': did you mean 'route'?"),
    ]
