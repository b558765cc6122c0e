"""``wasi:filesystem/types``: the functions on paths, relative to an open directory."""

from __future__ import annotations

import os
from collections.abc import Callable
from struct import pack

from wagi.guest.capi.component_linker import define_call
from wagi.guest.capi.linker import Linker
from wagi.guest.errno import GuestTrap
from wagi.guest.preview2.context import ComponentContext
from wagi.guest.preview2.descriptor_calls import TYPES_INTERFACE, pack_hash
from wagi.guest.preview2.file_results import pack_status, read_times, write_result
from wagi.guest.preview2.files import Descriptor
from wagi.guest.preview2.results import copy_bytes
from wagi.guest.wasi import path_operations
from wagi.guest.wasi.abi import Fdflags, Oflags, Rights
from wagi.guest.wasi.descriptors import Directory

_FOLLOW = 1  # of path-flags
_OPEN_FLAGS, _DESCRIPTOR_FLAGS = 0xF, 0x3F  # all bits
_READ, _WRITE, _FILE_SYNC, _DATA_SYNC, _WRITE_SYNC = 1, 2, 4, 8, 16  # of descriptor-flags


def define(linker: Linker) -> None:
    """Add the functions to a linker."""
    for name, parameters, call in (
        ("create-directory-at", "IIII", create_directory_at),
        ("stat-at", "IIIII", stat_at),
        ("set-times-at", "IIIIIQIIQII", set_times_at),
        ("link-at", "IIIIIIII", link_at),
        ("open-at", "IIIIIII", open_at),
        ("readlink-at", "IIII", readlink_at),
        ("remove-directory-at", "IIII", remove_directory_at),
        ("rename-at", "IIIIIII", rename_at),
        ("symlink-at", "IIIIII", symlink_at),
        ("unlink-file-at", "IIII", unlink_file_at),
        ("metadata-hash-at", "IIIII", metadata_hash_at),
    ):
        define_call(linker, TYPES_INTERFACE, f"[method]descriptor.{name}", parameters, "", call)


def open_at(
    guest: ComponentContext,
    handle: int,
    path_flags: int,
    path: int,
    length: int,
    how: int,
    flags: int,
    out: int,
) -> None:
    """Open or create a file, or open a directory."""
    follow = _follow(path_flags)
    if how & ~_OPEN_FLAGS or flags & ~_DESCRIPTOR_FLAGS:
        raise GuestTrap("it passed unknown flags to open-at")

    def work(directory: Directory, text: bytes) -> bytes:
        rights = Rights(0)
        rights |= Rights.FD_READ if flags & _READ else rights
        rights |= Rights.FD_WRITE if flags & _WRITE else rights
        is_sync = flags & (_FILE_SYNC | _DATA_SYNC | _WRITE_SYNC)
        status_flags = Fdflags.SYNC if is_sync else Fdflags(0)  # which are not supported
        number = path_operations.open_at(
            guest.descriptors, directory, text, follow, Oflags(how), rights, status_flags
        )
        return pack("<I", guest.handles.add(Descriptor(guest, number)))

    _at(guest, handle, path, length, out, 4, work)


def stat_at(
    guest: ComponentContext, handle: int, path_flags: int, path: int, length: int, out: int
) -> None:
    """Write the attributes of a path."""
    _stat(guest, handle, path_flags, path, length, out, pack_status)


def metadata_hash_at(
    guest: ComponentContext, handle: int, path_flags: int, path: int, length: int, out: int
) -> None:
    """Write a number of 128 bits that identifies what is at a path."""
    _stat(guest, handle, path_flags, path, length, out, pack_hash)


def set_times_at(
    guest: ComponentContext, handle: int, path_flags: int, path: int, length: int, *rest: int
) -> None:
    """Set the timestamps of a path."""
    follow = _follow(path_flags)
    *values, out = rest

    def work(directory: Directory, text: bytes) -> bytes:
        times = read_times(values[:3], values[3:])
        path_operations.set_times_at(directory, text, follow, *times)
        return b""

    _at(guest, handle, path, length, out, 1, work)


