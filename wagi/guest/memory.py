"""Bounds-checked access to a guest's memory; host calls in Python access it only through this file.

Every pointer and length here comes from the guest and is untrusted: the memory slots of the pool
are adjacent, and a missed check could read the memory of another request. ``GuestMemory`` checks
each range against the current size of the memory. As a second line of defence it works on a
``memoryview`` of exactly that memory, and Python's integers do not overflow.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Protocol

from wagi.guest.errno import EFAULT, EILSEQ, ENAMETOOLONG, GuestFault

_U16 = Struct("<H")
_U32 = Struct("<I")
_U64 = Struct("<Q")
IOVEC = Struct("<II")
"""``iovec`` and ``ciovec`` of WASI, a buffer of a vector, 8 bytes::

    offset  size  field
    0       4     buf: address of the buffer
    4       4     buf_len: size of the buffer in bytes
"""
_PATH_MAX = 4096  # bytes including the NUL, as in Linux
_BATCH_SIZE = 1024
"""Number of buffers that are read at a time: a vector may have millions."""


class HasMemory(Protocol):
    """An object with a guest's memory."""

    def memory(self) -> memoryview:
        """Return the whole memory at its current size.

        Raises:
            NoMemoryFault: If the guest exports no memory.
        """


class GuestMemory:
    """Bounds-checked reads and writes of one guest's linear memory.

    All methods raise GuestFault(EFAULT) for a range that is not within the memory at its current
    size. Pointers and lengths are in bytes; numbers are little-endian.
    """

    __slots__ = ("_store",)

    def __init__(self, store: HasMemory) -> None:
        self._store = store

    def _memory(self, pointer: int, length: int) -> memoryview:
        """Check a range and return the whole memory. All accesses are checked here."""
        memory = self._store.memory()
        if pointer < 0 or length < 0 or pointer + length > len(memory):
            raise GuestFault(EFAULT)
        return memory

    def view(self, pointer: int, length: int) -> memoryview:
        """Return a writable view of a range, valid until the host call returns or suspends."""
        return self._memory(pointer, length)[pointer : pointer + length]

    def require(self, pointer: int, length: int) -> None:
        """Check a range that will be used later."""
        self._memory(pointer, length)

    def read(self, pointer: int, length: int) -> bytes:
        """Copy a range out of the memory."""
        return self._memory(pointer, length)[pointer : pointer + length].tobytes()

    def read_path(self, pointer: int, length: int) -> bytes:
        """Copy a path out of the memory.

        Raises:
            GuestFault: EILSEQ if the path is not UTF-8, ENAMETOOLONG if it is longer than the
                system's paths can be.
        """
        data = self.view(pointer, length)
        if length >= _PATH_MAX:  # checked before the copy: the length may be hundreds of MiB
            raise GuestFault(ENAMETOOLONG)
        path = data.tobytes()
        try:
            path.decode()
        except UnicodeDecodeError:
            raise GuestFault(EILSEQ) from None
        return path

    def write(self, pointer: int, data: bytes) -> None:
        """Copy bytes into the memory."""
        self.view(pointer, len(data))[:] = data

    def write_u16(self, pointer: int, value: int) -> None:
        """Write an unsigned 16-bit integer."""
        _U16.pack_into(self._memory(pointer, 2), pointer, value)

    def write_u32(self, pointer: int, value: int) -> None:
        """Write an unsigned 32-bit integer."""
        _U32.pack_into(self._memory(pointer, 4), pointer, value)

    def write_u64(self, pointer: int, value: int) -> None:
        """Write an unsigned 64-bit integer."""
        _U64.pack_into(self._memory(pointer, 8), pointer, value)

    def _buffers(self, pointer: int, count: int) -> list[tuple[int, int]]:
        """Read a short vector of buffers (``IOVEC``).

        Args:
            pointer: Address of the vector.
            count: Number of buffers, at most ``_BATCH_SIZE``.

        Returns:
            Address and length of each buffer; all buffers are checked.
        """
        size = IOVEC.size * count
        memory = self._memory(pointer, size)
        vector = list(IOVEC.iter_unpack(memory[pointer : pointer + size]))
        for start, length in vector:
            self._memory(start, length)
        return vector

    def gather(self, pointer: int, count: int, limit: int) -> bytes | None:
        """Concatenate the buffers of a vector.

        Args:
            pointer: Address of the vector.
            count: Number of buffers.
            limit: Maximum total size, in bytes.

        Returns:
            None if the vector is long, or if its buffers exceed the limit.
        """
        if count > _BATCH_SIZE:
            return None
        size = IOVEC.size * count
        memory = self._memory(pointer, size)
        pieces = []
        for start, length in IOVEC.iter_unpack(memory[pointer : pointer + size]):
            limit -= length
            if limit < 0:
                return None
            pieces.append(self._memory(start, length)[start : start + length])
        return b"".join(pieces)

    def batches(self, pointer: int, count: int) -> Iterator[list[tuple[int, int]]]:
        """Read a vector of any length.

        Args:
            pointer: Address of the vector.
            count: Number of buffers.

        Yields:
            Address and length of up to ``_BATCH_SIZE`` buffers, which are checked.
        """
        self.require(pointer, IOVEC.size * count)
        for first in range(0, count, _BATCH_SIZE):
            yield self._buffers(pointer + IOVEC.size * first, min(_BATCH_SIZE, count - first))
