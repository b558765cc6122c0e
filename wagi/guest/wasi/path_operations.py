"""Operations on paths below an open directory, for the host calls of both versions of WASI.

Every path is resolved by ``paths.resolve``, which cannot leave the directory. All functions raise
GuestFault if an argument is invalid, if the path would leave its directory, or if the volume is
read-only (EPERM); and OSError if the operation fails.
"""

from __future__ import annotations

import os
import stat

from wagi.guest.errno import (
    EEXIST,
    EILSEQ,
    EINVAL,
    EISDIR,
    ENOTDIR,
    ENOTSUP,
    EPERM,
    GuestFault,
)
from wagi.guest.wasi.abi import Fdflags, Fstflags, Oflags, Rights
from wagi.guest.wasi.descriptors import DescriptorTable, Directory, File
from wagi.guest.wasi.fd_calls import new_times
from wagi.guest.wasi.paths import ResolvedPath, resolve


def open_at(
    descriptors: DescriptorTable,
    directory: Directory,
    path: bytes,
    follow: bool,
    how: Oflags,
    rights: Rights,
    status_flags: Fdflags,
) -> int:
    """Open or create a file, or open a directory.

    Args:
        descriptors: The guest's descriptors.
        directory: The directory at which the path starts.
        path: The path.
        follow: Whether to follow a symbolic link in the last component.
        how: The open flags.
        rights: Of these, FD_READ and FD_WRITE select the mode.
        status_flags: The status flags of the file.

    Returns:
        The new descriptor.
    """
    if status_flags & (Fdflags.DSYNC | Fdflags.RSYNC | Fdflags.SYNC):
        raise GuestFault(ENOTSUP)
    if Oflags.DIRECTORY in how and how != Oflags.DIRECTORY:
        raise GuestFault(EINVAL)
    access = _access(how, rights)
    if directory.readonly and Rights.FD_WRITE in access:
        raise GuestFault(EPERM)
    descriptors.check_room()
    creates = Oflags.CREAT in how
    follows = follow and not (creates and Oflags.EXCL in how)
    with resolve(directory.number, path, follows, slash_follows=not creates) as location:
        number = _open(location, how, access)
    opened = _descriptor(number, how, access, status_flags, directory.readonly)
    return descriptors.add(opened)


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


def stat_at(directory: Directory, path: bytes, follow: bool) -> os.stat_result:
    """Return the attributes of a path."""
    with resolve(directory.number, path, follow) as location:
        return location.stat()


def set_times_at(
    directory: Directory,
    path: bytes,
    follow: bool,
    wanted: Fstflags,
    accessed: int,
    modified: int,
) -> None:
    """Set the timestamps of a path.

    Args:
        directory: The directory at which the path starts.
        path: The path.
        follow: Whether to follow a symbolic link in the last component.
        wanted: The timestamps to set.
        accessed: The access time, in nanoseconds since 1970.
        modified: The modification time, in nanoseconds since 1970.
    """
    _check_writable(directory)
    with resolve(directory.number, path, follow) as location:
        status = location.stat()
        if wanted:
            times = new_times(wanted, accessed, modified, status)
            os.utime(location.name, ns=times, dir_fd=location.parent, follow_symlinks=False)


def create_directory_at(directory: Directory, path: bytes) -> None:
    """Create a directory."""
    _check_writable(directory)
    with resolve(directory.number, path, follow=False, slash_follows=False) as location:
        os.mkdir(location.name, dir_fd=location.parent)


def remove_directory_at(directory: Directory, path: bytes) -> None:
    """Remove an empty directory."""
    _check_writable(directory)
    with resolve(directory.number, path, follow=False) as location:
        if location.must_be_directory:  # as in wasmtime
            location.stat()
            raise GuestFault(EINVAL)
        os.rmdir(location.name, dir_fd=location.parent)


def unlink_file_at(directory: Directory, path: bytes) -> None:
    """Remove a file or a symbolic link."""
    _check_writable(directory)
    with resolve(directory.number, path, follow=False) as location:
        if location.must_be_directory:
            location.stat()
            raise GuestFault(EISDIR)
        os.unlink(location.name, dir_fd=location.parent)


def rename_at(source: Directory, path: bytes, target: Directory, new_path: bytes) -> None:
    """Rename a file or directory, within a volume or between writable volumes of a file system."""
    _check_writable(source, target)
    with (
        resolve(source.number, path, follow=False, slash_follows=False) as old,
        resolve(target.number, new_path, follow=False, slash_follows=False) as new,
    ):
        if old.must_be_directory or new.must_be_directory:
            old.must_be_directory = True
            old.stat()
        os.rename(old.name, new.name, src_dir_fd=old.parent, dst_dir_fd=new.parent)


def link_at(
    source: Directory, path: bytes, follow: bool, target: Directory, new_path: bytes
) -> None:
    """Create a hard link; it is not possible to follow a symbolic link."""
    _check_writable(source, target)
    if follow:
        raise GuestFault(EINVAL)
    with (
        resolve(source.number, path, follow=False) as old,
        resolve(target.number, new_path, follow=False) as new,
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


def symlink_at(target: bytes, directory: Directory, path: bytes) -> None:
    """Create a symbolic link. Its target must be relative; it is followed only within a volume."""
    if directory.readonly or target.startswith(b"/"):
        raise GuestFault(EPERM)
    with resolve(directory.number, path, follow=False) as location:
        if b"\0" in target:
            raise GuestFault(EINVAL)
        _check_new(location)
        os.symlink(target, location.name, dir_fd=location.parent)


def readlink_at(directory: Directory, path: bytes) -> bytes:
    """Return the target of a symbolic link, which must be relative."""
    with resolve(directory.number, path, follow=False) as location:
        if location.must_be_directory:
            location.stat()
            raise GuestFault(EINVAL)
        target = os.readlink(location.name, dir_fd=location.parent)
    if target.startswith(b"/"):
        raise GuestFault(EPERM)
    try:
        target.decode()
    except UnicodeDecodeError:
        raise GuestFault(EILSEQ) from None
    return target


def _check_new(location: ResolvedPath) -> None:
    """Raise for a path with a trailing slash, at which only a directory could be created."""
    if location.must_be_directory:
        location.stat()
        raise GuestFault(EEXIST)


def _check_writable(*directories: Directory) -> None:
    if any(directory.readonly for directory in directories):
        raise GuestFault(EPERM)
