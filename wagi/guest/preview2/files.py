"""Open files and directories, and their streams, as resources of components.

They are descriptors of preview 1: both versions of WASI share the table of descriptors, its limit,
and the operations on paths.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from wagi.guest.errno import EBADF, EISDIR, ENOTDIR, GuestFault, errno_of
from wagi.guest.preview2.context import ComponentContext
from wagi.guest.preview2.file_errors import error_code
from wagi.guest.preview2.streams import (
    WRITE_MAX,
    InputStream,
    IoError,
    OutputStream,
    StreamClosedError,
    StreamFailedError,
)
from wagi.guest.wasi.abi import DIRENT, MAX_OFFSET
from wagi.guest.wasi.context import WaitReason
from wagi.guest.wasi.descriptors import Directory, File, Stream

_FIRST_ENTRY = 2  # cookie of the entry after "." and ".."


class FileError(IoError):
    """An error of a stream of a file.

    Attributes:
        code: The ``error-code`` of ``wasi:filesystem/types``.
    """

    def __init__(self, error: GuestFault | OSError) -> None:
        """Make the error for an exception."""
        self.code = error_code(error)
        text = error.strerror if isinstance(error, OSError) and error.strerror else "invalid"
        super().__init__(f"{text} (errno {errno_of(error)} of WASI)")


class Descriptor:
    """The resource ``descriptor``: an open file or directory.

    Streams use the file after the descriptor has been dropped; the last one closes it.
    """

    def __init__(self, guest: ComponentContext, number: int, is_preopen: bool = False) -> None:
        """Make a resource of a descriptor of preview 1.

        Args:
            guest: The guest.
            number: The descriptor.
            is_preopen: Whether it is a preopened directory, which stays open.
        """
        self.number = number
        self._descriptors = guest.descriptors
        self._uses = 2 if is_preopen else 1

    @property
    def file(self) -> File:
        """The file.

        Raises:
            GuestFault: EISDIR if this is a directory, as in wasmtime.
        """
        target = self.target
        if isinstance(target, Directory):
            raise GuestFault(EISDIR)
        return target

    @property
    def directory(self) -> Directory:
        """The directory.

        Raises:
            GuestFault: ENOTDIR if this is a file.
        """
        target = self.target
        if isinstance(target, File):
            raise GuestFault(ENOTDIR)
        return target

    @property
    def target(self) -> File | Directory:
        """The file or the directory.

        Raises:
            GuestFault: EBADF if a function of preview 1 has replaced it.
        """
        found = self._descriptors.get(self.number)
        if isinstance(found, Stream):
            raise GuestFault(EBADF)
        return found

    def use(self) -> Descriptor:
        """Keep it open until the matching call of ``close``."""
        self._uses += 1
        return self

    def close(self) -> None:
        """End one use; the last one closes the file or directory."""
        self._uses -= 1
        if self._uses == 0:
            with contextlib.suppress(GuestFault):  # closed by a function of preview 1
                self._descriptors.remove(self.number)


class _AlwaysReady:
    """The event of a file, which never waits."""

    @property
    def is_ready(self) -> bool:
        return True

    def wait_on(self, wait: WaitReason) -> None:
        """As ``Event.wait_on``."""


class FileInputStream(_AlwaysReady, InputStream):
    """Reads a file from an offset on."""

    def __init__(self, descriptor: Descriptor, offset: int) -> None:
        """Make a stream.

        Args:
            descriptor: The file.
            offset: Where to begin, in bytes.
        """
        self._descriptor = descriptor.use()
        self._offset = offset

    def read(self, length: int) -> bytes:
        """As ``InputStream.read``."""
        try:
            data = read_at(self._descriptor.file, length, self._offset)
        except (GuestFault, OSError) as error:
            raise StreamFailedError(FileError(error)) from None
        if not data:
            raise StreamClosedError
        self._offset += len(data)
        return data

    def close(self) -> None:
        """Release the file."""
        self._descriptor.close()


class FileOutputStream(_AlwaysReady, OutputStream):
    """Writes to a file, from an offset on or at its end."""

    def __init__(self, descriptor: Descriptor, offset: int | None) -> None:
        """Make a stream.

        Args:
            descriptor: The file.
            offset: Where to begin, in bytes; None to append.
        """
        self._descriptor = descriptor.use()
        self._offset = offset

    def check(self) -> int:
        """As ``OutputStream.check``."""
        return WRITE_MAX

    def write(self, data: bytes) -> None:
        """As ``OutputStream.write``."""
        view = memoryview(data)
        try:
            while view:
                written = write_at(self._descriptor.file, view, self._offset)
                view = view[written:]
                if self._offset is not None:
                    self._offset += written
        except (GuestFault, OSError) as error:
            raise StreamFailedError(FileError(error)) from None

    def close(self) -> None:
        """Release the file."""
        self._descriptor.close()


def read_at(file: File, length: int, offset: int) -> bytes:
    """Read bytes of a file.

    Raises:
        OSError: Reading failed.
    """
    return os.pread(file.number, length, offset) if offset <= MAX_OFFSET else b""


def write_at(file: File, data: memoryview, offset: int | None) -> int:
    """Write bytes to a file, and return their number.

    Args:
        file: The file.
        data: The bytes.
        offset: Where to write them; None to append them.

    Raises:
        OSError: Writing failed.
    """
    if offset is None:
        return os.pwritev(file.number, [data], 0, os.RWF_APPEND)
    return os.pwritev(file.number, [data], min(offset, MAX_OFFSET))


class DirectoryEntryStream:
    """The resource ``directory-entry-stream``: the entries of a directory."""

    def __init__(self, guest: ComponentContext, directory: Directory) -> None:
        """Open the directory again, so that each stream has a position of its own.

        Args:
            guest: The guest.
            directory: The directory.

        Raises:
            GuestFault: EMFILE if too many files are open.
            OSError: The directory cannot be read.
        """
        guest.descriptors.check_room()
        number = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory.number)
        opened = Directory(number, None, directory.readonly)
        self._descriptor = Descriptor(guest, guest.descriptors.add(opened))
        self._entries: Iterator[bytes] = filter(None, opened.listing.entries(_FIRST_ENTRY))

    def next(self) -> tuple[int, bytes] | None:
        """Return ``filetype`` and name of the next entry; None at the end.

        Raises:
            GuestFault: EILSEQ for a name that is not UTF-8.
            OSError: The directory cannot be read.
        """
        entry = next(self._entries, None)
        if entry is None:
            return None
        _, _, _, filetype = DIRENT.unpack_from(entry)
        return filetype, entry[DIRENT.size :]

    def close(self) -> None:
        """Close the directory."""
        self._descriptor.close()
