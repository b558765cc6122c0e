"""Path resolution that cannot leave the directory at which a path starts.

Each system call gets a single component, relative to a directory that is held open, and never
follows a symbolic link: links are read and resolved here. Another process that replaces a directory
or link during the walk can change which file is found, but cannot make the walk leave the
directory: ``..`` returns to the directory from which the walk came, and fails at the first one.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterator

from wagi.guest.errno import EINVAL, ELOOP, ENOENT, ENOTDIR, EPERM, GuestFault

_MAX_LINKS = 40  # as in Linux
_MAX_COMPONENTS = 4096
"""Maximum number of components, including those of links: each takes microseconds of the event
loop's time."""
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ResolvedPath:
    """The result of a path resolution.

    Attributes:
        parent: The host's descriptor of a directory.
        name: The name of an entry in it, or ``.`` for the directory itself; never a symbolic link
            that was to be followed.
        must_be_directory: Whether the path ends in a slash.
    """

    __slots__ = ("must_be_directory", "name", "parent")

    def __init__(self, parent: int, name: bytes, must_be_directory: bool) -> None:
        self.parent = parent
        self.name = name
        self.must_be_directory = must_be_directory

    def stat(self) -> os.stat_result:
        """Return the attributes of the entry; a symbolic link is not followed.

        Raises:
            OSError: If it does not exist.
            GuestFault: ENOTDIR if it must be a directory and is not.
        """
        status = os.stat(self.name, dir_fd=self.parent, follow_symlinks=False)
        if self.must_be_directory and not _is_directory(status):
            raise GuestFault(ENOTDIR)
        return status


@contextlib.contextmanager
def resolve(
    directory: int, path: bytes, follow: bool, slash_follows: bool = True
) -> Iterator[ResolvedPath]:
    """Resolve a path.

    Args:
        directory: The host's descriptor of the directory at which the path starts.
        path: The path, in UTF-8.
        follow: Whether to follow a symbolic link in the last component.
        slash_follows: Whether to follow it in any case if the path ends in a slash.

    Yields:
        The location; its last component need not exist. Its parent is closed afterwards.

    Raises:
        GuestFault: If the path is invalid, or would leave the directory (EPERM).
        OSError: If a directory cannot be opened.
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
        self._entered: list[int] = []  # directories below the root, each a child of the one before
        self._ahead: deque[bytes] = deque()  # components that remain
        self._links = 0

    @property
    def _here(self) -> int:
        return self._entered[-1] if self._entered else self._root

    def to(self, path: bytes) -> ResolvedPath:
        must_be_directory = self._prepend(path)
        name = b"."
        for _ in range(_MAX_COMPONENTS):
            if not self._ahead:
                return ResolvedPath(self._here, name, must_be_directory)
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
        """Insert a path before the remaining components; return whether it ends in ``name/``."""
        if path.startswith(b"/"):
            raise GuestFault(EPERM)
        components = [component for component in path.split(b"/") if component]
        self._ahead.extendleft(reversed(components))
        return path.endswith(b"/") and components[-1] not in (b".", b"..")

    def _read_link(self, name: bytes) -> bytes | None:
        """Return the target of a symbolic link; None if the entry is not a link or missing."""
        try:
            target = os.readlink(name, dir_fd=self._here)
        except OSError:
            return None
        self._links += 1
        if self._links > _MAX_LINKS:
            raise GuestFault(ELOOP)
        return target

    def _enter(self, name: bytes) -> None:
        """Enter a directory, or insert the target of a symbolic link."""
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
