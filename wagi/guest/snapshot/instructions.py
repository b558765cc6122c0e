"""Move the body of a function to another module: translate the indices that it contains. Pure.

All instructions of WebAssembly 2.0 and tail calls are known (core specification §5.4); the operands
of others are copied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from wagi.guest.binary import MalformedModuleError, Reader, leb
from wagi.guest.snapshot.encoding import signed
from wagi.guest.snapshot.errors import SnapshotError

_SIZES = {0x43: 4, 0x44: 8, 0xD0: 1, 0x3F: 1, 0x40: 1}
"""Operands of a fixed size in bytes: f32.const, f64.const, ref.null, memory.size, memory.grow."""
_INTEGERS = {
    **dict.fromkeys((0x0C, 0x0D, 0x20, 0x21, 0x22, 0x25, 0x26, 0x41, 0x42), 1),
    **dict.fromkeys(range(0x28, 0x3F), 2),  # alignment and offset of loads and stores
}
"""The number of integers after an opcode: branches, locals, tables, constants, memory access."""
_BULK_INTEGERS = {
    **dict.fromkeys(range(8), 0),  # saturating conversions
    **{8: 2, 9: 1, 10: 2, 11: 1, 12: 2, 13: 1, 14: 2, 15: 1, 16: 1, 17: 1},
}
"""The same after the prefix 0xFC."""
_NO_OPERANDS = frozenset((0x00, 0x01, 0x05, 0x0B, 0x0F, 0x1A, 0x1B, 0xD1, *range(0x45, 0xC5)))
_BLOCKS = frozenset((0x02, 0x03, 0x04))
_CALLS = frozenset((0x10, 0x12, 0xD2))
_INDIRECT_CALLS = frozenset((0x11, 0x13))
_GLOBALS = frozenset((0x23, 0x24))
_BRANCH_TABLE, _SELECT, _BULK, _VECTOR = 0x0E, 0x1C, 0xFC, 0xFD
_MAX_VALUE_TYPE = 0x40  # single bytes from here on are value types or empty, not type indices


@dataclass(frozen=True, slots=True)
class Relocation:
    """The indices of the new module by those of the old one.

    Attributes:
        functions: Functions.
        types: Function types.
        globals: Globals.
    """

    functions: Mapping[int, int]
    types: Mapping[int, int]
    globals: Mapping[int, int]


def relocate(body: bytes, relocation: Relocation) -> bytes:
    """Translate the indices in the body of a function.

    Args:
        body: Local declarations and instructions.
        relocation: The new indices.

    Raises:
        SnapshotError: The function contains an instruction that is not supported.
        MalformedModuleError: The function is invalid.
    """
    reader = Reader(body, 0, len(body))
    for _ in range(reader.count()):
        reader.u32()
        reader.skip_type()
    pieces = []
    copied = 0  # everything before this offset is in ``pieces``

    def replace(start: int, content: bytes) -> None:
        nonlocal copied
        pieces.append(body[copied:start])
        pieces.append(content)
        copied = reader.at

    while reader.at < reader.end:
        opcode = reader.byte()
        start = reader.at
        if opcode in _NO_OPERANDS:
            continue
        if opcode in _INTEGERS:
            _skip_integers(reader, _INTEGERS[opcode])
        elif opcode in _SIZES:
            reader.at += _SIZES[opcode]
        elif opcode in _CALLS:
            replace(start, leb(_new(relocation.functions, reader.u32(), "function")))
        elif opcode in _GLOBALS:
            replace(start, leb(_new(relocation.globals, reader.u32(), "global")))
        elif opcode in _INDIRECT_CALLS:
            replace(start, leb(_new(relocation.types, reader.u32(), "type")))
            reader.u32()
        elif opcode in _BLOCKS:
            if body[start] < _MAX_VALUE_TYPE or body[start] >= 0x80:
                index = _new(relocation.types, reader.u32(), "type")
                replace(start, signed(index))
            else:
                reader.at += 1
        else:
            _OTHERS.get(opcode, _unknown)(reader)
    pieces.append(body[copied:])
    return b"".join(pieces)


def _new(indices: Mapping[int, int], index: int, kind: str) -> int:
    try:
        return indices[index]
    except KeyError:
        raise MalformedModuleError(f"a {kind} with the index {index} does not exist") from None


def _skip_integers(reader: Reader, count: int) -> None:
    for _ in range(count):
        while reader.byte() & 0x80:
            pass


def _skip_vector(reader: Reader) -> None:
    """Skip the operands of an instruction with the prefix 0xFD."""
    number = reader.u32()
    if number <= 11 or 92 <= number <= 93:  # loads and stores
        _skip_integers(reader, 2)
    elif 84 <= number <= 91:  # of a lane
        _skip_integers(reader, 3)
    elif number in (12, 13):  # v128.const, i8x16.shuffle
        reader.at += 16
    elif 21 <= number <= 34:  # lanes
        reader.at += 1


def _skip_bulk(reader: Reader) -> None:
    number = reader.u32()
    if number not in _BULK_INTEGERS:
        _unknown(reader)
    _skip_integers(reader, _BULK_INTEGERS[number])


def _skip_branch_table(reader: Reader) -> None:
    _skip_integers(reader, reader.count() + 1)


def _skip_select(reader: Reader) -> None:
    for _ in range(reader.count()):
        reader.skip_type()


def _unknown(reader: Reader) -> None:
    raise SnapshotError(
        f"a function on the call stack contains the instruction {reader.data[reader.at - 1]:#04x},"
        " which snapshots do not support (threads, exceptions or garbage collection)"
    )


_OTHERS: dict[int, Callable[[Reader], None]] = {
    _BRANCH_TABLE: _skip_branch_table,
    _SELECT: _skip_select,
    _BULK: _skip_bulk,
    _VECTOR: _skip_vector,
}
