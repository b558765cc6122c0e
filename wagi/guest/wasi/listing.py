"""The entries of a directory as ``fd_readdir`` returns them: read on, not read again.

A cookie is the position of an entry: 0 is ``.``, 1 is ``..``, the others follow in the order of the
file system. A guest lists a directory with many calls, each of which begins where the last one
ended; only one that goes back makes the directory be read from its beginning.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator

from wagi.guest.errno import EILSEQ, GuestFault
from wagi.guest.wasi.abi import DIRENT, Filetype, filetype_of

_KEPT = 64
"""Entries that are kept: the last one of a call is often cut, and the next call begins with it."""


class Listing:
    """The entries of one open directory."""

    def __init__(self, number: int) -> None:
        """Args: number: The descriptor of the system, which stays the caller's."""
        self._number = number
        self._iterator: os._ScandirIterator[str] | None = None
        self._next = 0  # the cookie of the entry that is read next
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=_KEPT)

    def entries(self, cookie: int) -> Iterator[bytes]:
        """The entries from a cookie on, each as a ``dirent`` followed by its name.

        Yields an empty string for each entry that is skipped, so that the caller can suspend.
        Raises: OSError; GuestFault(EILSEQ) for a name that is not UTF-8.
        """
        oldest = self._kept[0][0] if self._kept else self._next
        if cookie == 0 or cookie < oldest:
            self.close()
        for position, entry in list(self._kept):
            if position >= cookie:
                yield entry
        while self._read():
            position, entry = self._kept[-1]
            yield entry if position >= cookie else b""

    def _read(self) -> bool:
        """Read the next entry, if there is one, and keep it."""
        if self._next < 2:
            inode = os.fstat(self._number).st_ino
            self._keep(inode, Filetype.DIRECTORY, b"." * (self._next + 1))
            return True
        if self._iterator is None:
            self._iterator = os.scandir(self._number)
        found = next(self._iterator, None)
        if found is None:
            return False
        try:
            name = found.name.encode()
        except UnicodeEncodeError:
            raise GuestFault(EILSEQ) from None
        self._keep(found.inode(), _filetype(found), name)
        return True

    def _keep(self, inode: int, filetype: Filetype, name: bytes) -> None:
        position = self._next
        self._next += 1
        self._kept.append((position, DIRENT.pack(self._next, inode, len(name), filetype) + name))

    def close(self) -> None:
        """Forget what has been read: the next call begins at the beginning."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None
        self._next = 0
        self._kept.clear()


def _filetype(entry: os.DirEntry[str]) -> Filetype:
    if entry.is_symlink():
        return Filetype.SYMBOLIC_LINK
    if entry.is_dir(follow_symlinks=False):
        return Filetype.DIRECTORY
    if entry.is_file(follow_symlinks=False):
        return Filetype.REGULAR_FILE
    return filetype_of(entry.stat(follow_symlinks=False).st_mode)
