"""Paths of a guest: walked so that they cannot leave the directory in which they begin.

The kernel never gets more than one component at a time, each relative to a directory that is held
open, and never follows a symbolic link: links are read and walked here, too. A directory or link
that another process exchanges meanwhile can change what is found, not where it may be: ``..`` goes
back to the directory from which the walk came, and above the first one there is nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterator

from wagi.guest.errno import EINVAL, ELOOP, ENOENT, ENOTDIR, EPERM, GuestFault

_MAX_LINKS = 40  # as in Linux
_MAX_COMPONENTS = 4096
"""Components in all, those of links included: each takes microseconds of the event loop's time."""
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Location:
    """Where a path leads.

    Attributes:
        parent: An open directory.
        name: The entry in it: never a symbolic link that the caller wanted to be followed, and
            ``.`` if the path leads to the directory itself.
        must_be_directory: Whether the path ends in a slash.
    """

    __slots__ = ("must_be_directory", "name", "parent")

    def __init__(self, parent: int, name: bytes, must_be_directory: bool) -> None:
        self.parent = parent
        self.name = name
        self.must_be_directory = must_be_directory

    def stat(self) -> os.stat_result:
        """The attributes of what is there. Raises: OSError, GuestFault."""
        status = os.stat(self.name, dir_fd=self.parent, follow_symlinks=False)
        if self.must_be_directory and not _is_directory(status):
            raise GuestFault(ENOTDIR)
        return status


@contextlib.contextmanager
def resolve(
    directory: int, path: bytes, follow: bool, slash_follows: bool = True
) -> Iterator[Location]:
    """Walk a path.

    Args:
        directory: Where it begins: an open directory, which it cannot leave.
        path: What the guest passed, UTF-8.
        follow: Whether a symbolic link in the last place is followed.
        slash_follows: Whether it is followed at any rate if the path ends in a slash.

    Yields:
        Where it leads; the last component need not exist. Its parent is closed afterwards.

    Raises:
        GuestFault: If the path is not valid, or would leave the directory (EPERM).
        OSError: If a component cannot be entered.
    """
    if not path:
        raise GuestFault(ENOENT)
    if b"\0" in path:
        raise GuestFault(EINVAL)
    walk = _Walk(directory, follow, slash_follows)
    try:
        yield walk.to(path)
    finally:
        walk.close()


class _Walk:
    def __init__(self, root: int, follow: bool, slash_follows: bool) -> None:
        self._root = root
        self._follow = follow
        self._slash_follows = slash_follows
        self._entered: list[int] = []  # the directories below the root, each in the one before
        self._ahead: deque[bytes] = deque()
        self._links = 0

    @property
    def _here(self) -> int:
        return self._entered[-1] if self._entered else self._root

    def to(self, path: bytes) -> Location:
        must_be_directory = self._prepend(path)
        name = b"."
        for _ in range(_MAX_COMPONENTS):
            if not self._ahead:
                return Location(self._here, name, must_be_directory)
            name = self._ahead.popleft()
            if name == b"..":
                if not self._entered:
                    raise GuestFault(EPERM)
                os.close(self._entered.pop())
                name = b"."
            elif name == b".":
                pass
            elif self._ahead:
                self._enter(name)
                name = b"."
            elif self._follow or (must_be_directory and self._slash_follows):
                target = self._read_link(name)
                if target is not None:
                    must_be_directory = self._prepend(target) or must_be_directory
                    name = b"."
        raise GuestFault(ELOOP)

    def _prepend(self, path: bytes) -> bool:
        """Put a path before what is ahead. Returns: whether it ends in a name with a slash."""
        if path.startswith(b"/"):
            raise GuestFault(EPERM)
        components = [component for component in path.split(b"/") if component]
        self._ahead.extendleft(reversed(components))
        return path.endswith(b"/") and components[-1] not in (b".", b"..")

    def _read_link(self, name: bytes) -> bytes | None:
        """The target of a symbolic link; None if it is not one, or nothing is there."""
        try:
            target = os.readlink(name, dir_fd=self._here)
        except OSError:
            return None
        self._links += 1
        if self._links > _MAX_LINKS:
            raise GuestFault(ELOOP)
        return target

    def _enter(self, name: bytes) -> None:
        """Go into a directory, or put what a symbolic link says before what is ahead."""
        try:
            self._entered.append(os.open(name, _DIRECTORY, dir_fd=self._here))
        except NotADirectoryError:
            target = self._read_link(name)
            if target is None:
                raise
            self._prepend(target)

    def close(self) -> None:
        while self._entered:
            os.close(self._entered.pop())


def _is_directory(status: os.stat_result) -> bool:
    return status.st_mode & 0o170000 == 0o040000
