"""The descriptor table of a guest: streams, files and directories by their numbers.

Descriptors 0 to 2 are the standard streams, followed by the preopened directories and by the files
and directories that the guest opens. All are treated alike: each can be closed, and ``fd_renumber``
can replace any descriptor by any other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from enum import Enum
from typing import TypeVar

from wagi.guest.errno import EBADF, EMFILE, GuestFault
from wagi.guest.handler import Preopen
from wagi.guest.outcome import EngineError
from wagi.guest.wasi.abi import FDSTAT, FILESTAT, Fdflags, Filetype, Rights, filetype_of
from wagi.guest.wasi.listing import Listing

MAX_OPEN = 128
"""Maximum number of files and directories that a guest can have open. All guests and connections of
a worker share the worker's descriptors."""
_ALL_RIGHTS = Rights((1 << 30) - 1)
# The rights that wasmtime reports for a preopened directory; the guests' C libraries expect them.
_PREOPEN_RIGHTS = (
    Rights.PATH_CREATE_DIRECTORY
    | Rights.PATH_CREATE_FILE
    | Rights.PATH_LINK_SOURCE
    | Rights.PATH_LINK_TARGET
    | Rights.PATH_OPEN
    | Rights.FD_READDIR
    | Rights.PATH_READLINK
    | Rights.PATH_RENAME_SOURCE
    | Rights.PATH_RENAME_TARGET
    | Rights.PATH_SYMLINK
    | Rights.PATH_REMOVE_DIRECTORY
    | Rights.PATH_UNLINK_FILE
    | Rights.PATH_FILESTAT_GET
    | Rights.PATH_FILESTAT_SET_TIMES
    | Rights.FD_FILESTAT_GET
    | Rights.FD_FILESTAT_SET_TIMES
)
_PREOPEN_INHERITING = (
    _PREOPEN_RIGHTS
    | Rights.FD_DATASYNC
    | Rights.FD_READ
    | Rights.FD_SEEK
    | Rights.FD_FDSTAT_SET_FLAGS
    | Rights.FD_SYNC
    | Rights.FD_TELL
    | Rights.FD_WRITE
    | Rights.FD_ADVISE
    | Rights.FD_ALLOCATE
    | Rights.FD_FILESTAT_SET_SIZE
    | Rights.POLL_FD_READWRITE
)


def pack_filestat(status: os.stat_result) -> bytes:
    """Convert a result of stat(2) to a ``filestat`` (see ``abi.FILESTAT``)."""
    return FILESTAT.pack(
        status.st_dev,
        status.st_ino,
        filetype_of(status.st_mode),
        status.st_nlink,
        status.st_size,
        max(0, status.st_atime_ns),
        max(0, status.st_mtime_ns),
        max(0, status.st_ctime_ns),
    )


class Stream(Enum):
    """A standard stream."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2

    def fdstat(self) -> bytes:
        """Return the packed ``fdstat``."""
        return _READABLE if self is Stream.STDIN else _WRITABLE

    def filestat(self) -> bytes:
        """Return the packed ``filestat``: all zeros, the type is unknown."""
        return bytes(FILESTAT.size)

    def close(self) -> None:
        """Do nothing: the gateway owns the stream."""


class File:
    """An open file.

    Attributes:
        number: The host's descriptor.
        position: The file offset, in bytes.
        flags: APPEND and NONBLOCK; the latter has no effect on files.
        access: FD_READ and FD_WRITE, according to the mode in which the file was opened.
        readonly: Whether the file is in a read-only volume.
    """

    def __init__(self, number: int, flags: Fdflags, access: Rights, readonly: bool) -> None:
        """Take ownership of a descriptor of the host.

        Args:
            number: The host's descriptor.
            flags: The ``fdflags`` of ``path_open``.
            access: FD_READ and FD_WRITE, according to the mode in which the file was opened.
            readonly: Whether the file is in a read-only volume.
        """
        self.number = number
        self.position = 0
        self.flags = flags
        self.readonly = readonly
        self.access = access

    def fdstat(self) -> bytes:
        """Return the packed ``fdstat``.

        Raises:
            OSError: If fstat(2) fails.
        """
        rights = _ALL_RIGHTS
        if Rights.FD_READ not in self.access:
            rights &= ~(Rights.FD_READ | Rights.FD_READDIR)
        if Rights.FD_WRITE not in self.access:
            rights &= ~Rights.FD_WRITE
        filetype = filetype_of(os.fstat(self.number).st_mode)
        return FDSTAT.pack(filetype, self.flags, rights, rights)

    def filestat(self) -> bytes:
        """Return the packed ``filestat``.

        Raises:
            OSError: If fstat(2) fails.
        """
        return pack_filestat(os.fstat(self.number))

    def close(self) -> None:
        """Close the host's descriptor."""
        os.close(self.number)


