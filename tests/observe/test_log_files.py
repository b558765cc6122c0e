"""Find and read logs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.server import write_files
from wagi.observe.log_files import (
    LogReader,
    log_path,
    logs_in,
    temporary_folders,
    temporary_name,
)

pytestmark = pytest.mark.fast


def add_log(folder: Path, route: str, text: str = "") -> Path:
    path = log_path(folder, route)
    write_files(path.parent, {path.name: text, "route": route})
    return path


def test_logs_by_their_routes(tmp_path: Path) -> None:
    expected = [add_log(tmp_path, route) for route in ("/", "/a/...", "/b")]
    write_files(tmp_path, {"other/route": "/c", "reload-problem.txt": "", "0/module.stderr": ""})
    found = logs_in(tmp_path)
    assert [log.route for log in found] == ["/", "/a/...", "/b"]
    assert [log.path for log in found] == expected
    assert logs_in(tmp_path / "absent") == []


def test_temporary_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the same route map, the newest first, without those of others."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    name = temporary_name("/srv/modules.toml")
    folders = [tmp_path / f"wagi-{name}-{number}" for number in range(3)]
    for number, folder in enumerate(folders):
        folder.mkdir()
        os.utime(folder, (number, number))
    (tmp_path / f"wagi-{temporary_name('/srv/other.toml')}-x").mkdir()
    (tmp_path / f"wagi-{name}-file").write_text("")
    (tmp_path / f"wagi-{name}-link").symlink_to("/")
    found = temporary_folders("/srv/modules.toml")
    assert [path for path in found if not path.is_symlink()] == folders[::-1]
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    assert temporary_folders("/srv/modules.toml") == []


def test_lines_that_are_added(tmp_path: Path) -> None:
    path = tmp_path / "module.stderr"
    reader = LogReader(path)
    assert reader.lines() == []
    path.write_bytes(b"one\ntw")
    assert reader.lines() == [b"one"]
    with path.open("ab") as file:
        file.write(b"o\n\xff\n")
    assert reader.lines() == [b"two", b"\xff"]
    assert reader.lines() == []
    path.write_bytes(b"new\n")  # truncated, and written again
    assert reader.lines() == [b"new"]
    reader.close()


def test_a_rotation(tmp_path: Path) -> None:
    """No line is lost, and none is read twice."""
    path, rotated = tmp_path / "module.stderr", tmp_path / "module.stderr.1"
    rotated.write_bytes(b"oldest\n")
    reader = LogReader(path)
    assert reader.lines() == [b"oldest"]
    assert reader.lines() == []
    path.write_bytes(b"a\n")
    assert reader.lines() == [b"a"]
    with path.open("ab") as file:
        file.write(b"b\n")
    path.replace(rotated)
    assert reader.lines() == [b"b"]
    path.write_bytes(b"c\n")
    assert reader.lines() == [b"c"]
    reader.close()
