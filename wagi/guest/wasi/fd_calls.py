"""Host calls on descriptors: the table, attributes and positions; ``io_calls`` reads and writes."""

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


# The table


def fd_close(wasi: WasiContext, fd: int) -> int:
    """Close a descriptor; its number may be given to the next file that is opened."""
    wasi.descriptors.remove(fd)
    return 0


def fd_renumber(wasi: WasiContext, source: int, target: int) -> int:
    """Put a descriptor in the place of another one, which is closed."""
    wasi.descriptors.renumber(source, target)
    return 0


def fd_prestat_get(wasi: WasiContext, fd: int, result: int) -> int:
    """Say that a descriptor is a preopened directory, and how long its path is."""
    descriptor = wasi.descriptors.get(fd)
    if not isinstance(descriptor, Directory) or descriptor.preopen is None:
        return EBADF
    wasi.memory.write(result, PRESTAT.pack(0, len(descriptor.preopen)))
    return 0


def fd_prestat_dir_name(wasi: WasiContext, fd: int, path: int, length: int) -> int:
    """Copy the path of a preopened directory into the guest."""
    descriptor = wasi.descriptors.get(fd)
    if not isinstance(descriptor, Directory) or descriptor.preopen is None:
        return ENOTDIR
    if len(descriptor.preopen) > length:
        return ENAMETOOLONG
    wasi.memory.write(path, descriptor.preopen)
    return 0


# Attributes


def fd_fdstat_get(wasi: WasiContext, fd: int, result: int) -> int:
    """Copy the type, the flags and the rights of a descriptor into the guest."""
    wasi.memory.write(result, wasi.descriptors.get(fd).fdstat())
    return 0


def fd_fdstat_set_flags(wasi: WasiContext, fd: int, value: int) -> int:
    """Set APPEND and NONBLOCK of a file."""
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
    """Copy the attributes of an open file into the guest."""
    wasi.memory.write(result, wasi.descriptors.get(fd).filestat())
    return 0


def fd_filestat_set_size(wasi: WasiContext, fd: int, size: int) -> int:
    """Cut or extend a file."""
    file = wasi.descriptors.get_as(File, fd)
    if file.readonly:
        return EPERM
    if size > MAX_OFFSET:
        return EINVAL
    os.ftruncate(file.number, size)
    return 0


def fd_filestat_set_times(
    wasi: WasiContext, fd: int, accessed: int, modified: int, value: int
) -> int:
    """Set the times of an open file or directory, in nanoseconds since 1970."""
    wanted = set_times_flags(value)
    target = _file_or_directory(wasi, fd)
    if target.readonly:
        return EPERM
    times = new_times(wanted, accessed, modified, os.fstat(target.number))
    os.utime(target.number, ns=times)
    return 0


def set_times_flags(value: int) -> Fstflags:
    """Read the flags with which times are set. Raises: GuestFault(EINVAL)."""
    wanted = flags(Fstflags, value)
    for both in (Fstflags.ATIM | Fstflags.ATIM_NOW, Fstflags.MTIM | Fstflags.MTIM_NOW):
        if wanted & both == both:
            raise GuestFault(EINVAL)
    return wanted


def new_times(
    wanted: Fstflags, accessed: int, modified: int, status: os.stat_result
) -> tuple[int, int]:
    """The times that a file is to have, in nanoseconds since 1970: given, now, or as they are."""
    now = time.time_ns()
    accesses = {Fstflags.ATIM: accessed, Fstflags.ATIM_NOW: now}
    modifications = {Fstflags.MTIM: modified, Fstflags.MTIM_NOW: now}
    return (
        accesses.get(wanted & (Fstflags.ATIM | Fstflags.ATIM_NOW), status.st_atime_ns),
        modifications.get(wanted & (Fstflags.MTIM | Fstflags.MTIM_NOW), status.st_mtime_ns),
    )


def fd_advise(wasi: WasiContext, fd: int, offset: int, length: int, advice: int) -> int:
    """Pass on how a file will be read."""
    if advice >= ADVICES:
        return EINVAL
    file = wasi.descriptors.get_as(File, fd)
    if length > MAX_OFFSET:
        return EINVAL
    # The numbers of WASI are in another order than those of POSIX.
    posix = (
        os.POSIX_FADV_NORMAL,
        os.POSIX_FADV_SEQUENTIAL,
        os.POSIX_FADV_RANDOM,
        os.POSIX_FADV_WILLNEED,
        os.POSIX_FADV_DONTNEED,
        os.POSIX_FADV_NOREUSE,
    )
    os.posix_fadvise(file.number, _signed(offset), length, posix[advice])
    return 0


def fd_allocate(wasi: WasiContext, fd: int, offset: int, length: int) -> int:
    """Not supported, as in wasmtime: not all systems can do it."""
    wasi.descriptors.get_as(File, fd)
    return ENOTSUP


# The position


def fd_seek(wasi: WasiContext, fd: int, offset: int, whence: int, result: int) -> int:
    """Move the position of a file."""
    return seek(wasi, fd, offset, enum(Whence, whence), result)


def seek(wasi: WasiContext, fd: int, offset: int, whence: Whence, result: int) -> int:
    """``fd_seek``, whatever numbers ``whence`` had."""
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
    """Copy the position of a file into the guest."""
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