def create_directory_at(
    guest: ComponentContext, handle: int, path: int, length: int, out: int
) -> None:
    """Create a directory."""
    _change(guest, handle, path, length, out, path_operations.create_directory_at)


def remove_directory_at(
    guest: ComponentContext, handle: int, path: int, length: int, out: int
) -> None:
    """Remove an empty directory."""
    _change(guest, handle, path, length, out, path_operations.remove_directory_at)


def unlink_file_at(guest: ComponentContext, handle: int, path: int, length: int, out: int) -> None:
    """Remove a file or a symbolic link."""
    _change(guest, handle, path, length, out, path_operations.unlink_file_at)


def readlink_at(guest: ComponentContext, handle: int, path: int, length: int, out: int) -> None:
    """Write the target of a symbolic link."""

    def work(directory: Directory, text: bytes) -> bytes:
        target = path_operations.readlink_at(directory, text)
        return pack("<II", copy_bytes(guest, target), len(target))

    _at(guest, handle, path, length, out, 4, work)


def rename_at(
    guest: ComponentContext,
    handle: int,
    path: int,
    length: int,
    new_handle: int,
    new_path: int,
    new_length: int,
    out: int,
) -> None:
    """Rename a file or directory."""
    target = guest.handles.get(new_handle, Descriptor)

    def work(directory: Directory, text: bytes) -> bytes:
        new_text = guest.memory.read_path(new_path, new_length)
        path_operations.rename_at(directory, text, target.directory, new_text)
        return b""

    _at(guest, handle, path, length, out, 1, work)


def link_at(
    guest: ComponentContext,
    handle: int,
    path_flags: int,
    path: int,
    length: int,
    new_handle: int,
    new_path: int,
    new_length: int,
    out: int,
) -> None:
    """Create a hard link."""
    follow = _follow(path_flags)
    target = guest.handles.get(new_handle, Descriptor)

    def work(directory: Directory, text: bytes) -> bytes:
        new_text = guest.memory.read_path(new_path, new_length)
        path_operations.link_at(directory, text, follow, target.directory, new_text)
        return b""

    _at(guest, handle, path, length, out, 1, work)


def symlink_at(
    guest: ComponentContext,
    handle: int,
    target: int,
    target_length: int,
    path: int,
    length: int,
    out: int,
) -> None:
    """Create a symbolic link."""

    def work(directory: Directory, text: bytes) -> bytes:
        leads_to = guest.memory.read_path(target, target_length)
        path_operations.symlink_at(leads_to, directory, text)
        return b""

    _at(guest, handle, path, length, out, 1, work)


def _follow(path_flags: int) -> bool:
    if path_flags & ~_FOLLOW:
        raise GuestTrap("it passed unknown path-flags")
    return bool(path_flags)


def _stat(
    guest: ComponentContext,
    handle: int,
    path_flags: int,
    path: int,
    length: int,
    out: int,
    pack_found: Callable[[os.stat_result], bytes],
) -> None:
    follow = _follow(path_flags)

    def work(directory: Directory, text: bytes) -> bytes:
        return pack_found(path_operations.stat_at(directory, text, follow))

    _at(guest, handle, path, length, out, 8, work)


def _change(
    guest: ComponentContext,
    handle: int,
    path: int,
    length: int,
    out: int,
    change: Callable[[Directory, bytes], None],
) -> None:
    def work(directory: Directory, text: bytes) -> bytes:
        change(directory, text)
        return b""

    _at(guest, handle, path, length, out, 1, work)


def _at(
    guest: ComponentContext,
    handle: int,
    path: int,
    length: int,
    out: int,
    offset: int,
    work: Callable[[Directory, bytes], bytes],
) -> None:
    """Write the result of an operation on a path, as ``file_results.write_result``."""
    descriptor = guest.handles.get(handle, Descriptor)

    def in_directory() -> bytes:
        text = guest.memory.read_path(path, length)
        return work(descriptor.directory, text)

    write_result(guest, out, offset, in_directory)
