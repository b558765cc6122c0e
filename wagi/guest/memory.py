"""The only way to a guest's bytes.

Every pointer and length here comes from the guest and is hostile: the slots of the pool lie side by
side, and one missed check would read the memory of another request. ``GuestMemory`` checks each
range against the size that the memory has now; below it lies a ``memoryview`` of exactly that
memory, so that even a missed check could not leave it. Python's integers do not wrap.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Protocol

from wagi.guest.errno import EFAULT, EILSEQ, ENAMETOOLONG, GuestFault

_U16 = Struct("<H")
_U32 = Struct("<I")
_U64 = Struct("<Q")
_IOVEC = Struct("<II")  # __wasi_iovec_t: u32 buf, u32 buf_len
_PATH_MAX = 4096  # bytes with the final NUL, as in Linux
_BATCH = 1024
"""Buffers of a vector that are read at a time: a vector may have millions of them."""


class HasMemory(Protocol):
    """An object with a guest's memory."""

    def memory(self) -> memoryview:
        """The whole memory as it is now. Raises: NoMemoryFault if the guest exports none."""


class GuestMemory:
    """Bounds-checked reads and writes of one guest's linear memory.

    All methods raise GuestFault(EFAULT) for a range that is not inside the memory as it is now.
    Pointers and lengths are in bytes.
    """

    __slots__ = ("_store",)

    def __init__(self, store: HasMemory) -> None:
        self._store = store

    def _memory(self, pointer: int, length: int) -> memoryview:
        """The whole memory, of which a range is going to be used: the one place that checks."""
        memory = self._store.memory()
        if pointer < 0 or length < 0 or pointer + length > len(memory):
            raise GuestFault(EFAULT)
        return memory

    def view(self, pointer: int, length: int) -> memoryview:
        """A range as a writable view, valid until the host call returns or suspends the guest."""
        return self._memory(pointer, length)[pointer : pointer + length]

    def require(self, pointer: int, length: int) -> None:
        """Check a range that is going to be used later."""
        self._memory(pointer, length)

    def read(self, pointer: int, length: int) -> bytes:
        """Copy ``length`` bytes out."""
        return self._memory(pointer, length)[pointer : pointer + length].tobytes()

    def read_path(self, pointer: int, length: int) -> bytes:
        """Copy a path out.

        Raises: GuestFault; EILSEQ if it is not UTF-8, ENAMETOOLONG if it is longer than a path of
        the system can be.
        """
        data = self.view(pointer, length)
        if length >= _PATH_MAX:  # it may be hundreds of MiB: it is not even copied
            raise GuestFault(ENAMETOOLONG)
        path = data.tobytes()
        try:
            path.decode()
        except UnicodeDecodeError:
            raise GuestFault(EILSEQ) from None
        return path

    def write(self, pointer: int, data: bytes) -> None:
        """Copy bytes in."""
        self.view(pointer, len(data))[:] = data

    def write_u16(self, pointer: int, value: int) -> None:
        """Store a number of 16 bits, little-endian."""
        _U16.pack_into(self._memory(pointer, 2), pointer, value)

    def write_u32(self, pointer: int, value: int) -> None:
        """Store a number of 32 bits, little-endian."""
        _U32.pack_into(self._memory(pointer, 4), pointer, value)

    def write_u64(self, pointer: int, value: int) -> None:
        """Store a number of 64 bits, little-endian."""
        _U64.pack_into(self._memory(pointer, 8), pointer, value)

    def _buffers(self, pointer: int, count: int) -> list[tuple[int, int]]:
        """Read a short vector of buffers (``__wasi_iovec_t``).

        Args:
            pointer: Where the vector is.
            count: How many buffers it has: not more than a batch.

        Returns:
            Pointer and length of each buffer, all of them checked.
        """
        size = _IOVEC.size * count
        memory = self._memory(pointer, size)
        vector = list(_IOVEC.iter_unpack(memory[pointer : pointer + size]))
        for start, length in vector:
            self._memory(start, length)
        return vector

    def gather(self, pointer: int, count: int, limit: int) -> bytes | None:
        """Copy a vector of buffers out, if it is short and all of it fits into ``limit`` bytes."""
        if count > _BATCH:
            return None
        size = _IOVEC.size * count
        memory = self._memory(pointer, size)
        pieces = []
        for start, length in _IOVEC.iter_unpack(memory[pointer : pointer + size]):
            limit -= length
            if limit < 0:
                return None
            pieces.append(self._memory(start, length)[start : start + length])
        return b"".join(pieces)

    def batches(self, pointer: int, count: int) -> Iterator[list[tuple[int, int]]]:
        """Read a vector of any length, a batch of buffers at a time."""
        self.require(pointer, _IOVEC.size * count)
        for first in range(0, count, _BATCH):
            yield self._buffers(pointer + _IOVEC.size * first, min(_BATCH, count - first))
