"""spin.toml: what is honoured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.route_maps import DIGEST, SPIN_1, by_route, read_spin
from wagi.cgi.spin import SpinRoute
from wagi.errors import ConfigurationError
from wagi.routemap.location import Location
from wagi.routemap.reader import find_route_map, read_route_map
from wagi.sources.file_mounts import FileMount, FileMounts

pytestmark = pytest.mark.fast


def place_of(location: Location) -> Location:
    """The location without the excerpt of its line."""
    return replace(location, column=0, width=1, source="")


def test_exact_routes_come_first_then_the_longest(tmp_path: Path) -> None:
    """Each with the base; their order in the file does not count."""
    found = read_spin(tmp_path)
    assert [entry.route for entry in found.modules] == [
        "/app/first", "/app/longer/path/...", "/app/longer/...", "/app/...",
    ]  # fmt: skip
    assert (found.folder, found.location) == (tmp_path, Location(tmp_path / "spin.toml"))
    assert found.warnings == ()


def test_everything_that_is_honoured(tmp_path: Path) -> None:
    entry = by_route(tmp_path)["/app/..."]
    assert entry.module == str(tmp_path / "target/first.wasm")
    assert (entry.entrypoint, entry.argv) == ("main", "prog ${ARGS}")
    assert entry.environment == {"GREETING": "hi"}
    assert entry.allowed_hosts == ["https://a.example:443", "b.example"]
    assert entry.build == "cd 'native code' && make all"
    assert entry.watch == ["native code/src/**/*.c", "native code/Makefile"]
    assert entry.files == FileMounts(
        (FileMount("images/**/*.png"), FileMount("./static", "/")), ("**/secret",)
    )
    assert entry.volumes == {}


def test_limits_are_in_the_table_of_a_tool(tmp_path: Path) -> None:
    """Those of a component override those of the application."""
    entries = by_route(tmp_path)
    first, second = entries["/app/..."], entries["/app/longer/path/..."]
    assert (first.limits.memory_limit, first.limits.timeout) == (1 << 20, None)
    assert (second.limits.memory_limit, second.limits.timeout) == (256 << 20, 5)


def test_several_triggers_of_a_component(tmp_path: Path) -> None:
    entries = by_route(tmp_path)
    first, other = entries["/app/..."], entries["/app/first"]
    assert (first.module, first.files) == (other.module, other.files)
    assert (other.entrypoint, other.argv) == ("_start", None)


def test_the_routes_that_handlers_get(tmp_path: Path) -> None:
    """As they are written, without the base."""
    assert {route: entry.spin_route for route, entry in by_route(tmp_path).items()} == {
        "/app/...": SpinRoute("/app/", "/..."),
        "/app/first": SpinRoute("/app/", "/first/"),
        "/app/longer/...": SpinRoute("/app/", "/longer/*"),
        "/app/longer/path/...": SpinRoute("/app/", "/longer/path/..."),
    }


def test_a_url_with_its_digest(tmp_path: Path) -> None:
    entry = by_route(tmp_path)["/app/longer/path/..."]
    assert (entry.module, entry.sha256) == ("https://a.example/second.wasm", DIGEST)


def test_a_component_in_a_trigger(tmp_path: Path) -> None:
    entry = by_route(tmp_path)["/app/longer/..."]
    assert entry.module == str(tmp_path / "inline.wasm")
    assert place_of(entry.location()) == Location(
        tmp_path / "spin.toml", 36, "trigger.http '/longer/*': component"
    )


def test_locations(tmp_path: Path) -> None:
    """A key of an entry has another name in the file."""
    entry = by_route(tmp_path)["/app/first"]
    path, name = tmp_path / "spin.toml", "component 'first'"
    for key, line in {
        "route": 24, "entrypoint": 26, "module": 40, "files": 43, "allowed_hosts": 45, "build": 48,
        "memory_limit": 53, "timeout": 54, "header_limit": 52,
    }.items():  # fmt: skip
        assert place_of(entry.location(key)) == Location(path, line, name), key
    assert (entry.key_name("module"), entry.key_name("files")) == ("source", "files")
    assert entry.key_name("allowed_hosts") == "allowed_outbound_hosts"


def test_version_1(tmp_path: Path) -> None:
    first, second = read_spin(tmp_path, SPIN_1).modules
    assert (first.route, first.module) == ("/", str(tmp_path / "first.wasm"))
    assert (second.route, second.module) == ("/...", str(tmp_path / "second.wasm"))
    assert second.environment == {"GREETING": "hi"}
    assert second.allowed_hosts == [
        "http://b.example:80", "http://a.example:80", "https://a.example:443",
    ]  # fmt: skip
    assert second.files == FileMounts((FileMount("static/*"),))
    assert (second.build, second.watch) == ("npm install && npm run build", ["src"])
    assert second.spin_route == SpinRoute("/", "/...")
    assert place_of(second.location("route")) == Location(
        tmp_path / "spin.toml", 17, "component 'second'"
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('spin_version = "1"', 'spin_manifest_version = "1"'),
        ('trigger = { type = "http", base = "/" }', 'trigger = { type = "http" }'),
        (
            'trigger = { type = "http", base = "/" }\n',
            '[trigger]\ntype = "http"\nbase = "/"\n',
        ),
    ],
)
def test_spellings_of_version_1(tmp_path: Path, old: str, new: str) -> None:
    assert old in SPIN_1
    first, _ = read_spin(tmp_path, SPIN_1.replace(old, new)).modules
    assert first.route == "/"


@pytest.mark.parametrize(
    ("base", "route", "expected"),
    [
        ("/", "/", "/"),
        ("/", "/...", "/..."),
        ("/", "/a/", "/a"),
        ("/", "a", "/a"),
        ("", "/a", "/a"),
        ("/b", "/", "/b"),
        ("b/", "/...", "/b/..."),
        ("/b/c", "/a/*", "/b/c/a/..."),
    ],
)
def test_a_route_with_its_base(tmp_path: Path, base: str, route: str, expected: str) -> None:
    text = SPIN_1.replace('base = "/"', f'base = "{base}"')
    text = text.replace('route = "/..."', 'route = "/x/..."')
    text = text.replace('route = "/"', f'route = "{route}"')
    assert expected in by_route(tmp_path, text)


def test_the_file_is_recognized(tmp_path: Path) -> None:
    """By its name or by its version, whatever its name."""
    (tmp_path / "app.toml").write_text(SPIN_1)
    assert len(read_route_map(tmp_path / "app.toml").modules) == 2
    (tmp_path / "spin.toml").write_text("[[module]]\n")
    with pytest.raises(ConfigurationError, match="expected spin_manifest_version"):
        read_route_map(tmp_path / "spin.toml")


def test_a_directory(tmp_path: Path) -> None:
    assert find_route_map(tmp_path) == tmp_path / "modules.toml"
    (tmp_path / "spin.toml").touch()
    assert find_route_map(tmp_path) == tmp_path / "spin.toml"
    assert find_route_map(tmp_path / "spin.toml") == tmp_path / "spin.toml"
    (tmp_path / "modules.toml").touch()
    assert find_route_map(tmp_path) == tmp_path / "modules.toml"
