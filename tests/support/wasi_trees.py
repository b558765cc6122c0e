"""Directories for tests of WASI's file functions, and snapshots of their state."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MANY = 300
"""Number of files in the directory ``many``."""
CHAIN = 45
"""Length of the chain of symbolic links from ``chain0``: more than Linux follows (40)."""
_PAST = 1_500_000_000 * 10**9
"""The modification time of all entries, in nanoseconds."""
_FUTURE = 4_000_000_000 * 10**9
"""The access time: with ``relatime``, the default of Linux, reading does not update an access time
that is later than the last change and less than a day old."""
_CONTENT_MAX = 1 << 20  # files may be sparse and of any size

_DIRECTORIES = ("dir", "dir/sub", "void", "raw")
_FILES = {
    "file.txt": b"The quick brown fox jumps over the lazy dog.\n",
    "empty": b"",
    "big.bin": bytes(range(256)) * 40,
    "dir/nested.txt": b"nested\n",
    "dir/sub/deep.txt": b"deep\n",
    "\u00fcn\u00efcode.txt": b"unicode\n",
}
_RAW_NAME = os.fsdecode(b"raw/\xff\xfe.txt")
_LINKS = {
    "link": "file.txt",
    "linkdir": "dir",
    "linkslash": "dir/",
    "linkfileslash": "file.txt/",
    "dangling": "nowhere",
    "absolute": "/etc/passwd",
    "escape": "../outside.txt",
    "escapedir": "..",
    "loop": "loop2",
    "loop2": "loop",
    "self": "self",
    "dot": ".",
    "dir/up": "../file.txt",
    "dir/sub/top": "../..",
}


def build(root: Path) -> None:
    """Create and fill the directory ``root``; all its entries have the same timestamps."""
    root.mkdir()
    for name in _DIRECTORIES:
        (root / name).mkdir()
    for name, content in _FILES.items():
        (root / name).write_bytes(content)
    (root / _RAW_NAME).write_bytes(b"raw\n")
    for name, target in _LINKS.items():
        (root / name).symlink_to(target)
    (root.parent / "outside.txt").write_bytes(b"not for guests\n")
    settle(root)


def add_large_directories(root: Path) -> None:
    """Add the directory ``many`` and the chain of links."""
    (root / "many").mkdir()
    for number in range(MANY):
        (root / "many" / f"entry-{number:03}").touch()
    for number in range(CHAIN):
        (root / f"chain{number}").symlink_to(f"chain{number + 1}")
    (root / f"chain{CHAIN}").write_bytes(b"end of the chain\n")
    settle(root)


def settle(root: Path) -> None:
    """Set the same timestamps on everything below ``root``, directories last."""
    for path in (*reversed(list(_walk(root))), root):
        os.utime(path, ns=(_FUTURE, _PAST), follow_symlinks=False)


def _walk(root: Path) -> Iterator[Path]:
    for path in sorted(root.iterdir()):
        yield path
        if not path.is_symlink() and path.is_dir():  # a link's target may be too long
            yield from _walk(path)


@dataclass(frozen=True, slots=True)
class Node:
    """The state of a path.

    Attributes:
        mode: Type and permissions.
        size: In bytes; 0 for directories, where it depends on the file system.
        content: Of a file of moderate size; the target of a symbolic link.
        links: Number of hard links.
        times: Times of the last access and modification, in nanoseconds.
    """

    mode: int
    size: int
    content: bytes
    links: int
    times: tuple[int, int]


def inspect(root: Path) -> dict[bytes, Node]:
    """Return a directory (as ``.``) and everything below it, by relative path."""
    return {os.fsencode(path.relative_to(root)): _node(path) for path in (root, *_walk(root))}


def _node(path: Path) -> Node:
    status = path.lstat()
    content = b""
    if stat.S_ISLNK(status.st_mode):
        content = os.fsencode(path.readlink())
    elif stat.S_ISREG(status.st_mode) and status.st_size <= _CONTENT_MAX:
        content = path.read_bytes()
    return Node(
        status.st_mode,
        0 if stat.S_ISDIR(status.st_mode) else status.st_size,
        content,
        status.st_nlink,
        (status.st_atime_ns, status.st_mtime_ns),
    )
