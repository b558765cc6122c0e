"""Entries of route maps and their locations."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from wagi.errors import Problem
from wagi.routemap.entries import ModuleEntry
from wagi.routemap.location import Location

FILE = Path("modules.toml")


def test_a_location_in_a_file() -> None:
    location = Location(FILE, 3)
    assert str(location) == "line 3"
    assert location.problem("oops") == Problem("oops", FILE, 3, 2)
    assert location.problem("oops", exit_status=1) == Problem("oops", FILE, 3, 1)


def test_a_location_with_a_name() -> None:
    location = Location(FILE, 3, "container 'a'")
    assert str(location) == "container 'a', line 3"
    assert str(location.problem("oops")) == "modules.toml:3: container 'a': oops"


def test_a_whole_file() -> None:
    assert str(Location(FILE)) == "modules.toml"
    assert str(Location(FILE).problem("oops")) == "modules.toml: oops"


def test_foreign_files_are_never_the_users_mistake() -> None:
    location = Location(name="bindle:a/1", exit_status=1)
    assert location.problem("oops") == Problem("bindle:a/1: oops", exit_status=1)


def test_a_key_without_a_location_uses_that_of_its_entry() -> None:
    entry = ModuleEntry(route="/", module="m.wasm")
    located = entry.located(Location(FILE, 1), {"route": Location(FILE, 2)})
    assert located.model_dump() == entry.model_dump()
    assert (located.location("route"), located.location("module")) == (
        Location(FILE, 2),
        Location(FILE, 1),
    )
    assert located.location() == Location(FILE, 1)
    assert entry.location() == Location()


def test_a_volume_is_a_path_or_a_table() -> None:
    values = {"/a": "data", "/b": {"path": "data", "readonly": True}}
    entry = ModuleEntry.model_validate({"route": "/", "module": "m.wasm", "volumes": values})
    assert [(v.path, v.readonly) for v in entry.volumes.values()] == [
        ("data", False),
        ("data", True),
    ]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"sha256": "0" * 63}, "expected 64 lowercase hex digits"),
        ({"sha256": "A" * 64}, "expected 64 lowercase hex digits"),
        ({"module": ""}, "expected a non-empty string"),
        ({"module": "a\0"}, "must not contain a NUL byte"),
        ({"volumes": {"": "data"}}, "the path of a directory in the guest cannot be ''"),
        ({"environment": {"A=B": ""}}, "expected the name of a variable"),
    ],
)
def test_invalid_values(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModuleEntry.model_validate({"route": "/", "module": "m.wasm", **keys})


def test_a_digest() -> None:
    assert ModuleEntry(route="/", module="m", sha256="0a" * 32).sha256 == "0a" * 32
