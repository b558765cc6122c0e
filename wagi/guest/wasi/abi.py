"""Numbers and layouts of WASI preview 1.

https://github.com/WebAssembly/WASI/blob/wasi-0.1/preview1/docs.md
Everything is little-endian; ``x`` in a layout is a byte of padding.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from struct import Struct
from typing import TypeVar

from wagi.guest.errno import EINVAL, GuestFault

PREVIEW1 = "wasi_snapshot_preview1"
UNSTABLE = "wasi_unstable"


class Filetype(IntEnum):
    """``filetype``: what a descriptor or directory entry refers to."""

    UNKNOWN = 0
    BLOCK_DEVICE = 1
    CHARACTER_DEVICE = 2
    DIRECTORY = 3
    REGULAR_FILE = 4
    SOCKET_DGRAM = 5
    SOCKET_STREAM = 6
    SYMBOLIC_LINK = 7


class Rights(IntFlag):
    """``rights``: what a descriptor is good for."""

    FD_DATASYNC = 1 << 0
    FD_READ = 1 << 1
    FD_SEEK = 1 << 2
    FD_FDSTAT_SET_FLAGS = 1 << 3
    FD_SYNC = 1 << 4
    FD_TELL = 1 << 5
    FD_WRITE = 1 << 6
    FD_ADVISE = 1 << 7
    FD_ALLOCATE = 1 << 8
    PATH_CREATE_DIRECTORY = 1 << 9
    PATH_CREATE_FILE = 1 << 10
    PATH_LINK_SOURCE = 1 << 11
    PATH_LINK_TARGET = 1 << 12
    PATH_OPEN = 1 << 13
    FD_READDIR = 1 << 14
    PATH_READLINK = 1 << 15
    PATH_RENAME_SOURCE = 1 << 16
    PATH_RENAME_TARGET = 1 << 17
    PATH_FILESTAT_GET = 1 << 18
    PATH_FILESTAT_SET_SIZE = 1 << 19
    PATH_FILESTAT_SET_TIMES = 1 << 20
    FD_FILESTAT_GET = 1 << 21
    FD_FILESTAT_SET_SIZE = 1 << 22
    FD_FILESTAT_SET_TIMES = 1 << 23
    PATH_SYMLINK = 1 << 24
    PATH_REMOVE_DIRECTORY = 1 << 25
    PATH_UNLINK_FILE = 1 << 26
    POLL_FD_READWRITE = 1 << 27
    SOCK_SHUTDOWN = 1 << 28
    SOCK_ACCEPT = 1 << 29


class Fdflags(IntFlag):
    """``fdflags``: how a descriptor reads and writes."""

    APPEND = 1
    DSYNC = 2
    NONBLOCK = 4
    RSYNC = 8
    SYNC = 16


class Oflags(IntFlag):
    """``oflags``: how ``path_open`` opens."""

    CREAT = 1
    DIRECTORY = 2
    EXCL = 4
    TRUNC = 8


class Lookupflags(IntFlag):
    """``lookupflags``: how a path is resolved."""

    SYMLINK_FOLLOW = 1


class Fstflags(IntFlag):
    """``fstflags``: which times are set."""

    ATIM = 1
    ATIM_NOW = 2
    MTIM = 4
    MTIM_NOW = 8


class Subclockflags(IntFlag):
    """``subclockflags``: how the timeout of a clock subscription is read."""

    ABSTIME = 1


class Clockid(IntEnum):
    """``clockid``."""

    REALTIME = 0
    MONOTONIC = 1
    PROCESS_CPUTIME = 2
    THREAD_CPUTIME = 3


class Eventtype(IntEnum):
    """``eventtype``: what a subscription of ``poll_oneoff`` waits for."""

    CLOCK = 0
    FD_READ = 1
    FD_WRITE = 2


class Whence(IntEnum):
    """``whence``: what an offset of ``fd_seek`` is relative to."""

    SET = 0
    CUR = 1
    END = 2


_FILETYPES = {
    0o060000: Filetype.BLOCK_DEVICE,
    0o020000: Filetype.CHARACTER_DEVICE,
    0o040000: Filetype.DIRECTORY,
    0o100000: Filetype.REGULAR_FILE,
    0o140000: Filetype.SOCKET_STREAM,
    0o120000: Filetype.SYMBOLIC_LINK,
}  # a FIFO has no code


def filetype_of(mode: int) -> Filetype:
    """The type in the mode of a file, as of stat(2)."""
    return _FILETYPES.get(mode & 0o170000, Filetype.UNKNOWN)


MAX_OFFSET = (1 << 63) - 1  # bytes; of off_t
ADVICES = 6  # values of ``advice``, from 0
SIGNALS = 31  # values of ``signal``, from 0

FDSTAT = Struct("<BxH4xQQ")  # filetype, flags, rights base, rights inheriting
FILESTAT = Struct("<QQB7xQQQQQ")  # dev, ino, filetype, nlink, size, atim, mtim, ctim
PRESTAT = Struct("<B3xI")  # tag (0: directory), length of the name
DIRENT = Struct("<QQIB3x")  # next cookie, ino, length of the name, filetype
EVENT = Struct("<QHB5xQH6x")  # userdata, errno, type, bytes, flags

F = TypeVar("F", bound=IntFlag)
E = TypeVar("E", bound=IntEnum)


def flags(kind: type[F], value: int) -> F:
    """Read flags. Raises: GuestFault(EINVAL) if there are unknown ones."""
    known = kind(value)
    if int(known) != value or value > max(kind) * 2 - 1:
        raise GuestFault(EINVAL)
    return known


def enum(kind: type[E], value: int) -> E:
    """Read an enumeration. Raises: GuestFault(EINVAL) for an unknown value."""
    try:
        return kind(value)
    except ValueError:
        raise GuestFault(EINVAL) from None
