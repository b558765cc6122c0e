"""Constants and structure layouts of WASI preview 1.

Source: https://github.com/WebAssembly/WASI/blob/wasi-0.1/preview1/docs.md
All values are little-endian. Offsets and sizes in the tables are in bytes.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from struct import Struct
from typing import TypeVar

from wagi.guest.errno import EINVAL, GuestFault

PREVIEW1 = "wasi_snapshot_preview1"
UNSTABLE = "wasi_unstable"


class Filetype(IntEnum):
    """``filetype``: the type of a descriptor or directory entry."""

    UNKNOWN = 0
    BLOCK_DEVICE = 1
    CHARACTER_DEVICE = 2
    DIRECTORY = 3
    REGULAR_FILE = 4
    SOCKET_DGRAM = 5
    SOCKET_STREAM = 6
    SYMBOLIC_LINK = 7


class Rights(IntFlag):
    """``rights``: the operations that a descriptor permits."""

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
    """``fdflags``: the status flags of a descriptor."""

    APPEND = 1
    DSYNC = 2
    NONBLOCK = 4
    RSYNC = 8
    SYNC = 16


class Oflags(IntFlag):
    """``oflags``: the open flags of ``path_open``."""

    CREAT = 1
    DIRECTORY = 2
    EXCL = 4
    TRUNC = 8


class Lookupflags(IntFlag):
    """``lookupflags``: how a path is resolved."""

    SYMLINK_FOLLOW = 1


class Fstflags(IntFlag):
    """``fstflags``: the timestamps that a call sets."""

    ATIM = 1
    ATIM_NOW = 2
    MTIM = 4
    MTIM_NOW = 8


class Subclockflags(IntFlag):
    """``subclockflags``: how the timeout of a clock subscription is interpreted."""

    ABSTIME = 1


class Clockid(IntEnum):
    """``clockid``: a clock."""

    REALTIME = 0
    MONOTONIC = 1
    PROCESS_CPUTIME = 2
    THREAD_CPUTIME = 3


class Eventtype(IntEnum):
    """``eventtype``: the type of a subscription or event of ``poll_oneoff``."""

    CLOCK = 0
    FD_READ = 1
    FD_WRITE = 2


class Whence(IntEnum):
    """``whence``: the position to which an offset of ``fd_seek`` is relative."""

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
}  # WASI has no file type for FIFOs


def filetype_of(mode: int) -> Filetype:
    """Convert the ``st_mode`` of stat(2) to a WASI file type."""
    return _FILETYPES.get(mode & 0o170000, Filetype.UNKNOWN)


MAX_OFFSET = (1 << 63) - 1  # bytes; the maximum of off_t
ADVICES = 6  # number of values of ``advice``, which start at 0
SIGNALS = 31  # number of values of ``signal``, which start at 0

FDSTAT = Struct("<BxH4xQQ")
"""``fdstat``, 24 bytes::

    offset  size  field
    0       1     fs_filetype
    2       2     fs_flags
    8       8     fs_rights_base
    16      8     fs_rights_inheriting
"""
FILESTAT = Struct("<QQB7xQQQQQ")
"""``filestat``, 64 bytes; times are nanoseconds since 1970::

    offset  size  field
    0       8     dev
    8       8     ino
    16      1     filetype
    24      8     nlink
    32      8     size
    40      8     atim
    48      8     mtim
    56      8     ctim
"""
PRESTAT = Struct("<B3xI")
"""``prestat``, 8 bytes::

    offset  size  field
    0       1     tag: 0 (directory)
    4       4     pr_name_len
"""
DIRENT = Struct("<QQIB3x")
"""``dirent``, 24 bytes, followed by the name without a NUL::

    offset  size  field
    0       8     d_next: cookie of the next entry
    8       8     d_ino
    16      4     d_namlen
    20      1     d_type
"""
EVENT = Struct("<QHB5xQH6x")
"""``event``, 32 bytes::

    offset  size  field
    0       8     userdata: copied from the subscription
    8       2     error: errno
    10      1     type: eventtype
    16      8     fd_readwrite.nbytes
    24      2     fd_readwrite.flags: eventrwflags
"""

F = TypeVar("F", bound=IntFlag)
E = TypeVar("E", bound=IntEnum)


def flags(kind: type[F], value: int) -> F:
    """Convert an integer to flags.

    Raises:
        GuestFault: EINVAL if unknown bits are set.
    """
    known = kind(value)
    if int(known) != value or value > max(kind) * 2 - 1:
        raise GuestFault(EINVAL)
    return known


def enum(kind: type[E], value: int) -> E:
    """Convert an integer to an enumeration.

    Raises:
        GuestFault: EINVAL for an unknown value.
    """
    try:
        return kind(value)
    except ValueError:
        raise GuestFault(EINVAL) from None
