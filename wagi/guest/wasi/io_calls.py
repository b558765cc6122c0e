"""Host calls that transfer data: reads, writes, directory listings, ``fd_sync``.

The guest decides how much work they have to do. They work in chunks, and suspend the guest in the
middle of the call whenever its slice is over.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from wagi.guest.capi.linker import Linker, Waiting
from wagi.guest.errno import EBADF, EINVAL, ESPIPE, GuestFault
from wagi.guest.wasi.abi import MAX_OFFSET, PREVIEW1, Fdflags
from wagi.guest.wasi.context import WasiContext
from wagi.guest.wasi.descriptors import Directory, File, Stream

_CHUNK_SIZE = 256 * 1024
"""Bytes that are moved between two readings of the clock: well under a millisecond of work."""
_SIZE_MAX = (1 << 32) - 1  # the maximum of WASI's ``size``


def define(linker: Linker, module: str = PREVIEW1) -> None:
    """Add the functions to a linker."""
    linker.define_async(module, "fd_datasync", "I", fd_datasync)
    linker.define_async(module, "fd_pread", "IIIQI", fd_pread)
    linker.define_async(module, "fd_pwrite", "IIIQI", fd_pwrite)
    linker.define_async(module, "fd_read", "IIII", fd_read)
    linker.define_async(module, "fd_readdir", "IIIQI", fd_readdir)
    linker.define_async(module, "fd_sync", "I", fd_sync)
    linker.define_async(module, "fd_write", "IIII", fd_write)


def fd_read(wasi: WasiContext, fd: int, iovecs: int, count: int, nread: int) -> Waiting:
    """Read a file or standard input, of which the call returns what is available, or waits."""
    source = wasi.descriptors.get(fd)
    if isinstance(source, File):
        return _transfer(wasi, iovecs, count, nread, _Cursor(source).read)
    if source is not Stream.STDIN:
        raise GuestFault(EBADF)
    return _read_stdin(wasi, iovecs, count, nread)


def _read_stdin(wasi: WasiContext, iovecs: int, count: int, nread: int) -> Waiting:
    def read(buffer: memoryview) -> int:
        data = wasi.stdin.take(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    if (yield from _total(wasi, iovecs, count)):
        while not wasi.stdin.readable:
            wasi.wait.input = True
            yield
    return (yield from _transfer(wasi, iovecs, count, nread, read))


def fd_write(wasi: WasiContext, fd: int, iovecs: int, count: int, nwritten: int) -> int | Waiting:
    """Write all buffers.

    Writes to standard output are never short, since guests that do not retry would lose data; while
    the output buffer is full, the guest waits in the call.
    """
    target = wasi.descriptors.get(fd)
    if target is Stream.STDOUT:
        data = wasi.memory.gather(iovecs, count, wasi.stdout.room)
        if data is not None:  # the common case
            wasi.memory.write_u32(nwritten, len(data))
            wasi.stdout.write(data)
            return 0
        return _transfer(wasi, iovecs, count, nwritten, _stdout_writer(wasi), waits=True)
    if target is Stream.STDERR:
        return _transfer(wasi, iovecs, count, nwritten, _stderr_writer(wasi))
    if not isinstance(target, File):
        raise GuestFault(EBADF)
    return _transfer(wasi, iovecs, count, nwritten, _Cursor(target).write)


def _stdout_writer(wasi: WasiContext) -> Callable[[memoryview], int]:
    def write(data: memoryview) -> int:
        size = min(len(data), wasi.stdout.room)
        if size:
            wasi.stdout.write(data[:size].tobytes())
        return size

    return write


def _stderr_writer(wasi: WasiContext) -> Callable[[memoryview], int]:
    def write(data: memoryview) -> int:
        chunk = data[: 64 * 1024]  # splitting it into lines takes much longer than copying it
        wasi.stderr(chunk.tobytes())
        return len(chunk)

    return write


def fd_pread(
    wasi: WasiContext, fd: int, iovecs: int, count: int, offset: int, nread: int
) -> Waiting:
    """Read a file at an offset, without moving its own."""
    file = _file_with_offset(wasi, fd, Stream.STDIN)
    return _transfer(wasi, iovecs, count, nread, _Cursor(file, offset).read)


def fd_pwrite(
    wasi: WasiContext, fd: int, iovecs: int, count: int, offset: int, nwritten: int
) -> Waiting:
    """Write to a file at an offset, without moving its own."""
    file = _file_with_offset(wasi, fd, Stream.STDOUT, Stream.STDERR)
    return _transfer(wasi, iovecs, count, nwritten, _Cursor(file, offset).write)


def _file_with_offset(wasi: WasiContext, fd: int, *streams: Stream) -> File:
    """Return the file of a descriptor.

    Raises:
        GuestFault: ESPIPE for the given streams, which have the right direction; otherwise EBADF.
    """
    if wasi.descriptors.get(fd) in streams:
        raise GuestFault(ESPIPE)
    return wasi.descriptors.get_as(File, fd)


class _Cursor:
    """Reads or writes a file at an offset, or (None) at the file's own position."""

    def __init__(self, file: File, offset: int | None = None) -> None:
        self._file = file
        self._offset = offset

    def read(self, buffer: memoryview) -> int:
        file = self._file
        return self._advance(os.preadv(file.number, [buffer], self._position()))

    def write(self, data: memoryview) -> int:
        file = self._file
        if Fdflags.APPEND in file.flags:
            written = os.pwritev(file.number, [data], 0, os.RWF_APPEND)
            if self._offset is None:
                file.position = os.fstat(file.number).st_size
            return written
        return self._advance(os.pwritev(file.number, [data], self._position()))

    def _position(self) -> int:
        position = self._file.position if self._offset is None else self._offset
        if position > MAX_OFFSET:
            raise GuestFault(EINVAL)
        return position

    def _advance(self, moved: int) -> int:
        if self._offset is None:
            self._file.position += moved
        else:
            self._offset += moved
        return moved


