"""Whether a file has changed, where paths may contain symbolic links."""

from __future__ import annotations

import os
from pathlib import Path

_MAX_LINKS = 40  # followed in a path, as in Linux


def folders_of(path: Path) -> set[Path]:
    """List the folders that decide what a path leads to.

    Args:
        path: An absolute path.

    Returns:
        The folder of the file, and those of all symbolic links on the way, each without links.
    """
    folders: set[Path] = set()
    current, left = Path(path.anchor), list(path.parts[1:])
    links = 0
    while left:
        part = left.pop(0)
        if part == "..":
            current = current.parent
            continue
        entry = current / part
        if entry.is_symlink() and links < _MAX_LINKS:
            links += 1
            folders.add(current)
            target = entry.readlink()
            if target.is_absolute():
                current = Path(target.anchor)
            left = [part for part in target.parts if part != target.anchor] + left
        elif left and entry.is_dir():
            current = entry
        else:  # the file, or a part that does not exist yet
            break
    return folders | {current}


def version_of(path: Path) -> tuple[str, int, int, int] | None:
    """A value that differs after a change of what a path leads to; None if that does not exist."""
    try:
        status, target = path.stat(), os.path.realpath(path)
    except OSError:
        return None
    return target, status.st_ino, status.st_size, status.st_mtime_ns


def inode_of(path: Path) -> int | None:
    """A value that differs after a folder was replaced by another; None if it does not exist."""
    try:
        return path.stat().st_ino
    except OSError:
        return None
