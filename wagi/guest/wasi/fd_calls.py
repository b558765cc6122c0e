"""Host calls on descriptors, except those that transfer data (``io_calls``)."""

from __future__ import annotations

import os
import time

from wagi.guest.capi.linker import Linker
from wagi.guest.errno import (
    EBADF,
    EINVAL,
    ENAMETOOLONG,
    ENOTDIR,
    ENOTSUP,
    EPERM,
    ESPIPE,
    GuestFault,
)
from wagi.guest.wasi.abi import (
    ADVICES,
    MAX_OFFSET,
    PRESTAT,
    PREVIEW1,
    Fdflags,
    Fstflags,
    Rights,
    Whence,
    enum,
    flags,
)
from wagi.guest.wasi.context import WasiContext
from wagi.guest.wasi.descriptors import Directory, File, Stream


def define(linker: Linker, module: str = PREVIEW1) -> None:
    """Add the functions to a linker."""
    for name, parameters, call in (
        ("fd_advise", "IQQI", fd_advise),
        ("fd_allocate", "IQQ", fd_allocate),
        ("fd_close", "I", fd_close),
        ("fd_fdstat_get", "II", fd_fdstat_get),
        ("fd_fdstat_set_flags", "II", fd_fdstat_set_flags),
        ("fd_fdstat_set_rights", "IQQ", fd_fdstat_set_rights),
        ("fd_filestat_get", "II", fd_filestat_get),
        ("fd_filestat_set_size", "IQ", fd_filestat_set_size),
        ("fd_filestat_set_times", "IQQI", fd_filestat_set_times),
        ("fd_prestat_get", "II", fd_prestat_get),
        ("fd_prestat_dir_name", "III", fd_prestat_dir_name),
        ("fd_renumber", "II", fd_renumber),
        ("fd_seek", "IQII", fd_seek),
        ("fd_tell", "II", fd_tell),
    ):
        linker.define(module, name, parameters, call)


# Descriptors


def fd_close(wasi: WasiContext, fd: int) -> int:
    """Close a descriptor; the next file that is opened can get its number."""
    wasi.descriptors.remove(fd)
    return 0


def fd_renumber(wasi: WasiContext, source: int, target: int) -> int:
    """Close the descriptor ``target``, and rename ``source`` to it."""
    wasi.descriptors.renumber(source, target)
    return 0


def fd_prestat_get(wasi: WasiContext, fd: int, result: int) -> int:
    """Write the ``prestat`` of a preopened directory (see ``abi.PRESTAT``)."""
    descriptor = wasi.descriptors.get(fd)
    if not isinstance(descriptor, Directory) or descriptor.preopen is None:
        return EBADF
    wasi.memory.write(result, PRESTAT.pack(0, len(descriptor.preopen)))
    return 0


def fd_prestat_dir_name(wasi: WasiContext, fd: int, path: int, length: int) -> int:
    """Write the path of a preopened directory."""
    descriptor = wasi.descriptors.get(fd)
    if not isinstance(descriptor, Directory) or descriptor.preopen is None:
        return ENOTDIR
    if len(descriptor.preopen) > length:
        return ENAMETOOLONG
    wasi.memory.write(path, descriptor.preopen)
    return 0


# Attributes


def fd_fdstat_get(wasi: WasiContext, fd: int, result: int) -> int:
    """Write the ``fdstat`` of a descriptor (see ``abi.FDSTAT``)."""
    wasi.memory.write(result, wasi.descriptors.get(fd).fdstat())
    return 0


def fd_fdstat_set_flags(wasi: WasiContext, fd: int, value: int) -> int:
    """Set the flags of a file; only APPEND and NONBLOCK can be changed."""
    wanted = flags(Fdflags, value)
    file = wasi.descriptors.get_as(File, fd)
    if wanted & (Fdflags.DSYNC | Fdflags.RSYNC | Fdflags.SYNC):
        return EINVAL
    file.flags = wanted
    return 0


def fd_fdstat_set_rights(wasi: WasiContext, fd: int, base: int, inheriting: int) -> int:
    """Not supported, as in wasmtime: rights were removed from later versions of WASI."""
    flags(Rights, base)
    flags(Rights, inheriting)
    _file_or_directory(wasi, fd)
    return ENOTSUP


def fd_filestat_get(wasi: WasiContext, fd: int, result: int) -> int:
    """Write the ``filestat`` of a descriptor (see ``abi.FILESTAT``)."""
    wasi.memory.write(result, wasi.descriptors.get(fd).filestat())
    return 0


def fd_filestat_set_size(wasi: WasiContext, fd: int, size: int) -> int:
    """Truncate or extend a file to ``size`` bytes."""
    resize(wasi.descriptors.get_as(File, fd), size)
    return 0


def resize(file: File, size: int) -> None:
    """Truncate or extend a file.

    Raises:
        GuestFault: EPERM in a read-only volume, EINVAL if the size is out of range.
        OSError: It failed.
    """
    if file.readonly:
        raise GuestFault(EPERM)
    if size > MAX_OFFSET:
        raise GuestFault(EINVAL)
    os.ftruncate(file.number, size)


