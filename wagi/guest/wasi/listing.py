"""Directory listings for ``fd_readdir``, which continue from call to call.

A cookie is the position of an entry: 0 is ``.``, 1 is ``..``, and the others follow in the order of
the file system. A guest lists a directory with many calls, each of which starts where the last one
ended. The directory is read again from its start only if a call goes back.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator

from wagi.guest.errno import EILSEQ, GuestFault
from wagi.guest.wasi.abi import DIRENT, Filetype, filetype_of

_CACHED_ENTRIES = 64
"""Number of recent entries that are cached: the last entry of a call is often truncated, and the
next call starts with it."""


class Listing:
    """The entries of one open directory."""

    def __init__(self, number: int) -> None:
        """Create a listing.

        Args:
            number: The host's descriptor of the directory; the caller keeps its ownership.
        """
        self._number = number
        self._iterator: os._ScandirIterator[str] | None = None
        self._next = 0  # cookie of the next entry to read
        self._cached: deque[tuple[int, bytes]] = deque(maxlen=_CACHED_ENTRIES)

    def entries(self, cookie: int) -> Iterator[bytes]:
        """Iterate over the entries from a cookie on.

        Args:
            cookie: The position of the first entry.

        Yields:
            Each entry as a ``dirent`` followed by its name; an empty string for each entry that is
            skipped, so that the caller can suspend the guest.

        Raises:
            OSError: If the directory cannot be read.
            GuestFault: EILSEQ for a name that is not UTF-8.
        """
        oldest = self._cached[0][0] if self._cached else self._next
        if cookie == 0 or cookie < oldest:
            self.close()
        for position, entry in list(self._cached):
            if position >= cookie:
                yield entry
        while self._read():
            position, entry = self._cached[-1]
            yield entry if position >= cookie else b""

    def _read(self) -> bool:
        """Read and cache the next entry; return False at the end."""
        if self._next < 2:
            inode = os.fstat(self._number).st_ino
            self._cache(inode, Filetype.DIRECTORY, b"." * (self._next + 1))
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
        self._cache(found.inode(), _filetype(found), name)
        return True

    def _cache(self, inode: int, filetype: Filetype, name: bytes) -> None:
        position = self._next
        self._next += 1
        self._cached.append((position, DIRENT.pack(self._next, inode, len(name), filetype) + name))

    def close(self) -> None:
        """Stop reading and discard cached entries; the next call starts from the beginning."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None
        self._next = 0
        self._cached.clear()


def _filetype(entry: os.DirEntry[str]) -> Filetype:
    if entry.is_symlink():
        return Filetype.SYMBOLIC_LINK
    if entry.is_dir(follow_symlinks=False):
        return Filetype.DIRECTORY
    if entry.is_file(follow_symlinks=False):
        return Filetype.REGULAR_FILE
    return filetype_of(entry.stat(follow_symlinks=False).st_mode)
