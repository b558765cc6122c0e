"""``wasi_unstable``, the snapshot before ``wasi_snapshot_preview1``, which old modules import.

Most functions did not change: their imports are renamed. The four functions whose parameters or
structures changed are implemented here.
"""

from __future__ import annotations

import os
from struct import Struct

from wagi.guest.capi.linker import Linker, Waiting
from wagi.guest.errno import EINVAL
from wagi.guest.wasi.abi import PREVIEW1, UNSTABLE, Whence, filetype_of
from wagi.guest.wasi.context import WasiContext
from wagi.guest.wasi.descriptors import Stream
from wagi.guest.wasi.fd_calls import seek
from wagi.guest.wasi.path_calls import path_status
from wagi.guest.wasi.poll import Layout, poll

_TRANSLATED = frozenset(("fd_seek", "fd_filestat_get", "path_filestat_get", "poll_oneoff"))
_LAYOUT = Layout(size=56, clock=24)
_WHENCE = {0: Whence.CUR, 1: Whence.END, 2: Whence.SET}
_FILESTAT = Struct("<QQB3xIQQQQ")
"""The old ``filestat``, 56 bytes::

    offset  size  field
    0       8     dev
    8       8     ino
    16      1     filetype
    20      4     nlink: 8 bytes in preview 1
    24      8     size
    32      8     atim
    40      8     mtim
    48      8     ctim
"""


def rename(module: str, name: str) -> str:
    """Return the module name under which the linker defines an import of a guest."""
    return PREVIEW1 if module == UNSTABLE and name not in _TRANSLATED else module


def define(linker: Linker) -> None:
    """Define the functions that differ from preview 1."""
    linker.define(UNSTABLE, "fd_seek", "IQII", fd_seek)
    linker.define(UNSTABLE, "fd_filestat_get", "II", fd_filestat_get)
    linker.define(UNSTABLE, "path_filestat_get", "IIIII", path_filestat_get)
    linker.define_async(UNSTABLE, "poll_oneoff", "IIII", poll_oneoff)


def fd_seek(wasi: WasiContext, fd: int, offset: int, whence: int, result: int) -> int:
    """Implement ``fd_seek`` with the old numbering of ``whence``."""
    if whence not in _WHENCE:
        return EINVAL
    return seek(wasi, fd, offset, _WHENCE[whence], result)


def fd_filestat_get(wasi: WasiContext, fd: int, result: int) -> int:
    """Implement ``fd_filestat_get`` with the old, shorter ``filestat``."""
    descriptor = wasi.descriptors.get(fd)
    if isinstance(descriptor, Stream):
        wasi.memory.write(result, bytes(_FILESTAT.size))
    else:
        wasi.memory.write(result, _pack(os.fstat(descriptor.number)))
    return 0


def path_filestat_get(
    wasi: WasiContext, fd: int, lookup: int, path: int, length: int, result: int
) -> int:
    """Implement ``path_filestat_get`` with the old, shorter ``filestat``."""
    wasi.memory.write(result, _pack(path_status(wasi, fd, lookup, path, length)))
    return 0


def _pack(status: os.stat_result) -> bytes:
    return _FILESTAT.pack(
        status.st_dev,
        status.st_ino,
        filetype_of(status.st_mode),
        min(status.st_nlink, 0xFFFFFFFF),
        status.st_size,
        max(0, status.st_atime_ns),
        max(0, status.st_mtime_ns),
        max(0, status.st_ctime_ns),
    )


def poll_oneoff(
    wasi: WasiContext, subscriptions: int, events: int, count: int, nevents: int
) -> Waiting:
    """Implement ``poll_oneoff`` with the old, longer ``subscription``."""
    return poll(_LAYOUT, wasi, subscriptions, events, count, nevents)
