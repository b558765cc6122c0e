"""Host calls on paths: ``path_*``. Every path is relative to an open directory of the guest."""

from __future__ import annotations

import os

from wagi.guest.capi.linker import Linker
from wagi.guest.errno import EBADF, ENOTDIR
from wagi.guest.wasi import path_operations
from wagi.guest.wasi.abi import PREVIEW1, Fdflags, Lookupflags, Oflags, Rights, flags
from wagi.guest.wasi.context import WasiContext
from wagi.guest.wasi.descriptors import Directory, File, pack_filestat
from wagi.guest.wasi.fd_calls import set_times_flags


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
    follow = bool(flags(Lookupflags, lookup))
    how, access = flags(Oflags, oflags), flags(Rights, rights)
    flags(Rights, inheriting)
    status_flags = flags(Fdflags, fdflags)
    wasi.memory.require(result, 4)
    text = wasi.memory.read_path(path, length)
    directory = wasi.descriptors.get(fd)
    if not isinstance(directory, Directory):
        return ENOTDIR if isinstance(directory, File) else EBADF
    opened = path_operations.open_at(
        wasi.descriptors, directory, text, follow, how, access, status_flags
    )
    wasi.memory.write_u32(result, opened)
    return 0


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
    return path_operations.stat_at(*_location(wasi, fd, path, length), follow)


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
    directory, text = _location(wasi, fd, path, length)
    path_operations.set_times_at(directory, text, follow, wanted, accessed, modified)
    return 0


def path_create_directory(wasi: WasiContext, fd: int, path: int, length: int) -> int:
    """Create a directory."""
    path_operations.create_directory_at(*_location(wasi, fd, path, length))
    return 0


def path_remove_directory(wasi: WasiContext, fd: int, path: int, length: int) -> int:
    """Remove an empty directory."""
    path_operations.remove_directory_at(*_location(wasi, fd, path, length))
    return 0


def path_unlink_file(wasi: WasiContext, fd: int, path: int, length: int) -> int:
    """Remove a file or a symbolic link."""
    path_operations.unlink_file_at(*_location(wasi, fd, path, length))
    return 0


def path_rename(
    wasi: WasiContext, fd: int, path: int, length: int, new_fd: int, new_path: int, new_length: int
) -> int:
    """Rename a file or directory, within a volume or between writable volumes of a file system."""
    source, target = _two_directories(wasi, fd, new_fd)
    text = wasi.memory.read_path(path, length)
    new_text = wasi.memory.read_path(new_path, new_length)
    path_operations.rename_at(source, text, target, new_text)
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
    follow = bool(flags(Lookupflags, lookup))
    source, target = _two_directories(wasi, fd, new_fd)
    text = wasi.memory.read_path(path, length)
    new_text = wasi.memory.read_path(new_path, new_length)
    path_operations.link_at(source, text, follow, target, new_text)
    return 0


def path_symlink(
    wasi: WasiContext, target: int, target_length: int, fd: int, path: int, length: int
) -> int:
    """Create a symbolic link. Its target must be relative; it is followed only within a volume."""
    directory = wasi.descriptors.get_as(Directory, fd)
    leads_to = wasi.memory.read_path(target, target_length)
    text = wasi.memory.read_path(path, length)
    path_operations.symlink_at(leads_to, directory, text)
    return 0


def path_readlink(
    wasi: WasiContext, fd: int, path: int, length: int, buffer: int, size: int, used: int
) -> int:
    """Write the target of a symbolic link, truncated to the size of the buffer."""
    target = path_operations.readlink_at(*_location(wasi, fd, path, length))
    wasi.memory.write(buffer, target[:size])
    wasi.memory.write_u32(used, min(size, len(target)))
    return 0


def _location(wasi: WasiContext, fd: int, path: int, length: int) -> tuple[Directory, bytes]:
    """Return the directory of a descriptor, and a path."""
    directory = wasi.descriptors.get_as(Directory, fd)
    return directory, wasi.memory.read_path(path, length)


def _two_directories(wasi: WasiContext, fd: int, new_fd: int) -> tuple[Directory, Directory]:
    return wasi.descriptors.get_as(Directory, fd), wasi.descriptors.get_as(Directory, new_fd)
