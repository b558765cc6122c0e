"""Rewrites the indices in the code of functions (WebAssembly core specification §5.4). Pure.

One regular expression recognises runs of instructions that stay as they are, so that the work in
Python is proportional to the number of the others: calls, accesses to globals, and a few more.
Instructions of proposals for exceptions, garbage collection, threads and several memories are
errors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from wagi.guest.binary import MalformedModuleError, Reader, leb

_LEB = rb"[\x80-\xff]*+[\x00-\x7f]"
_TYPE = rb"[\x6f\x70\x7b-\x7f]"  # of a value: a number, a vector or a simple reference
_MEMARG = rb"[\x00-\x3f]" + _LEB  # alignment, offset; bit 6 of the alignment: a memory follows
_MAX_LABELS = 63  # of branch tables that the expression recognises
_BRANCH_TABLES = b"|".join(
    re.escape(bytes([count])) + rb"(?:" + _LEB + rb"){%d}+" % (count + 1)
    for count in range(_MAX_LABELS + 1)
)
_UNCHANGED = (
    rb"[\x0c\x0d\x20-\x22\x41\x42]" + _LEB,  # branches, local variables, integers
    rb"[\x00\x01\x05\x0b\x0f\x1a\x1b\x45-\xc4\xd1]",  # without operands
    rb"[\x28-\x3e]" + _MEMARG,  # loads and stores
    rb"[\x02-\x04](?:\x40|" + _TYPE + rb")",  # blocks without parameters
    rb"\x43.{4}+|\x44.{8}+",  # floating-point numbers
    rb"\x0e(?:" + _BRANCH_TABLES + rb")",
    rb"[\x3f\x40]\x00",  # memory.size, memory.grow
    rb"\x1c\x01" + _TYPE,  # select
    rb"\xd0[\x6f\x70]",  # ref.null
    rb"\xfc(?:[\x00-\x07\x13-\x16]|\x0a\x00\x00|\x0b\x00)",  # saturation, copy, fill
    rb"\xfd[\x00-\x0b\x5c\x5d]" + _MEMARG,  # vectors: loads and stores
    rb"\xfd[\x54-\x5b]" + _MEMARG + rb".",  # vectors: loads and stores of a lane
    rb"\xfd(?:[\x0c\x0d].{16}+|[\x15-\x22].)",  # vectors: constants, shuffles, lanes
    rb"\xfd(?:[\x0e-\x14\x23-\x53\x5e-\x7f]|[\x80-\xff][\x01\x02])",  # vectors: others
)
# Group 1 is a run of instructions. It is followed by a call or ref.func (groups 2 and 3), by an
# access to a global (4 and 5), or by anything else.
_RUN = re.compile(
    rb"((?:" + b"|".join(_UNCHANGED) + rb")*+)"
    rb"(?:([\x10\x12\xd2])(" + _LEB + rb")|([\x23\x24])(" + _LEB + rb"))?+",
    re.DOTALL,
)
# Group 1 is an instruction that stays as it is, 2 and 3 are indices of a global and of a function.
_CONSTANT = re.compile(
    rb"([\x0b\x6a-\x6c\x7c-\x7e]|[\x41\x42]" + _LEB + rb"|\x43.{4}|\x44.{8}|\xd0[\x6f\x70]"
    rb"|\xfd\x0c.{16})|\x23(" + _LEB + rb")|\xd2(" + _LEB + rb")",
    re.DOTALL,
)
_END = b"\x0b"
_BLOCKS = (0x02, 0x03, 0x04)
_NEGATIVE = frozenset(bytes([byte]) for byte in range(0x40, 0x80))  # types that are not an index
_BRANCH_TABLE, _CALLS_INDIRECT, _TABLE_ACCESSES, _BULK = 0x0E, (0x11, 0x13), (0x25, 0x26), 0xFC


class UnsupportedCodeError(Exception):
    """Code that cannot be rewritten; the message has the instruction."""


class Indices:
    """The new indices of the items of one index space of a module."""

    def __init__(self, numbers: Mapping[int, int]) -> None:
        """Create a mapping.

        Args:
            numbers: The new index of each item by its old one.
        """
        self._numbers = numbers
        self._encoded = {leb(old): leb(new) for old, new in numbers.items()}

    @classmethod
    def of(cls, numbers: Sequence[int]) -> Indices:
        """Create the mapping of an index space, from the new index of each item."""
        return cls(dict(enumerate(numbers)))

    def __len__(self) -> int:
        return len(self._numbers)

    def new(self, index: int) -> int:
        """Return the new index of an item.

        Raises:
            MalformedModuleError: The old index is out of range.
        """
        if index not in self._numbers:
            raise MalformedModuleError(f"an index is out of range: {index}")
        return self._numbers[index]

    def encoded(self, index: bytes) -> bytes:
        """Return the new index of an item, both encoded as LEB128."""
        found = self._encoded.get(index)
        if found is None:  # linkers pad the indices that they relocate
            found = leb(self.new(Reader(index, 0, len(index)).u32()))
            self._encoded[index] = found
        return found

    def read(self, reader: Reader) -> bytes:
        """Read an index, and return the new one, encoded."""
        return leb(self.new(reader.u32()))


class _Unchanged(Indices):
    """Indices that stay as they are."""

    def __init__(self) -> None:
        super().__init__({})

    def new(self, index: int) -> int:
        return index

    def encoded(self, index: bytes) -> bytes:
        return index


UNCHANGED: Indices = _Unchanged()
"""The mapping of an index space that stays as it is."""


@dataclass(frozen=True, slots=True)
class Relocation:
    """The new indices of a module.

    Attributes:
        types: Those of types.
        functions: Those of functions.
        globals: Those of globals.
        tables: Those of tables.
        elements: Those of segments of elements.
        data: Those of segments of data.
        constants: The values of immutable globals as instructions, by the new indices of the
            globals. They replace the globals in constant expressions, which can only use globals
            that their module imports.
    """

    types: Indices
    functions: Indices
    globals: Indices
    tables: Indices = UNCHANGED
    elements: Indices = UNCHANGED
    data: Indices = UNCHANGED
    constants: dict[int, bytes] = field(default_factory=dict)


def relocate_body(reader: Reader, to: Relocation) -> bytes:
    """Rewrite the body of a function.

    Args:
        reader: Reads the body, which begins with the local variables.
        to: The new indices.

    Raises:
        MalformedModuleError: The body is not valid. Not everything is checked.
        UnsupportedCodeError: It has an instruction that is not supported.
    """
    start = reader.at
    for _ in range(reader.count()):
        reader.u32()
        reader.skip_type()
    return reader.data[start : reader.at] + _relocate_code(reader, to)


def relocate_constant(reader: Reader, to: Relocation) -> bytes:
    """Rewrite a constant expression, up to and including its end.

    Raises:
        MalformedModuleError: The expression is not valid. Not everything is checked.
        UnsupportedCodeError: It has an instruction that is not supported.
    """
    pieces: list[bytes] = []
    while True:
        found = _CONSTANT.match(reader.data, reader.at, reader.end)
        if found is None:
            raise UnsupportedCodeError("unknown constant expression")
        reader.at = found.end()
        if found[2]:  # global.get
            new = to.globals.new(Reader(found[2], 0, len(found[2])).u32())
            pieces.append(to.constants.get(new, b"\x23" + leb(new)))
        elif found[3]:  # ref.func
            pieces.append(b"\xd2" + to.functions.encoded(found[3]))
        else:
            pieces.append(found[0])
        if found[0] == _END:
            return b"".join(pieces)


def _relocate_code(reader: Reader, to: Relocation) -> bytes:
    """Rewrite instructions, up to the end of the reader."""
    code, end = reader.data, reader.end
    pieces: list[bytes] = []
    add, match = pieces.append, _RUN.match
    functions, globals_ = to.functions.encoded, to.globals.encoded
    at = reader.at
    while at < end:
        found = match(code, at, end)
        assert found is not None  # every part of the expression is optional
        kind = found.lastindex
        add(found[1])
        if kind == 3:
            add(found[2])
            add(functions(found[3]))
        elif kind == 5:
            add(found[4])
            add(globals_(found[5]))
        elif found.end() < end:
            reader.at = found.end()
            add(_relocate_other(reader, to))
            at = reader.at
            continue
        at = found.end()
    return b"".join(pieces)


def _relocate_other(r: Reader, to: Relocation) -> bytes:
    """Rewrite an instruction that the expression does not recognise."""
    start = r.at
    opcode = r.byte()
    prefix = bytes([opcode])
    if opcode in _BLOCKS and r.data[r.at : r.at + 1] not in _NEGATIVE:
        return prefix + _block_type(to.types.new(r.u32()))
    if opcode in _CALLS_INDIRECT:
        return prefix + to.types.read(r) + to.tables.read(r)
    if opcode in _TABLE_ACCESSES:
        return prefix + to.tables.read(r)
    if opcode == _BRANCH_TABLE:
        for _ in range(r.count() + 1):
            r.u32()
        return r.data[start : r.at]
    if opcode == _BULK:
        return prefix + _relocate_bulk(r, to)
    raise UnsupportedCodeError(f"instruction {opcode:#04x}")


def _block_type(index: int) -> bytes:
    """Encode the index of a type as a signed integer, which the type of a block is."""
    encoded = leb(index)
    if encoded[-1] & 0x40:  # the sign
        encoded = encoded[:-1] + bytes([encoded[-1] | 0x80, 0])
    return encoded


def _relocate_bulk(r: Reader, to: Relocation) -> bytes:
    """Rewrite an instruction for segments or tables, without its first byte."""
    opcode = r.byte()
    prefix = bytes([opcode])
    match opcode:
        case 0x08:  # memory.init
            return prefix + to.data.read(r) + leb(r.u32())
        case 0x09:  # data.drop
            return prefix + to.data.read(r)
        case 0x0C:  # table.init
            return prefix + to.elements.read(r) + to.tables.read(r)
        case 0x0D:  # elem.drop
            return prefix + to.elements.read(r)
        case 0x0E:  # table.copy
            return prefix + to.tables.read(r) + to.tables.read(r)
        case 0x0F | 0x10 | 0x11:  # table.grow, table.size, table.fill
            return prefix + to.tables.read(r)
    raise UnsupportedCodeError(f"instruction 0xfc {opcode:#04x}")