def _total(wasi: WasiContext, iovecs: int, count: int) -> Waiting:
    """Check all buffers of a vector, and return their total length in bytes."""
    total = 0
    for batch in wasi.memory.batches(iovecs, count):
        total += sum(length for _, length in batch)
        if wasi.slice_is_over:
            yield
    if total > _SIZE_MAX:
        raise GuestFault(EINVAL)
    return total


def _transfer(
    wasi: WasiContext,
    iovecs: int,
    count: int,
    result: int,
    move: Callable[[memoryview], int],
    waits: bool = False,
) -> Waiting:
    """Move bytes between the buffers of a vector and a stream or a file.

    All buffers are checked before the first byte is moved. The guest is suspended in the middle of
    the call whenever its slice is over.

    Args:
        wasi: The guest's context.
        iovecs: Address of the vector (``memory.IOVEC``).
        count: Number of buffers in the vector.
        result: Address to which the number of moved bytes is written.
        move: Moves up to all bytes of a buffer, and returns their number.
        waits: Whether the guest waits after a short move, which is the end of the call otherwise.
    """
    memory = wasi.memory
    memory.require(result, 4)
    if not (yield from _total(wasi, iovecs, count)):
        move(memory.view(0, 0))  # reports errors of the file even if nothing is transferred
    done = 0
    try:
        for batch in memory.batches(iovecs, count):
            for pointer, length in batch:
                end = pointer + length
                while pointer < end:
                    size = min(end - pointer, _CHUNK_SIZE)
                    moved = move(memory.view(pointer, size))
                    pointer += moved
                    done += moved
                    if moved < size and waits:
                        yield
                    elif moved == 0:
                        memory.write_u32(result, done)
                        return 0
                    elif wasi.slice_is_over:
                        yield
            if wasi.slice_is_over:
                yield
    except (OSError, GuestFault):
        if not done:  # otherwise return the partial result; the next call fails
            raise
    memory.write_u32(result, done)
    return 0


def fd_readdir(
    wasi: WasiContext, fd: int, buffer: int, length: int, cookie: int, used: int
) -> Waiting:
    """Fill a buffer with directory entries (``abi.DIRENT``); the last one may be truncated."""
    directory = wasi.descriptors.get_as(Directory, fd)
    wasi.memory.require(used, 4)
    return _read_directory(wasi, directory, buffer, length, cookie, used)


def _read_directory(
    wasi: WasiContext, directory: Directory, buffer: int, length: int, cookie: int, used: int
) -> Waiting:
    filled = 0
    for entry in directory.listing.entries(cookie):
        chunk = entry[: length - filled]
        wasi.memory.write(buffer + filled, chunk)
        filled += len(chunk)
        if filled == length:
            break
        if wasi.slice_is_over:
            yield
    wasi.memory.write_u32(used, filled)
    return 0


def fd_sync(wasi: WasiContext, fd: int) -> Waiting:
    """Flush a file's data and attributes to the disk."""
    return in_thread(wasi, os.fsync, wasi.descriptors.get_as(File, fd))


def fd_datasync(wasi: WasiContext, fd: int) -> Waiting:
    """Flush a file's data to the disk."""
    return in_thread(wasi, os.fdatasync, wasi.descriptors.get_as(File, fd))


def in_thread(wasi: WasiContext, work: Callable[[int], None], file: File | Directory) -> Waiting:
    """Run a blocking operation in a thread, and suspend the guest until it is done.

    Args:
        wasi: The guest's context.
        work: The operation; it gets the host's descriptor.
        file: The file or directory.

    Raises:
        OSError: The operation failed.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # without an event loop there is nothing to block
        work(file.number)
        return 0
    number = os.dup(file.number)  # the guest may end before the thread does

    def run() -> OSError | None:
        try:
            work(number)
        except OSError as error:
            return error
        finally:
            os.close(number)
        return None

    future = loop.run_in_executor(None, run)
    while not future.done():
        wasi.wait.futures = (future,)
        yield
    if error := future.result():
        raise error
    return 0
