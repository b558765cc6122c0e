"""``wasi_unstable``, the snapshot before ``wasi_snapshot_preview1``, which old modules import.

Most functions are the same under another name: the import is renamed. Four have another layout:
those are translated here.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from wagi.guest.capi import Continuation, Linker
from wagi.guest.errno import EINVAL
from wagi.guest.hostcalls import WASI, Subscriptions, poll_with_layout

if TYPE_CHECKING:
    from wagi.guest.guest import Guest

UNSTABLE = "wasi_unstable"
_TRANSLATED = frozenset(("fd_seek", "fd_filestat_get", "path_filestat_get", "poll_oneoff"))
_SUBSCRIPTIONS = Subscriptions(size=56, clock_offset=24)
_WHENCE = {0: 1, 1: 2, 2: 0}  # current, end, start → start, current, end
_FILESTAT = Struct("<QQB7xQQQQQ")
_OLD_FILESTAT = Struct("<QQB3xIQQQQ")


def rename(module: str, name: str) -> str:
    """The module under which an import of a guest is to be found."""
    return WASI if module == UNSTABLE and name not in _TRANSLATED else module


def define(linker: Linker) -> None:
    """Put the translated functions into a linker."""
    linker.define(UNSTABLE, "fd_seek", "IQII", fd_seek)
    linker.define(UNSTABLE, "fd_filestat_get", "II", fd_filestat_get)
    linker.define(UNSTABLE, "path_filestat_get", "IIIII", path_filestat_get)
    linker.define_async(UNSTABLE, "poll_oneoff", "IIII", poll_oneoff)


def fd_seek(guest: Guest, fd: int, offset: int, whence: int, result: int) -> int:
    """``fd_seek`` with the numbers of ``whence`` in their old order."""
    if whence not in _WHENCE:
        return EINVAL
    return guest.files.call("fd_seek", fd, offset, _WHENCE[whence], result)


def fd_filestat_get(guest: Guest, fd: int, buffer: int) -> int:
    """``fd_filestat_get`` into the old, shorter structure."""
    return _filestat(guest, buffer, "fd_filestat_get", fd)


def path_filestat_get(
    guest: Guest, fd: int, flags: int, path: int, length: int, buffer: int
) -> int:
    """``path_filestat_get`` into the old, shorter structure."""
    return _filestat(guest, buffer, "path_filestat_get", fd, flags, path, length)


def _filestat(guest: Guest, buffer: int, name: str, *arguments: int) -> int:
    memory = guest.memory
    # wasmtime writes eight bytes more than the guest has room for: they are put back.
    saved = memory.read(buffer, _FILESTAT.size)
    errno = guest.files.call(name, *arguments, buffer)
    if errno == 0:
        *head, links, size, accessed, modified, changed = _FILESTAT.unpack(
            memory.read(buffer, _FILESTAT.size)
        )
        old = _OLD_FILESTAT.pack(
            *head, min(links, 0xFFFFFFFF), size, accessed, modified, changed
        )  # fmt: skip
        memory.write(buffer, old + saved[_OLD_FILESTAT.size :])
    return errno


def poll_oneoff(
    guest: Guest, subscriptions: int, events: int, count: int, nevents: int
) -> int | Continuation:
    """``poll_oneoff`` with the old, longer subscriptions."""
    return poll_with_layout(_SUBSCRIPTIONS, guest, subscriptions, events, count, nevents)