def fd_filestat_set_times(
    wasi: WasiContext, fd: int, accessed: int, modified: int, value: int
) -> int:
    """Set the timestamps of an open file or directory, in nanoseconds since 1970."""
    wanted = set_times_flags(value)
    target = _file_or_directory(wasi, fd)
    if target.readonly:
        return EPERM
    times = new_times(wanted, accessed, modified, os.fstat(target.number))
    os.utime(target.number, ns=times)
    return 0


def set_times_flags(value: int) -> Fstflags:
    """Convert an integer to ``fstflags``.

    Raises:
        GuestFault: EINVAL for unknown or contradicting flags.
    """
    wanted = flags(Fstflags, value)
    for both in (Fstflags.ATIM | Fstflags.ATIM_NOW, Fstflags.MTIM | Fstflags.MTIM_NOW):
        if wanted & both == both:
            raise GuestFault(EINVAL)
    return wanted


def new_times(
    wanted: Fstflags, accessed: int, modified: int, status: os.stat_result
) -> tuple[int, int]:
    """Select the new timestamps of a file: the given one, the current time, or the old one.

    Args:
        wanted: The timestamps to change.
        accessed: The given access time, in nanoseconds since 1970.
        modified: The given modification time, in nanoseconds since 1970.
        status: The current attributes of the file.

    Returns:
        Access time and modification time, in nanoseconds since 1970.
    """
    now = time.time_ns()
    accesses = {Fstflags.ATIM: accessed, Fstflags.ATIM_NOW: now}
    modifications = {Fstflags.MTIM: modified, Fstflags.MTIM_NOW: now}
    return (
        accesses.get(wanted & (Fstflags.ATIM | Fstflags.ATIM_NOW), status.st_atime_ns),
        modifications.get(wanted & (Fstflags.MTIM | Fstflags.MTIM_NOW), status.st_mtime_ns),
    )


def fd_advise(wasi: WasiContext, fd: int, offset: int, length: int, advice: int) -> int:
    """Pass advice on the expected access to a file to the kernel (posix_fadvise)."""
    if advice >= ADVICES:
        return EINVAL
    file = wasi.descriptors.get_as(File, fd)
    if length > MAX_OFFSET:
        return EINVAL
    advise(file, _signed(offset), length, advice)
    return 0


def advise(file: File, offset: int, length: int, advice: int) -> None:
    """Pass advice to the kernel.

    Args:
        file: The file.
        offset: Offset of the range in bytes.
        length: Length of the range in bytes.
        advice: The ``advice`` of WASI, below ``ADVICES``.

    Raises:
        OSError: The kernel rejects it.
    """
    # WASI numbers the values of ``advice`` in another order than POSIX.
    posix = (
        os.POSIX_FADV_NORMAL,
        os.POSIX_FADV_SEQUENTIAL,
        os.POSIX_FADV_RANDOM,
        os.POSIX_FADV_WILLNEED,
        os.POSIX_FADV_DONTNEED,
        os.POSIX_FADV_NOREUSE,
    )
    os.posix_fadvise(file.number, offset, length, posix[advice])


def fd_allocate(wasi: WasiContext, fd: int, offset: int, length: int) -> int:
    """Not supported, as in wasmtime, since not all systems support it."""
    wasi.descriptors.get_as(File, fd)
    return ENOTSUP


# Position


def fd_seek(wasi: WasiContext, fd: int, offset: int, whence: int, result: int) -> int:
    """Move the offset of a file, and write the new offset."""
    return seek(wasi, fd, offset, enum(Whence, whence), result)


def seek(wasi: WasiContext, fd: int, offset: int, whence: Whence, result: int) -> int:
    """Implement ``fd_seek`` for both numberings of ``whence``."""
    file = _seekable(wasi, fd)
    origin = 0
    if whence is Whence.CUR:
        origin = file.position
    elif whence is Whence.END:
        origin = os.fstat(file.number).st_size
    position = origin + _signed(offset)
    if not 0 <= position < 1 << 64:
        return EINVAL
    wasi.memory.write_u64(result, position)
    file.position = position
    return 0


def _signed(offset: int) -> int:
    return offset - (1 << 64) if offset > MAX_OFFSET else offset


def fd_tell(wasi: WasiContext, fd: int, result: int) -> int:
    """Write the offset of a file."""
    wasi.memory.write_u64(result, _seekable(wasi, fd).position)
    return 0


def _seekable(wasi: WasiContext, fd: int) -> File:
    descriptor = wasi.descriptors.get(fd)
    if isinstance(descriptor, Stream):
        raise GuestFault(ESPIPE)
    if not isinstance(descriptor, File):
        raise GuestFault(EBADF)
    return descriptor


def _file_or_directory(wasi: WasiContext, fd: int) -> File | Directory:
    descriptor = wasi.descriptors.get(fd)
    if isinstance(descriptor, Stream):
        raise GuestFault(EBADF)
    return descriptor
