"""What a snapshot depends on, and what it can see."""

from __future__ import annotations

from pathlib import Path

import pytest

from wagi.guest.snapshot.errors import SnapshotError
from wagi.guest.snapshot.program import Directory
from wagi.routemap.reader import read_route_map
from wagi.snapshots.request import SnapshotRequest, snapshot_request

pytestmark = pytest.mark.fast


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("app", "packages", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "app/handler.py").write_text("print()")
    (tmp_path / "packages/lib.py").write_text("")
    (tmp_path / "data/private.txt").write_text("private")
    return tmp_path


def request_of(folder: Path, snapshot: str = "true", more: str = "") -> SnapshotRequest:
    (folder / "modules.toml").write_text(f"""
        [[module]]
        route = "/"
        module = "python.wasm"
        argv = "python -B /app/handler.py ${{ARGS}}"
        volumes = {{"/app" = "app", "/data" = "data", "/packages" = "packages"}}
        snapshot = {snapshot}
        {more}
    """)
    route_map = read_route_map(folder / "modules.toml")
    return snapshot_request(route_map.modules[0], route_map, b"module", folder / "hidden")


def test_only_named_volumes_are_visible(folder: Path) -> None:
    """The volume of the script, those of packages and PYTHONPATH; the order is kept."""
    hidden = folder / "hidden"
    assert request_of(folder).program.directories == (
        Directory(folder / "app", "/app"),
        Directory(hidden, "/data"),
        Directory(hidden, "/packages"),
    )
    shown = Directory(folder / "packages", "/packages")
    request = request_of(folder, '{packages = ["/packages"]}')
    assert request.program.directories[2] == shown
    request = request_of(folder, more='environment = {PYTHONPATH = "/packages/x"}')
    assert request.program.directories[2] == shown


def test_only_variables_of_the_interpreter_are_visible(folder: Path) -> None:
    more = 'environment = {PYTHONPATH = "/packages", SECRET = "s"}'
    assert request_of(folder, more=more).program.variables == (("PYTHONPATH", "/packages"),)


def test_the_key_covers_what_is_visible(folder: Path) -> None:
    first = request_of(folder).key
    assert request_of(folder).key == first
    (folder / "data/private.txt").write_text("changed")
    (folder / "packages/lib.py").write_text("changed")
    assert request_of(folder).key == first
    keys = {
        request_of(folder, '{packages = ["/packages"]}').key,
        request_of(folder, '{request = "/"}').key,
        request_of(folder, '{request = "/x"}').key,
        request_of(folder, more='environment = {PYTHONUTF8 = "1"}').key,
    }
    (folder / "app/handler.py").write_text("print(1)")
    keys.add(request_of(folder).key)
    assert len(keys - {first}) == 5


def test_a_script_outside_of_volumes(folder: Path) -> None:
    with pytest.raises(SnapshotError, match="no volume of the entry contains /other"):
        request_of(folder, '{packages = ["/other"]}')
