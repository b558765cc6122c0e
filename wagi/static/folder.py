"""Opens files of a directory, never outside of it.

A file is opened with ``O_PATH`` first, which has no effects on the file itself and needs no
permission to read it. Then the kernel names the path of what was opened (``/proc/self/fd``), which
no change of a symbolic link between two steps can affect. Only a file inside of the directory is
opened for reading, and it is the same file. So symbolic links may lead anywhere within the
directory, as those of a Kubernetes ConfigMap do, but not out of it.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from types import TracebackType

_PATH_ONLY = os.O_PATH | os.O_CLOEXEC
# A pipe that has become a file's successor must not block the worker.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_MISSING = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP))


class NoFileError(Exception):
    """There is no such file in the directory."""


class Found:
    """A file or directory that was found. Use it as a context manager, which closes it.

    Attributes:
        status: Its metadata.
    """

    __slots__ = ("_descriptor", "status")

    def __init__(self, descriptor: int, status: os.stat_result) -> None:
        self._descriptor = descriptor
        self.status = status

    @property
    def is_folder(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file, not a pipe, a socket or a device."""
        return stat.S_ISREG(self.status.st_mode)

    def open(self) -> int:
        """Open it for reading.

        Returns:
            A file descriptor, which the caller closes.

        Raises:
            OSError: It cannot be opened.
        """
        return os.open(f"/proc/self/fd/{self._descriptor}", _READ)

    def __enter__(self) -> Found:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


class Folder:
    """An open directory. Use it as a context manager, which closes it.

    Args:
        path: Its path, in which symbolic links are resolved now.

    Raises:
        NoFileError: It does not exist.
        OSError: It cannot be opened.
    """

    __slots__ = ("_descriptor", "_path")

    def __init__(self, path: Path) -> None:
        try:
            self._descriptor = os.open(path, _PATH_ONLY | os.O_DIRECTORY)
        except OSError as error:
            raise _missing(error) from None
        self._path = _path_of(self._descriptor)

    def find(self, path: str) -> Found:
        """Find a file or a directory.

        Args:
            path: The path below this directory; empty for the directory itself.

        Raises:
            NoFileError: It does not exist, or a symbolic link leads out of this directory.
            OSError: It cannot be opened.
        """
        try:
            descriptor = os.open(path.encode() or b".", _PATH_ONLY, dir_fd=self._descriptor)
        except OSError as error:
            raise _missing(error) from None
        try:
            if not self._contains(descriptor):
                raise NoFileError(f"{path} is outside of the directory")
            return Found(descriptor, os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise

    def has(self, path: str) -> bool:
        """Return whether a path exists, wherever symbolic links lead."""
        return os.access(path.encode(), os.F_OK, dir_fd=self._descriptor)

    def _contains(self, descriptor: int) -> bool:
        path = _path_of(descriptor)
        if path == self._path or path.startswith(self._path.rstrip("/") + "/"):
            return True
        # The directory may have been moved since it was opened.
        before, self._path = self._path, _path_of(self._descriptor)
        return self._path != before and self._contains(descriptor)

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


def _path_of(descriptor: int) -> str:
    """Return the path of an open file as the kernel knows it now."""
    return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - faster than pathlib


def _missing(error: OSError) -> Exception:
    """Return the exception for a file that cannot be opened."""
    return NoFileError(error.strerror) if error.errno in _MISSING else error
