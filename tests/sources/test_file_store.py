"""Copies of files for guests."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import write_files
from wagi.errors import WagiError
from wagi.sources.file_store import FileStore

pytestmark = pytest.mark.fast


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileStore]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = FileStore()
    yield store
    store.remove()
    assert not list(tmp_path.glob("wagi-files-*"))


def test_a_copy_does_not_change(tmp_path: Path, store: FileStore) -> None:
    write_files(tmp_path, {"a.txt": "one"})
    files = {"x/y.txt": tmp_path / "a.txt"}
    first = store.copy(files)
    write_files(tmp_path, {"a.txt": "two"})
    second = store.copy(files)
    assert (first / "x/y.txt").read_text() == "one"
    assert (second / "x/y.txt").read_text() == "two"
    assert second.stat().st_mode & 0o077 == 0
    changed = (tmp_path / "a.txt").stat().st_mtime_ns
    assert (second / "x/y.txt").stat().st_mtime_ns == changed


def test_equal_files_are_kept_once(tmp_path: Path, store: FileStore) -> None:
    write_files(tmp_path, {"a.txt": "one", "b.txt": "one"})
    first = store.copy({"x": tmp_path / "a.txt"})
    assert store.copy({"x": tmp_path / "b.txt"}) == first
    assert store.copy({"y": tmp_path / "a.txt"}) != first
    assert len(list(first.parent.iterdir())) == 2


def test_there_is_no_directory_before_it_is_needed(tmp_path: Path, store: FileStore) -> None:
    assert not list(tmp_path.iterdir())
    assert store.copy({}).is_dir()


def test_another_process_may_copy(tmp_path: Path, store: FileStore) -> None:
    """As the loader of a server does; the fixture checks that the copies are removed."""
    write_files(tmp_path, {"a.txt": "one"})
    process = multiprocessing.get_context("fork").Process(
        target=store.copy, args=({"x": tmp_path / "a.txt"},)
    )
    process.start()
    process.join()
    assert [path.read_text() for path in tmp_path.glob("wagi-files-*/*/x")] == ["one"]


def test_what_cannot_be_copied_is_named(tmp_path: Path, store: FileStore) -> None:
    with pytest.raises(WagiError, match=r"cannot copy .*/none: No such file or directory"):
        store.copy({"x": tmp_path / "none"})
    with pytest.raises(WagiError, match="cannot copy"):
        store.copy({"x" * 300: tmp_path})