class Directory:
    """An open directory.

    Attributes:
        number: The host's descriptor.
        preopen: The path under which the guest sees it, if it is preopened.
        readonly: Whether the directory is in a read-only volume.
        listing: The entries.
    """

    def __init__(self, number: int, preopen: bytes | None, readonly: bool) -> None:
        """Take ownership of a descriptor of the host."""
        self.number = number
        self.preopen = preopen
        self.readonly = readonly
        self.listing = Listing(number)

    def fdstat(self) -> bytes:
        """Return the packed ``fdstat``."""
        if self.preopen is not None:
            return FDSTAT.pack(Filetype.DIRECTORY, 0, _PREOPEN_RIGHTS, _PREOPEN_INHERITING)
        rights = _ALL_RIGHTS & ~(
            Rights.FD_SEEK
            | Rights.FD_FILESTAT_SET_SIZE
            | Rights.PATH_FILESTAT_SET_SIZE
            | Rights.FD_WRITE
        )
        return FDSTAT.pack(Filetype.DIRECTORY, 0, rights, rights)

    def filestat(self) -> bytes:
        """Return the packed ``filestat``.

        Raises:
            OSError: If fstat(2) fails.
        """
        return pack_filestat(os.fstat(self.number))

    def close(self) -> None:
        """Close the listing and the host's descriptor."""
        self.listing.close()
        os.close(self.number)


_READABLE = FDSTAT.pack(Filetype.UNKNOWN, 0, Rights.FD_READ, Rights.FD_READ)
_WRITABLE = FDSTAT.pack(Filetype.UNKNOWN, 0, Rights.FD_WRITE, Rights.FD_WRITE)
Descriptor = Stream | File | Directory
_STREAMS: dict[int, Descriptor] = dict(enumerate(Stream))
D = TypeVar("D", File, Directory)


class DescriptorTable:
    """The open descriptors of a guest. Look-ups of others raise GuestFault(EBADF)."""

    def __init__(
        self, preopens: Sequence[Preopen], release_stream: Callable[[int], None] = lambda fd: None
    ) -> None:
        """Open the preopened directories.

        Args:
            preopens: The directories.
            release_stream: Called with the descriptor when a standard stream is closed or replaced.

        Raises:
            EngineError: If a directory cannot be opened.
        """
        self._release_stream = release_stream
        self._used: dict[int, Descriptor] = _STREAMS.copy()
        self._free: set[int] = set()
        self._opened = 0
        for preopen in preopens:
            try:
                number = os.open(preopen.host_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                self.close()
                what = f"the volume {preopen.host_path} cannot be opened: {error.strerror}"
                raise EngineError(what) from None
            directory = Directory(number, preopen.guest_path.encode(), preopen.readonly)
            self._used[len(self._used)] = directory

    def separate_from_bodies(self) -> None:
        """Close the standard input, and redirect the standard output to the standard error.

        For handlers of wasi:http, whose standard input and output are the bodies of request and
        response, which they access in another way.
        """
        for fd in (0, 1):
            self._release_stream(fd)
        del self._used[0]
        self._used[1] = Stream.STDERR

    def get(self, fd: int) -> Descriptor:
        """Return the stream, file or directory of a descriptor."""
        try:
            return self._used[fd]
        except KeyError:
            raise GuestFault(EBADF) from None

    def get_as(self, kind: type[D], fd: int) -> D:
        """Return the file, or the directory, of a descriptor.

        Args:
            kind: ``File`` or ``Directory``; a descriptor of another kind is EBADF.
            fd: The descriptor.
        """
        found = self._used.get(fd)
        if not isinstance(found, kind):
            raise GuestFault(EBADF)
        return found

    def preopens(self) -> list[tuple[int, bytes]]:
        """Return descriptor and path of each preopened directory that is open."""
        return [
            (number, found.preopen)
            for number, found in self._used.items()
            if isinstance(found, Directory) and found.preopen is not None
        ]

    def check_room(self) -> None:
        """Check that another file can be opened.

        Raises:
            GuestFault: EMFILE if ``MAX_OPEN`` files and directories are open.
        """
        if self._opened >= MAX_OPEN:
            raise GuestFault(EMFILE)

    def add(self, descriptor: File | Directory) -> int:
        """Add a file or directory.

        Returns:
            Its descriptor: the highest closed one, as in wasmtime, or else the next one.
        """
        self._opened += 1
        fd = max(self._free) if self._free else max(self._used, default=-1) + 1
        self._free.discard(fd)
        self._used[fd] = descriptor
        return fd

    def remove(self, fd: int) -> None:
        """Close a descriptor."""
        descriptor = self.get(fd)
        self._release(fd)
        self._close(descriptor)

    def renumber(self, source: int, target: int) -> None:
        """Close the descriptor ``target``, and rename ``source`` to it."""
        descriptor, replaced = self.get(source), self.get(target)
        if source == target:
            return
        self._release(source)
        self._release(target)
        self._free.discard(target)
        self._used[target] = descriptor
        self._close(replaced)

    def _release(self, fd: int) -> None:
        if isinstance(self._used.pop(fd), Stream):
            self._release_stream(fd)
        self._free.add(fd)

    def _close(self, descriptor: Descriptor) -> None:
        if isinstance(descriptor, File) or (
            isinstance(descriptor, Directory) and descriptor.preopen is None
        ):
            self._opened -= 1
        descriptor.close()

    def close(self) -> None:
        """Close everything."""
        for descriptor in self._used.values():
            descriptor.close()
        self._used.clear()
