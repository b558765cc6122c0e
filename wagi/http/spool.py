"""Spools request bodies in memory or in temporary files."""

from __future__ import annotations

import contextlib
import tempfile
from collections import deque
from dataclasses import dataclass
from typing import IO

_MEMORY_MAX = 1024 * 1024  # bytes of one body
_TOTAL_MEMORY_MAX = 32 * 1024 * 1024  # bytes of all bodies; beyond, new data goes to files
_READ_SIZE = 256 * 1024  # bytes that are read from a file at a time


class SpoolFull(Exception):
    """The spool has no space for more data. The message is the reason, for the log."""


@dataclass(slots=True)
class SpoolSpace:
    """The space for all spools of a worker.

    Attributes:
        total: Maximum size of all spools in bytes.
        used: Current size of all spools in bytes.
    """

    total: int
    used: int = 0


class Spool:
    """A first-in, first-out buffer that overflows into a temporary file.

    The first MiB stays in memory unless other spools use too much memory; further data goes to the
    file.

    Attributes:
        size: Number of bytes written.
        remaining: Number of bytes that have not been taken.
    """

    def __init__(self, space: SpoolSpace) -> None:
        """Create an empty spool.

        Args:
            space: The space that all spools of the worker share.
        """
        self._space = space
        self._pieces: deque[bytes] = deque()
        self._file: IO[bytes] | None = None
        self._is_rewound = False
        self.size = 0
        self.remaining = 0

    def write(self, data: bytes) -> None:
        """Append bytes. Must not be called after the first ``take``.

        Raises:
            SpoolFull: The shared space is used up, or the temporary file cannot be written.
        """
        space = self._space
        self.size += len(data)
        self.remaining += len(data)
        space.used += len(data)
        if space.used > space.total:
            raise SpoolFull("--spool-total is used up")
        fits = self.size <= _MEMORY_MAX and space.used <= _TOTAL_MEMORY_MAX
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
        """Return and remove the next bytes; empty at the end."""
        data = b""
        if self._pieces:
            data = self._pieces.popleft()
        elif self._file is not None:
            if not self._is_rewound:
                self._is_rewound = True
                self._file.seek(0)
            data = self._file.read(_READ_SIZE)
        self.remaining -= len(data)
        return data

    def close(self) -> None:
        """Free the space and delete the file."""
        self._space.used -= self.size
        self.size = self.remaining = 0
        self._pieces.clear()
        if self._file is not None:
            with contextlib.suppress(OSError):  # flushing to a full disk fails again
                self._file.close()
            self._file = None
