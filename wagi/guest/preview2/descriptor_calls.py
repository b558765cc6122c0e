"""``wasi:filesystem/types`` and ``preopens``, except the functions on paths (``path_calls``)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import partial
from struct import pack

from wagi.guest.capi.component_linker import ComponentWaiting, define_call, define_waiting_call
from wagi.guest.capi.linker import Linker
from wagi.guest.errno import EBADF, EINVAL, EPERM, GuestFault
from wagi.guest.preview2.context import ComponentContext
from wagi.guest.preview2.file_errors import TYPES, type_of
from wagi.guest.preview2.file_results import (
    pack_status,
    read_times,
    write_failure,
    write_result,
)
from wagi.guest.preview2.files import (
    Descriptor,
    DirectoryEntryStream,
    FileError,
    FileInputStream,
    FileOutputStream,
    read_at,
    write_at,
)
from wagi.guest.preview2.handles import define_drop
from wagi.guest.preview2.results import NONE, copy_bytes
from wagi.guest.preview2.streams import READ_MAX, WRITE_MAX, IoError
from wagi.guest.wasi.abi import ADVICES, MAX_OFFSET, Filetype, Rights
from wagi.guest.wasi.descriptors import Directory, File
from wagi.guest.wasi.fd_calls import advise as advise_kernel
from wagi.guest.wasi.fd_calls import new_times, resize
from wagi.guest.wasi.io_calls import in_thread

TYPES_INTERFACE, PREOPENS = "wasi:filesystem/types", "wasi:filesystem/preopens"
_READ, _WRITE, _MUTATE_DIRECTORY = 1, 2, 32  # descriptor-flags
_PREOPEN_SIZE = 12  # bytes of tuple<descriptor, string>


def define(linker: Linker) -> None:
    """Add the functions to a linker."""
    define_call(linker, PREOPENS, "get-directories", "I", "", get_directories)
    define_call(linker, TYPES_INTERFACE, "filesystem-error-code", "II", "", error_code_of)
    define_drop(linker, TYPES_INTERFACE, "descriptor", Descriptor)
    stream = "directory-entry-stream"
    define_drop(linker, TYPES_INTERFACE, stream, DirectoryEntryStream)
    name = f"[method]{stream}.read-directory-entry"
    define_call(linker, TYPES_INTERFACE, name, "II", "", read_directory_entry)
    prefix = "[method]descriptor."
    for name, parameters, results, call in (
        ("read-via-stream", "IQI", "", read_via_stream),
        ("write-via-stream", "IQI", "", write_via_stream),
        ("append-via-stream", "II", "", append_via_stream),
        ("advise", "IQQII", "", advise),
        ("get-flags", "II", "", get_flags),
        ("get-type", "II", "", get_type),
        ("set-size", "IQI", "", set_size),
        ("set-times", "IIQIIQII", "", set_times),
        ("read", "IQQI", "", read),
        ("write", "IIIQI", "", write),
        ("read-directory", "II", "", read_directory),
        ("stat", "II", "", stat),
        ("is-same-object", "II", "I", is_same_object),
        ("metadata-hash", "II", "", metadata_hash),
    ):
        define_call(linker, TYPES_INTERFACE, prefix + name, parameters, results, call)
    for name, work in (("sync", os.fsync), ("sync-data", os.fdatasync)):
        define_waiting_call(linker, TYPES_INTERFACE, prefix + name, "II", "", partial(sync, work))


def get_directories(guest: ComponentContext, out: int) -> None:
    """Write the preopened directories: a list of pairs of descriptor and path."""
    preopens = guest.descriptors.preopens()
    table = 4
    if preopens:
        table = guest.allocate(len(preopens) * _PREOPEN_SIZE, 4)
        entries = b""
        for number, path in preopens:
            handle = guest.handles.add(Descriptor(guest, number, is_preopen=True))
            entries += pack("<III", handle, copy_bytes(guest, path), len(path))
        guest.memory.write(table, entries)
    guest.memory.write(out, pack("<II", table, len(preopens)))


def error_code_of(guest: ComponentContext, handle: int, out: int) -> None:
    """Write the error code of an error of a stream, if it has one."""
    error = guest.handles.get(handle, IoError)
    guest.memory.write(out, pack("<BB", 1, error.code) if isinstance(error, FileError) else NONE)


# Streams


def read_via_stream(guest: ComponentContext, handle: int, offset: int, out: int) -> None:
    """Open an input stream of a file."""

    def work(descriptor: Descriptor) -> bytes:
        _check_access(descriptor.file, Rights.FD_READ)
        return pack("<I", guest.handles.add(FileInputStream(descriptor, offset)))

    _on(guest, handle, out, 4, work)


def write_via_stream(guest: ComponentContext, handle: int, offset: int, out: int) -> None:
    """Open an output stream of a file."""
    _write_via_stream(guest, handle, offset, out)


def append_via_stream(guest: ComponentContext, handle: int, out: int) -> None:
    """Open an output stream that appends to a file."""
    _write_via_stream(guest, handle, None, out)


def _write_via_stream(guest: ComponentContext, handle: int, offset: int | None, out: int) -> None:
    def work(descriptor: Descriptor) -> bytes:
        _check_access(descriptor.file, Rights.FD_WRITE)
        return pack("<I", guest.handles.add(FileOutputStream(descriptor, offset)))

    _on(guest, handle, out, 4, work)


def _check_access(file: File, right: Rights) -> None:
    if right not in file.access:
        raise GuestFault(EBADF)


def read(guest: ComponentContext, handle: int, length: int, offset: int, out: int) -> None:
    """Read a file: the bytes, and whether this is its end."""

    def work(descriptor: Descriptor) -> bytes:
        data = read_at(descriptor.file, min(length, READ_MAX), offset)
        is_end = not data and length > 0
        return pack("<IIB", copy_bytes(guest, data), len(data), is_end)

    _on(guest, handle, out, 4, work)


def write(
    guest: ComponentContext, handle: int, pointer: int, length: int, offset: int, out: int
) -> None:
    """Write to a file, and write how many bytes were written."""
    data = guest.memory.view(pointer, length)[:WRITE_MAX]
    _on(guest, handle, out, 8, lambda found: pack("<Q", write_at(found.file, data, offset)))


# Attributes


def advise(
    guest: ComponentContext, handle: int, offset: int, length: int, advice: int, out: int
) -> None:
    """Pass advice on the expected access to a file to the kernel."""

    def work(descriptor: Descriptor) -> bytes:
        if advice >= ADVICES or max(offset, length) > MAX_OFFSET:
            raise GuestFault(EINVAL)
        advise_kernel(descriptor.file, offset, length, advice)
        return b""

    _on(guest, handle, out, 1, work)


def get_flags(guest: ComponentContext, handle: int, out: int) -> None:
    """Write the ``descriptor-flags``."""

    def work(descriptor: Descriptor) -> bytes:
        target = descriptor.target
        if isinstance(target, Directory):
            return bytes([_READ | (0 if target.readonly else _MUTATE_DIRECTORY)])
        reads, writes = Rights.FD_READ in target.access, Rights.FD_WRITE in target.access
        return bytes([_READ * reads | _WRITE * writes])

    _on(guest, handle, out, 1, work)


def get_type(guest: ComponentContext, handle: int, out: int) -> None:
    """Write the ``descriptor-type``."""
    _on(guest, handle, out, 1, lambda found: bytes([type_of(_status(found).st_mode)]))


def stat(guest: ComponentContext, handle: int, out: int) -> None:
    """Write the attributes of an open file or directory."""
    _on(guest, handle, out, 8, lambda found: pack_status(_status(found)))


def _status(descriptor: Descriptor) -> os.stat_result:
    return os.fstat(descriptor.target.number)


def set_size(guest: ComponentContext, handle: int, size: int, out: int) -> None:
    """Truncate or extend a file."""

    def work(descriptor: Descriptor) -> bytes:
        resize(descriptor.file, size)
        return b""

    _on(guest, handle, out, 1, work)


def set_times(guest: ComponentContext, handle: int, *rest: int) -> None:
    """Set the timestamps of an open file or directory."""
    *values, out = rest

    def work(descriptor: Descriptor) -> bytes:
        target = descriptor.target
        wanted, accessed, modified = read_times(values[:3], values[3:])
        if target.readonly:
            raise GuestFault(EPERM)
        os.utime(target.number, ns=new_times(wanted, accessed, modified, os.fstat(target.number)))
        return b""

    _on(guest, handle, out, 1, work)


def is_same_object(guest: ComponentContext, handle: int, other: int) -> int:
    """Return whether two descriptors refer to the same file or directory."""
    first, second = (guest.handles.get(each, Descriptor) for each in (handle, other))
    try:
        return int(os.path.samestat(_status(first), _status(second)))
    except (GuestFault, OSError):
        return 0


def metadata_hash(guest: ComponentContext, handle: int, out: int) -> None:
    """Write a number of 128 bits that identifies a file or directory."""
    _on(guest, handle, out, 8, lambda found: pack_hash(_status(found)))


def pack_hash(status: os.stat_result) -> bytes:
    """Return a ``metadata-hash-value``: as in wasmtime, of device and inode."""
    identity = pack("<QQ", status.st_dev, status.st_ino)
    return hashlib.blake2b(identity, digest_size=16).digest()


def sync(
    work: Callable[[int], None], guest: ComponentContext, handle: int, out: int
) -> ComponentWaiting:
    """Flush a file or directory to the disk."""
    descriptor = guest.handles.get(handle, Descriptor)
    try:
        yield from in_thread(guest, work, descriptor.target)
    except (GuestFault, OSError) as error:
        write_failure(guest, out, 1, error)
    else:
        guest.memory.write(out, b"\0")
    return None


# Directories


def read_directory(guest: ComponentContext, handle: int, out: int) -> None:
    """Open a stream of the entries of a directory."""

    def work(descriptor: Descriptor) -> bytes:
        stream = DirectoryEntryStream(guest, descriptor.directory)
        return pack("<I", guest.handles.add(stream))

    _on(guest, handle, out, 4, work)


def read_directory_entry(guest: ComponentContext, handle: int, out: int) -> None:
    """Write the next entry of a directory, or ``none`` at the end."""
    stream = guest.handles.get(handle, DirectoryEntryStream)

    def work() -> bytes:
        entry = stream.next()
        if entry is None:
            return NONE
        filetype, name = entry
        type_ = TYPES[Filetype(filetype)]
        return pack("<B3xB3xII", 1, type_, copy_bytes(guest, name), len(name))

    write_result(guest, out, 4, work)


def _on(
    guest: ComponentContext,
    handle: int,
    out: int,
    offset: int,
    work: Callable[[Descriptor], bytes],
) -> None:
    """Write the result of an operation on a descriptor, as ``write_result``."""
    descriptor = guest.handles.get(handle, Descriptor)
    write_result(guest, out, offset, lambda: work(descriptor))
