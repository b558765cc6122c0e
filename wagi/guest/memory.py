"""The only way to a guest's bytes.

Every pointer and length here comes from the guest and is hostile: pool slots lie side by side, and
one missed check reads another request's memory. ``_check`` is the one place that looks. Python's
integers do not wrap, so ``pointer + length`` is what it says.
"""

from __future__ import annotations

from struct import Struct
from typing import Protocol

from wagi.guest.capi import peek, poke
from wagi.guest.errno import EFAULT, EINVAL, GuestFault

_U16 = Struct("<H")
_U32 = Struct("<I")
_PAIR = Struct("<II")
_IOVEC_SIZE = 8
MAX_IOVECS = 1024  # IOV_MAX of Linux


class HasMemory(Protocol):
    """Something with a guest's memory: its address and size at this moment.

    Attributes: ``span`` the same, where it is known already.
    """

    span: tuple[int, int] | None

    def memory(self) -> tuple[int, int]: ...


class GuestMemory:
    """Bounds-checked reads and writes of one guest's linear memory.

    All methods raise GuestFault(EFAULT) for a range that is not inside the memory as it is now.
    """

    __slots__ = ("_run",)

    def __init__(self, run: HasMemory) -> None:
        self._run = run

    def _check(self, pointer: int, length: int) -> int:
        base, size = self._run.span or self._run.memory()
        if pointer < 0 or length < 0 or pointer + length > size:
            raise GuestFault(EFAULT)
        return base + pointer

    def require(self, pointer: int, length: int) -> None:
        """Check a range that is going to be used in pieces."""
        self._check(pointer, length)

    def read(self, pointer: int, length: int) -> bytes:
        """Copy ``length`` bytes out."""
        return peek(self._check(pointer, length), length)

    def write(self, pointer: int, data: bytes) -> None:
        """Copy bytes in."""
        poke(self._check(pointer, len(data)), data, len(data))

    def write_u32(self, pointer: int, value: int) -> None:
        """Store a number as WASI does: little-endian, 32 bits."""
        poke(self._check(pointer, 4), _U32.pack(value), 4)

    def write_u16(self, pointer: int, value: int) -> None:
        """Store a number of 16 bits, little-endian."""
        poke(self._check(pointer, 2), _U16.pack(value), 2)

    def gather(self, pointer: int, count: int, limit: int) -> bytes:
        """Copy a list of buffers out, at most ``limit`` bytes of them. All of them are checked."""
        vectors = self.iovecs(pointer, count)
        base, _ = self._run.span or self._run.memory()
        if len(vectors) == 1:
            ((start, length),) = vectors
            return peek(base + start, min(length, limit))
        pieces = []
        for start, length in vectors:
            pieces.append(peek(base + start, min(length, limit)))
            limit -= len(pieces[-1])
        return b"".join(pieces)

    def iovecs(self, pointer: int, count: int) -> list[tuple[int, int]]:
        """Read a list of buffers: pairs of pointer and length, each checked. Raises: GuestFault."""
        if count > MAX_IOVECS:
            raise GuestFault(EINVAL)
        length = _IOVEC_SIZE * count
        vectors = list(_PAIR.iter_unpack(peek(self._check(pointer, length), length)))
        _, size = self._run.span or self._run.memory()
        for start, length in vectors:  # as in _check: the numbers are unsigned
            if start + length > size:
                raise GuestFault(EFAULT)
        return vectors
