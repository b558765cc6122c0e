"""Host calls on paths: ``path_*``. Every path is relative to an open directory of the guest."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from wagi.guest.capi.linker import Linker
from wagi.guest.errno import (
    EBADF,
    EEXIST,
    EILSEQ,
    EINVAL,
    EISDIR,
    ENOTDIR,
    ENOTSUP,
    EPERM,
    GuestFault,
)
from wagi.guest.wasi.abi import PREVIEW1, Fdflags, Lookupflags, Oflags, Rights, flags
from wagi.guest.wasi.context import WasiContext
from wagi.guest.wasi.descriptors import Directory, File, pack_filestat
from wagi.guest.wasi.fd_calls import new_times, set_times_flags
from wagi.guest.wasi.paths import ResolvedPath, resolve


def define(linker: Linker, module: str = PREVIEW1) -> None:
    """Add the functions to a linker."""
    for name, parameters, call in (
        ("path_create_directory", "III", path_create_directory),
        ("path_filestat_get", "IIIII", path_filestat_get),
        ("path_filestat_set_times", "IIIIQQI", path_filestat_set_times),
        ("path_link", "IIIIIII", path_link),
        ("path_open", "IIIIIQQII", path_open),
        ("path_readlink", "IIIIII", path_readlink),
        ("path_remove_directory", "III", path_remove_directory),
        ("path_rename", "IIIIII", path_rename),
        ("path_symlink", "IIIII", path_symlink),
        ("path_unlink_file", "III", path_unlink_file),
    ):
        linker.define(module, name, parameters, call)


def path_open(
    wasi: WasiContext,
    fd: int,
    lookup: int,
    path: int,
    length: int,
    oflags: int,
    rights: int,
    inheriting: int,
    fdflags: int,
    result: int,
) -> int:
    """Open or create a file, or open a directory; write the new descriptor."""
    follow = flags(Lookupflags, lookup)
    how, access = flags(Oflags, oflags), flags(Rights, rights)
    flags(Rights, inheriting)
    status_flags = flags(Fdflags, fdflags)
    wasi.memory.require(result, 4)
    text = wasi.memory.read_path(path, length)
    directory = wasi.descriptors.get(fd)
    if not isinstance(directory, Directory):
        return ENOTDIR if isinstance(directory, File) else EBADF
    if status_flags & (Fdflags.DSYNC | Fdflags.RSYNC | Fdflags.SYNC):
        return ENOTSUP
    if Oflags.DIRECTORY in how and how != Oflags.DIRECTORY:
        return EINVAL
    access = _access(how, access)
    if directory.readonly and Rights.FD_WRITE in access:
        return EPERM
    wasi.descriptors.check_room()
    creates = Oflags.CREAT in how
    follows = bool(follow) and not (creates and Oflags.EXCL in how)
    with resolve(directory.number, text, follows, slash_follows=not creates) as location:
        number = _open(location, how, access)
    opened = _descriptor(number, how, access, status_flags, directory.readonly)
    wasi.memory.write_u32(result, wasi.descriptors.add(opened))
    return 0


def _access(how: Oflags, rights: Rights) -> Rights:
    """Return FD_READ and FD_WRITE for the mode in which to open a file.

    Files are opened for reading unless the guest requests writing only. Creating and truncating
    files requires writing.
    """
    access = rights & (Rights.FD_READ | Rights.FD_WRITE)
    if Rights.FD_WRITE not in rights:
        access |= Rights.FD_READ
    if how & (Oflags.CREAT | Oflags.TRUNC):
        access |= Rights.FD_WRITE
    return access


def _open(location: ResolvedPath, how: Oflags, access: Rights) -> int:
    # NONBLOCK: opening a FIFO must not wait for its other end. NOCTTY: a terminal must not become
    # the controlling terminal of the gateway.
    system = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    if Rights.FD_WRITE in access:
        system |= os.O_RDWR if Rights.FD_READ in access else os.O_WRONLY
    if location.must_be_directory:
        system |= os.O_DIRECTORY  # prevents the truncation of other files
    if Oflags.CREAT in how:
        if location.must_be_directory:
            raise GuestFault(EISDIR)
        system |= os.O_CREAT
        if Oflags.EXCL in how:
            system |= os.O_EXCL
    if Oflags.TRUNC in how:
        system |= os.O_TRUNC
    return os.open(location.name, system, 0o666, dir_fd=location.parent)


def _descriptor(
    number: int, how: Oflags, access: Rights, status_flags: Fdflags, readonly: bool
) -> File | Directory:
    if stat.S_ISDIR(os.fstat(number).st_mode):
        return Directory(number, None, readonly)
    if Oflags.DIRECTORY in how:
        os.close(number)
        raise GuestFault(ENOTDIR)
    return File(number, status_flags & (Fdflags.APPEND | Fdflags.NONBLOCK), access, readonly)


def path_filestat_get(
    wasi: WasiContext, fd: int, lookup: int, path: int, length: int, result: int
) -> int:
    """Write the ``filestat`` of a path (see ``abi.FILESTAT``)."""
    wasi.memory.write(result, pack_filestat(path_status(wasi, fd, lookup, path, length)))
    return 0


def path_status(wasi: WasiContext, fd: int, lookup: int, path: int, length: int) -> os.stat_result:
    """Return the attributes of a path, for ``path_filestat_get``.

    Raises:
        GuestFault: If an argument is invalid, or if the path would leave its directory.
        OSError: If the path does not exist or cannot be accessed.
    """
    follow = bool(flags(Lookupflags, lookup))
    with _location(wasi, fd, path, length, follow) as location:
        return location.stat()


def path_filestat_set_times(
    wasi: WasiContext,
    fd: int,
    lookup: int,
    path: int,
    length: int,
    accessed: int,
    modified: int,
    value: int,
) -> int:
    """Set the timestamps of a path, in nanoseconds since 1970."""
    follow = bool(flags(Lookupflags, lookup))
    wanted = set_times_flags(value)
    with _location(wasi, fd, path, length, follow, writes=True) as location:
        status = location.stat()
        if wanted:
            times = new_times(wanted, accessed, modified, status)
            os.utime(location.name, ns=times, dir_fd=location.parent, follow_symlinks=False)
    return 0


def path_create_directory(wasi: WasiContext, fd: int, path: int, length: int) -> int:
    """Create a directory."""
    with _location(wasi, fd, path, length, writes=True, slash_follows=False) as location:
        os.mkdir(location.name, dir_fd=location.parent)
    return 0


def path_remove_directory(wasi: WasiContext, fd: int, path: int, length: int) -> int:
    """Remove an empty directory."""
    with _location(wasi, fd, path, length, writes=True) as location:
        if location.must_be_directory:  # as in wasmtime
            location.stat()
            return EINVAL
        os.rmdir(location.name, dir_fd=location.parent)
    return 0


def path_unlink_file(wasi: WasiContext, fd: int, path: int, length: int) -> int:
    """Remove a file or a symbolic link."""
    with _location(wasi, fd, path, length, writes=True) as location:
        if location.must_be_directory:
            location.stat()
            return EISDIR
        os.unlink(location.name, dir_fd=location.parent)
    return 0


def path_rename(
    wasi: WasiContext, fd: int, path: int, length: int, new_fd: int, new_path: int, new_length: int
) -> int:
    """Rename a file or directory, within a volume or between writable volumes of a file system."""
    source, target = _two_directories(wasi, fd, new_fd)
    text = wasi.memory.read_path(path, length)
    new_text = wasi.memory.read_path(new_path, new_length)
    _check_writable(source, target)
    with (
        resolve(source.number, text, follow=False, slash_follows=False) as old,
        resolve(target.number, new_text, follow=False, slash_follows=False) as new,
    ):
        if old.must_be_directory or new.must_be_directory:
            old.must_be_directory = True
            old.stat()
        os.rename(old.name, new.name, src_dir_fd=old.parent, dst_dir_fd=new.parent)
    return 0


def path_link(
    wasi: WasiContext,
    fd: int,
    lookup: int,
    path: int,
    length: int,
    new_fd: int,
    new_path: int,
    new_length: int,
) -> int:
    """Create a hard link."""
    follow = flags(Lookupflags, lookup)
    source, target = _two_directories(wasi, fd, new_fd)
    text = wasi.memory.read_path(path, length)
    new_text = wasi.memory.read_path(new_path, new_length)
    _check_writable(source, target)
    if follow:
        return EINVAL
    with (
        resolve(source.number, text, follow=False) as old,
        resolve(target.number, new_text, follow=False) as new,
    ):
        if old.must_be_directory:
            old.stat()
        _check_new(new)
        os.link(
            old.name,
            new.name,
            src_dir_fd=old.parent,
            dst_dir_fd=new.parent,
            follow_symlinks=False,
        )
    return 0


def path_symlink(
    wasi: WasiContext, target: int, target_length: int, fd: int, path: int, length: int
) -> int:
    """Create a symbolic link. Its target must be relative; it is followed only within a volume."""
    directory = wasi.descriptors.get_as(Directory, fd)
    leads_to = wasi.memory.read_path(target, target_length)
    text = wasi.memory.read_path(path, length)
    if directory.readonly or leads_to.startswith(b"/"):
        return EPERM
    with resolve(directory.number, text, follow=False) as location:
        if b"\0" in leads_to:
            return EINVAL
        _check_new(location)
        os.symlink(leads_to, location.name, dir_fd=location.parent)
    return 0


def path_readlink(
    wasi: WasiContext, fd: int, path: int, length: int, buffer: int, size: int, used: int
) -> int:
    """Write the target of a symbolic link, truncated to the size of the buffer."""
    with _location(wasi, fd, path, length) as location:
        if location.must_be_directory:
            location.stat()
            return EINVAL
        target = os.readlink(location.name, dir_fd=location.parent)
    if target.startswith(b"/"):
        return EPERM
    try:
        target.decode()
    except UnicodeDecodeError:
        return EILSEQ
    wasi.memory.write(buffer, target[:size])
    wasi.memory.write_u32(used, min(size, len(target)))
    return 0


@contextmanager
def _location(
    wasi: WasiContext,
    fd: int,
    path: int,
    length: int,
    follow: bool = False,
    writes: bool = False,
    slash_follows: bool = True,
) -> Iterator[ResolvedPath]:
    directory = wasi.descriptors.get_as(Directory, fd)
    text = wasi.memory.read_path(path, length)
    if writes:
        _check_writable(directory)
    with resolve(directory.number, text, follow, slash_follows) as location:
        yield location


def _check_new(location: ResolvedPath) -> None:
    """Raise for a path with a trailing slash, at which only a directory could be created."""
    if location.must_be_directory:
        location.stat()
        raise GuestFault(EEXIST)


def _two_directories(wasi: WasiContext, fd: int, new_fd: int) -> tuple[Directory, Directory]:
    return wasi.descriptors.get_as(Directory, fd), wasi.descriptors.get_as(Directory, new_fd)


def _check_writable(*directories: Directory) -> None:
    if any(directory.readonly for directory in directories):
        raise GuestFault(EPERM)
