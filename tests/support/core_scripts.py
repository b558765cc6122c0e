"""Random scripts of WASI calls for comparing the compiled core with the host calls in Python.

Unlike the scripts of ``wasi_sequences``, these need not make sense under any other WASI: pointers
are hostile, vectors and results overlap, descriptors are closed and replaced, the output buffer is
small, and the input comes in pieces or never ends.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tests.support.wasi_calls import ARENA, Call

_T = TypeVar("_T")
Choose = Callable[[int], int]
"""``choose(n)``: a number from 0 to n - 1."""

_MAX_CALLS = 24
_MAX = 0xFFFFFFFF
_FAR = 10**15  # nanoseconds: later than the end of any test
_POINTERS = (0, 8, 256, 1024, 1028, 1032, 4096, 4097, 32768)
_HOSTILE = (
    *(ARENA - 1, ARENA - 3, ARENA - 4, ARENA - 5, ARENA - 8, ARENA - 24, ARENA, ARENA + 1),
    *(0x7FFFFFFF, 0x80000000, _MAX - 23, _MAX - 7, _MAX - 3, _MAX),
)
_LENGTHS = (0, 1, 2, 7, 16, 100, 255, 256, 257, 1000, 5000, 40000)
_COUNTS = (0, 1, 1, 1, 2, 2, 3, 5, 63, 64, 65, 200)
_BLOCKS = (
    b"",
    b"\0",
    b"command\0",
    b"A=1\0B=\0\0C=\xff\0",
    b"x" * 300 + b"\0" + b"y\0" * 40,
    b"LONG=" + b"z" * 30000 + b"\0",
)
_INPUTS = ((), (b"x",), (b"input\n", b"more"), (bytes(range(256)) * 40,), (b"a", b"", b"bc") * 3)
_OUTPUT_LIMITS = (16, 100, 5000, 65536, 256 * 1024)
SLICES = (0.0, 5e-5, 0.002, 10.0)
"""Seconds: a slice that ends immediately, within a script, or never."""


@dataclass(frozen=True, slots=True)
class CoreScript:
    """Calls and their environment.

    Attributes:
        calls: The calls, in order.
        arguments: The guest's arguments, each terminated by a NUL.
        environment: The variables, each terminated by a NUL.
        pieces: The input; each piece arrives when the guest waits for input.
        ends: Whether end of file follows.
        output_limit: Size in bytes of the output buffer.
        slice_seconds: Duration of the guest's slices.
        has_volume: Whether it has a volume (descriptor 3).
    """

    calls: tuple[Call, ...]
    arguments: bytes = b"command\0"
    environment: bytes = b""
    pieces: tuple[bytes, ...] = ()
    ends: bool = True
    output_limit: int = 256 * 1024
    slice_seconds: float = 10.0
    has_volume: bool = False


def from_seed(seed: int) -> CoreScript:
    """Generate the script of a seed."""
    return _Maker(random.Random(seed).randrange).script()


def from_bytes(data: bytes) -> CoreScript:
    """Generate a script from a fuzzer's bytes, which are padded with zeros."""
    rest = iter(data)

    def choose(choices: int) -> int:
        value = next(rest, 0)
        if choices > 256:
            value |= next(rest, 0) << 8
        return value % choices

    return _Maker(choose).script()


