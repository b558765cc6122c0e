"""Files are opened inside of their directory only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import write_files
from wagi.static.folder import Folder, NoFileError

pytestmark = pytest.mark.fast


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    write_files(
        tmp_path,
        {"public/a.txt": "a", "public/sub/b.txt": "b", "secret": "s", "public-2/c": "c"},
    )
    with Folder(tmp_path / "public") as folder:
        yield folder


def read(folder: Folder, path: str) -> bytes:
    with folder.find(path) as found:
        descriptor = found.open()
        try:
            return os.read(descriptor, 100)
        finally:
            os.close(descriptor)


def test_files_and_folders(folder: Folder) -> None:
    assert (read(folder, "a.txt"), read(folder, "sub/b.txt")) == (b"a", b"b")
    for path, is_folder in {"": True, "sub": True, "a.txt": False}.items():
        with folder.find(path) as found:
            assert (found.is_folder, found.is_file) == (is_folder, not is_folder)
    assert folder.has("a.txt")
    assert not folder.has("b.txt")


@pytest.mark.parametrize(
    "path",
    ["b.txt", "a.txt/", "a.txt/x", "sub/x", "x" * 256, "x/" * 3000, "../secret", "/etc/passwd"],
)
def test_missing_files(folder: Folder, path: str) -> None:
    with pytest.raises(NoFileError):
        folder.find(path)


@pytest.mark.parametrize(
    ("target", "is_found"),
    [
        ("a.txt", True),
        ("sub/b.txt", True),
        ("sub/../a.txt", True),
        ("../public/a.txt", True),
        ("sub/link-to-link", True),
        ("../secret", False),
        ("../public-2/c", False),
        ("..", False),
        ("/etc/passwd", False),
        ("/proc/self/cwd", False),
        ("/dev/zero", False),
        ("loop", False),
        ("missing", False),
    ],
)
def test_links(tmp_path: Path, folder: Folder, target: str, is_found: bool) -> None:
    (tmp_path / "public/sub/link-to-link").symlink_to("../a.txt")
    (tmp_path / "public/loop").symlink_to("loop")
    (tmp_path / "public/link").symlink_to(target)
    if is_found:
        assert read(folder, "link") in (b"a", b"b")
    else:
        with pytest.raises(NoFileError):
            folder.find("link")


def test_absolute_links_may_lead_inside(tmp_path: Path, folder: Folder) -> None:
    (tmp_path / "public/link").symlink_to(tmp_path / "public/sub")
    assert read(folder, "link/b.txt") == b"b"


def test_a_folder_that_is_moved_while_it_is_open(tmp_path: Path, folder: Folder) -> None:
    (tmp_path / "public").rename(tmp_path / "old")
    assert read(folder, "a.txt") == b"a"


def test_a_file_that_is_deleted_while_it_is_open(tmp_path: Path, folder: Folder) -> None:
    with folder.find("a.txt") as found:
        (tmp_path / "public/a.txt").unlink()
        descriptor = found.open()
        assert os.read(descriptor, 10) == b"a"
        os.close(descriptor)


def test_pipes_and_sockets_are_not_files(tmp_path: Path, folder: Folder) -> None:
    os.mkfifo(tmp_path / "public/pipe")
    with folder.find("pipe") as found:
        assert not found.is_file
        assert not found.is_folder


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("missing", "file"):
        with pytest.raises(NoFileError):
            Folder(tmp_path / name)


def test_the_root_directory() -> None:
    with Folder(Path("/")) as folder, folder.find("etc/passwd") as found:
        assert found.is_file


def test_no_descriptor_is_left(tmp_path: Path, folder: Folder) -> None:
    (tmp_path / "public/link").symlink_to("../secret")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for path in ("link", "missing"):
        with pytest.raises(NoFileError):
            folder.find(path)
    read(folder, "a.txt")
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
