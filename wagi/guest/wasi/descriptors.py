"""The descriptor table of a guest: streams, files and directories by their numbers.

0 to 2 are the streams of the request and the response, then come the preopened directories, then
what the guest opens. All of them are alike: each may be closed, and ``fd_renumber`` may put any of
them in the place of any other.
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
"""Files and directories that a guest may have open: the descriptors of a worker are shared by all
its guests and connections."""
_ALL_RIGHTS = Rights((1 << 30) - 1)
# What wasmtime reports of a preopened directory: what the C libraries of guests expect.
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
    """A ``filestat`` of what stat(2) has said."""
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
        """Its ``fdstat``."""
        return _READABLE if self is Stream.STDIN else _WRITABLE

    def filestat(self) -> bytes:
        """Its ``filestat``: nothing is known."""
        return bytes(FILESTAT.size)

    def close(self) -> None:
        """Close it: the guest has no more use for it."""


class File:
    """An open file.

    Attributes:
        number: The descriptor of the system.
        position: Where the guest reads and writes next, in bytes.
        flags: APPEND and NONBLOCK; the latter has no effect on files.
        readonly: Whether it lies in a volume that the guest may only read.
    """

    def __init__(self, number: int, flags: Fdflags, access: Rights, readonly: bool) -> None:
        """Take over a descriptor of the system.

        Args:
            number: The descriptor.
            flags: As of ``path_open``.
            access: FD_READ and FD_WRITE, as it was opened.
            readonly: Whether it lies in a volume that the guest may only read.
        """
        self.number = number
        self.position = 0
        self.flags = flags
        self.readonly = readonly
        self._access = access

    def fdstat(self) -> bytes:
        """Its ``fdstat``. Raises: OSError."""
        rights = _ALL_RIGHTS
        if Rights.FD_READ not in self._access:
            rights &= ~(Rights.FD_READ | Rights.FD_READDIR)
        if Rights.FD_WRITE not in self._access:
            rights &= ~Rights.FD_WRITE
        filetype = filetype_of(os.fstat(self.number).st_mode)
        return FDSTAT.pack(filetype, self.flags, rights, rights)

    def filestat(self) -> bytes:
        """Its ``filestat``. Raises: OSError."""
        return pack_filestat(os.fstat(self.number))

    def close(self) -> None:
        """Close it."""
        os.close(self.number)


class Directory:
    """An open directory.

    Attributes:
        number: The descriptor of the system.
        preopen: Its path in the guest, if it is a preopened one.
        readonly: Whether the guest may only read it and what is below it.
        listing: Its entries.
    """

    def __init__(self, number: int, preopen: bytes | None, readonly: bool) -> None:
        """Take over a descriptor of the system."""
        self.number = number
        self.preopen = preopen
        self.readonly = readonly
        self.listing = Listing(number)

    def fdstat(self) -> bytes:
        """Its ``fdstat``."""
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
        """Its ``filestat``. Raises: OSError."""
        return pack_filestat(os.fstat(self.number))

    def close(self) -> None:
        """Close it."""
        self.listing.close()
        os.close(self.number)


_READABLE = FDSTAT.pack(Filetype.UNKNOWN, 0, Rights.FD_READ, Rights.FD_READ)
_WRITABLE = FDSTAT.pack(Filetype.UNKNOWN, 0, Rights.FD_WRITE, Rights.FD_WRITE)
Descriptor = Stream | File | Directory
_STREAMS: dict[int, Descriptor] = dict(enumerate(Stream))
D = TypeVar("D", File, Directory)


class DescriptorTable:
    """What a guest has open. All look-ups raise GuestFault(EBADF) for what is not."""

    def __init__(
        self, preopens: Sequence[Preopen], lose_stream: Callable[[int], None] = lambda fd: None
    ) -> None:
        """Open the preopened directories.

        Args:
            preopens: The directories.
            lose_stream: Is called with the number of a standard stream that is closed or replaced.

        Raises:
            EngineError: A directory cannot be opened.
        """
        self._lose_stream = lose_stream
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

    def get(self, fd: int) -> Descriptor:
        """What has this number."""
        try:
            return self._used[fd]
        except KeyError:
            raise GuestFault(EBADF) from None

    def get_as(self, kind: type[D], fd: int) -> D:
        """The file, or the directory, that has this number."""
        found = self._used.get(fd)
        if not isinstance(found, kind):
            raise GuestFault(EBADF)
        return found

    def check_room(self) -> None:
        """Raises: GuestFault(EMFILE) if the guest has too many files open."""
        if self._opened >= MAX_OPEN:
            raise GuestFault(EMFILE)

    def add(self, descriptor: File | Directory) -> int:
        """Give something that has been opened a number: one that was closed, or the next one."""
        self._opened += 1
        fd = max(self._free) if self._free else max(self._used, default=-1) + 1
        self._free.discard(fd)
        self._used[fd] = descriptor
        return fd

    def remove(self, fd: int) -> None:
        """Close what has this number."""
        descriptor = self.get(fd)
        self._forget(fd)
        self._close(descriptor)

    def renumber(self, source: int, target: int) -> None:
        """Close what has the number ``target``, and move what has the number ``source`` there."""
        descriptor, replaced = self.get(source), self.get(target)
        if source == target:
            return
        self._forget(source)
        self._forget(target)
        self._free.discard(target)
        self._used[target] = descriptor
        self._close(replaced)

    def _forget(self, fd: int) -> None:
        if isinstance(self._used.pop(fd), Stream):
            self._lose_stream(fd)
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