class _Maker:
    def __init__(self, choose: Choose) -> None:
        self._choose = choose
        self._calls = (
            *(self._write,) * 5,
            *(self._read,) * 5,
            *(self._strings, self._sizes) * 2,
            *(self._fdstat, self._set_flags, self._prestat) * 2,
            self._random,
            self._close,
            self._renumber,
            self._poll,
            self._other,
            self._open,
        )

    def script(self) -> CoreScript:
        calls = [self._pick(self._calls)() for _ in range(self._choose(_MAX_CALLS))]
        if self._choose(3) == 0:
            status = self._pick((0, 1, 125, 126, 255, 0x7FFFFFFF, 0x80000000, _MAX))
            calls.append(Call("proc_exit", (status,)))
        return CoreScript(
            tuple(calls),
            arguments=self._pick(_BLOCKS),
            environment=self._pick(_BLOCKS),
            pieces=self._pick(_INPUTS),
            ends=self._choose(4) > 0,
            output_limit=self._pick(_OUTPUT_LIMITS),
            slice_seconds=self._pick(SLICES),
            has_volume=self._choose(3) == 0,
        )

    def _pick(self, choices: Sequence[_T]) -> _T:
        return choices[self._choose(len(choices))]

    def _pointer(self) -> int:
        kind = self._choose(8)
        if kind == 0:
            return self._pick(_HOSTILE)
        return self._choose(ARENA) if kind == 1 else self._pick(_POINTERS)

    def _length(self) -> int:
        kind = self._choose(16)
        if kind == 0:
            return self._pick(_HOSTILE)
        return self._choose(ARENA) if kind == 1 else self._pick(_LENGTHS)

    def _fd(self, usual: int) -> int:
        kind = self._choose(8)
        if kind == 0:
            return self._pick((3, 4, 5, 6, 77, _MAX))
        return usual if kind > 2 else self._choose(6)

    def _vectors(self) -> tuple[int, int, tuple[int, bytes]]:
        """Return pointer and count of a vector of buffers, and the patch that contains it."""
        count = self._pick(_COUNTS)
        if self._choose(3):
            buffers = [(self._pointer(), self._length()) for _ in range(min(count, 6))]
        else:  # all valid: consecutive or overlapping
            length, distance = self._pick((0, 1, 7, 100)), self._pick((0, 1, 8, 100))
            start = self._pick((0, 2048, 32768))
            buffers = [(start + distance * index, length) for index in range(count)]
        at = self._pick((256, 1024, 4096, ARENA - 8 * len(buffers)))
        table = b"".join(struct.pack("<II", *buffer) for buffer in buffers)
        pointer = at if self._choose(12) else self._pointer()
        return pointer, count if self._choose(12) else self._length(), (at, table)

    def _result_of(self, table_at: int) -> int:
        """Return a pointer to a result, which may overlap a vector."""
        return table_at + self._choose(32) if self._choose(6) == 0 else self._pointer()

    def _filler(self) -> tuple[tuple[int, bytes], ...]:
        """Return bytes to place where most buffers are."""
        return ((0, bytes(range(256)) * 12),) if self._choose(2) else ()

    def _write(self) -> Call:
        pointer, count, table = self._vectors()
        fd = self._fd(self._pick((1, 1, 1, 2)))
        return Call(
            "fd_write", (fd, pointer, count, self._result_of(table[0])), (*self._filler(), table)
        )

    def _read(self) -> Call:
        pointer, count, table = self._vectors()
        return Call("fd_read", (self._fd(0), pointer, count, self._result_of(table[0])), (table,))

    def _strings(self) -> Call:
        name = self._pick(("args_get", "environ_get"))
        return Call(name, (self._pointer(), self._pointer()), self._filler())

    def _sizes(self) -> Call:
        name = self._pick(("args_sizes_get", "environ_sizes_get"))
        first = self._pointer()
        second = first + self._choose(8) if self._choose(4) == 0 else self._pointer()
        return Call(name, (first, second & _MAX))

    def _fdstat(self) -> Call:
        return Call("fd_fdstat_get", (self._fd(self._choose(3)), self._pointer()), self._filler())

    def _set_flags(self) -> Call:
        flags = self._pick((0, 1, 4, 5, 8, 31, 32, 0xFFFF, 0x10004, _MAX))
        return Call("fd_fdstat_set_flags", (self._fd(self._choose(3)), flags))

    def _prestat(self) -> Call:
        if self._choose(3) == 0:
            length = self._pick((0, 4, 5, 100))
            return Call("fd_prestat_dir_name", (self._fd(3), self._pointer(), length))
        return Call("fd_prestat_get", (self._fd(3), self._pointer()))

    def _random(self) -> Call:
        return Call("random_get", (self._pointer(), self._length()))

    def _close(self) -> Call:
        return Call("fd_close", (self._fd(self._choose(3)),))

    def _renumber(self) -> Call:
        return Call("fd_renumber", (self._fd(self._choose(6)), self._fd(self._choose(6))))

    def _open(self) -> Call:
        """Usually, open the file for reading and writing."""
        rights = self._pick((1 << 1, 1 << 6, 1 << 1 | 1 << 6))
        result = self._pointer()
        arguments = (self._fd(3), 0, 512, 4, 0, rights, rights, self._pick((0, 1)), result)
        return Call("path_open", arguments, ((512, b"file"),))

    def _poll(self) -> Call:
        """Poll input, output, and clocks that are due or never will be."""
        table = []
        for _ in range(1 + self._choose(3)):
            kind, userdata = self._choose(4), self._choose(256)
            if kind < 2:
                timeout = _FAR * kind
                table.append(struct.pack("<QB7xI4xQQH6x", userdata, 0, 1, timeout, 0, 0))
            else:
                table.append(struct.pack("<QB7xI28x", userdata, kind - 1, self._fd(kind - 2)))
        arguments = (1024, self._pick((0, 2048)), len(table), self._pick((16, 1030)))
        return Call("poll_oneoff", arguments, ((1024, b"".join(table)),))

    def _other(self) -> Call:
        """Call a function that is always handled by Python or wasmtime."""
        fd, pointer = self._fd(self._choose(3)), self._pointer()
        return self._pick(
            (
                Call("fd_seek", (fd, self._choose(50), 0, pointer)),
                Call("fd_tell", (fd, pointer)),
                Call("fd_pread", (fd, 1024, 1, 0, pointer), ((1024, struct.pack("<II", 0, 20)),)),
                Call("fd_pwrite", (fd, 1024, 1, 5, pointer), ((1024, struct.pack("<II", 0, 9)),)),
                Call("fd_fdstat_set_rights", (fd, 0, 0)),
                Call("sched_yield", ()),
                Call("clock_res_get", (1, 8)),
                Call("proc_raise", (self._choose(40),)),
                Call("sock_shutdown", (fd, 1)),
            )
        )
