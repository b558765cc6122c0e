"""Path resolution never leaves the directory at which a path starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from wagi.guest.errno import EINVAL, ELOOP, ENOENT, EPERM, GuestFault
from wagi.guest.wasi.paths import resolve

pytestmark = pytest.mark.fast

DESCRIPTORS = Path("/proc/self/fd")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """A directory next to a file that must not be accessible."""
    (tmp_path / "secret").write_text("secret")
    inside = tmp_path / "root"
    (inside / "a" / "b").mkdir(parents=True)
    (inside / "file").write_text("file")
    for name, target in {
        "to-file": "file",
        "to-b": "a/b",
        "out": "../secret",
        "deep-out": "a/../../secret",
        "absolute": "/etc/passwd",
        "self": "self",
        "a/up": "../file",
    }.items():
        (inside / name).symlink_to(target)
    number = os.open(inside, os.O_RDONLY)
    yield number
    os.close(number)


def location_of(root: int, path: bytes, follow: bool = False) -> tuple[str, bytes, bool]:
    """Return the parent below the root, the name in it, and whether it must be a directory."""
    top = path_of(root)
    with resolve(root, path, follow) as location:
        parent = path_of(location.parent).relative_to(top)
        return str(parent), location.name, location.must_be_directory


def path_of(descriptor: int) -> Path:
    return DESCRIPTORS.joinpath(str(descriptor)).readlink()


@pytest.mark.parametrize(
    ("path", "follow", "expected"),
    [
        (b"file", False, (".", b"file", False)),
        (b"missing", True, (".", b"missing", False)),
        (b"./a//b", False, ("a", b"b", False)),
        (b"a/b/", False, ("a", b"b", True)),
        (b"a/b/..", False, ("a", b".", False)),
        (b"a/../file", False, (".", b"file", False)),
        (b"to-file", False, (".", b"to-file", False)),
        (b"to-file", True, (".", b"file", False)),
        (b"to-b/new", False, ("a/b", b"new", False)),
        (b"to-b/..", False, ("a", b".", False)),
        (b"a/up", True, (".", b"file", False)),
        (b".", False, (".", b".", False)),
    ],
)
def test_resolved_location(
    root: int, path: bytes, follow: bool, expected: tuple[str, bytes, bool]
) -> None:
    assert location_of(root, path, follow) == expected


@pytest.mark.parametrize(
    ("path", "follow", "errno"),
    [
        (b"", False, ENOENT),
        (b"a\0b", False, EINVAL),
        (b"/file", False, EPERM),
        (b"..", False, EPERM),
        (b"a/../../secret", False, EPERM),
        (b"out", True, EPERM),
        (b"deep-out", True, EPERM),
        (b"absolute", True, EPERM),
        (b"out/x", False, EPERM),
        (b"self", True, ELOOP),
        (b"a/../" * 5000 + b"file", False, ELOOP),
    ],
)
def test_rejected_paths(root: int, path: bytes, follow: bool, errno: int) -> None:
    with pytest.raises(GuestFault) as fault:
        location_of(root, path, follow)
    assert fault.value.errno == errno


def test_slash_after_a_link(root: int) -> None:
    """The link is followed, unless the caller creates or renames the entry."""
    assert location_of(root, b"to-b/") == ("a", b"b", True)
    with resolve(root, b"to-b/", follow=False, slash_follows=False) as location:
        assert (location.name, location.must_be_directory) == (b"to-b", True)


def test_directories_are_closed(root: int) -> None:
    before = len(list(DESCRIPTORS.iterdir()))
    for path in (b"a/b/x", b"to-b/../..", b"a/b/../../..", b"file/x", b"self/x"):
        with suppress(GuestFault, OSError):
            location_of(root, path)
    assert len(list(DESCRIPTORS.iterdir())) == before
