"""Bytes of a request body that have been read ahead of its guest: in memory or in a file."""

from __future__ import annotations

import contextlib
import tempfile
from collections import deque
from dataclasses import dataclass
from typing import IO

_IN_MEMORY = 1024 * 1024  # bytes of one body
_ALL_IN_MEMORY = 32 * 1024 * 1024  # bytes of all bodies together above which new ones go to files
_READ_SIZE = 256 * 1024  # bytes that are taken from a file at a time


class SpoolFull(Exception):
    """There is no space for more; the message is the reason, for the log."""


@dataclass(slots=True)
class SpoolSpace:
    """The space for all spools of a worker.

    Attributes:
        total: Bytes that all of them together may hold.
        used: Bytes that they hold at this moment.
    """

    total: int
    used: int = 0


class Spool:
    """Holds bytes until they are taken, in order.

    The first MiB stays in memory unless other bodies need a lot of it; what follows goes to a
    temporary file.

    Attributes:
        size: Bytes that have been written to it.
        left: Bytes that have not been taken.
    """

    def __init__(self, space: SpoolSpace) -> None:
        """Make an empty spool.

        Args:
            space: Of all spools of the worker.
        """
        self._space = space
        self._pieces: deque[bytes] = deque()
        self._file: IO[bytes] | None = None
        self._is_rewound = False
        self.size = 0
        self.left = 0

    def write(self, data: bytes) -> None:
        """Add bytes; not after the first ``take``.

        Raises:
            SpoolFull: The total is used up, or the temporary folder has no space.
        """
        space = self._space
        self.size += len(data)
        self.left += len(data)
        space.used += len(data)
        if space.used > space.total:
            raise SpoolFull("--spool-total is used up")
        fits = self.size <= _IN_MEMORY and space.used <= _ALL_IN_MEMORY
        if self._file is None and fits:
            self._pieces.append(data)
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - see close
            self._file.write(data)
        except OSError as error:
            raise SpoolFull(f"the temporary folder: {error.strerror}") from None

    def take(self) -> bytes:
        """The next bytes, empty at the end."""
        data = b""
        if self._pieces:
            data = self._pieces.popleft()
        elif self._file is not None:
            if not self._is_rewound:
                self._is_rewound = True
                self._file.seek(0)
            data = self._file.read(_READ_SIZE)
        self.left -= len(data)
        return data

    def close(self) -> None:
        """Free it."""
        self._space.used -= self.size
        self.size = self.left = 0
        self._pieces.clear()
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk fails once more
                self._file.close()
            self._file = None
