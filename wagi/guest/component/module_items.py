"""The items of a core module, encoded for a merged module (core specification §5.5). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from wagi.guest.binary import MalformedModuleError, Reader, SectionNumber, leb
from wagi.guest.component.core_module import CoreModule
from wagi.guest.component.errors import unknown_structure
from wagi.guest.relocation import Relocation, relocate_constant

_VALUE_TYPES = frozenset((0x6F, 0x70, *range(0x7B, 0x80)))  # numbers, vectors, simple references
_REFERENCE_TYPES = frozenset((0x6F, 0x70))
_FUNCTION_TYPE = 0x60
_FUNCREF, _FUNCTION_KIND = b"\x70", b"\x00"
# The flags of a segment of elements. The second one has another meaning (declarative) for segments
# that are not active.
_NOT_ACTIVE, _HAS_TABLE, _HAS_EXPRESSIONS = 1, 2, 4
_PASSIVE_DATA = 1
_I32_CONSTANT = re.compile(rb"\x41[\x80-\xff]*[\x00-\x7f]\x0b")


class ModuleItems:
    """Reads the items of a module, which are not counted as work: each is read once."""

    def __init__(self, module: CoreModule) -> None:
        self._module = module

    def _reader(self, section: SectionNumber) -> Reader:
        found = self._module.section(section)
        return Reader(self._module.data, found.start, found.end) if found else Reader(b"\0", 0, 1)

    def count(self, section: SectionNumber) -> int:
        """Return the number of items in a section."""
        return self._reader(section).count()

    def types(self) -> Iterator[bytes]:
        """Yield the types of functions."""
        r = self._reader(SectionNumber.TYPES)
        for _ in range(r.count()):
            start = r.at
            if r.byte() != _FUNCTION_TYPE:
                raise unknown_structure("types other than those of functions")
            for _ in range(2):  # parameters, results
                for _ in range(r.count()):
                    _read_type(r, _VALUE_TYPES)
            yield r.data[start : r.at]

    def functions(self, to: Relocation) -> Iterator[bytes]:
        """Yield the indices of the types of the functions."""
        r = self._reader(SectionNumber.FUNCTIONS)
        for _ in range(r.count()):
            yield to.types.read(r)

    def tables(self) -> Iterator[bytes]:
        """Yield the types of the tables."""
        r = self._reader(SectionNumber.TABLES)
        for _ in range(r.count()):
            start = r.at
            _read_type(r, _REFERENCE_TYPES)
            r.limits()
            yield r.data[start : r.at]

    def memories(self) -> Iterator[bytes]:
        """Yield the types of the memories."""
        r = self._reader(SectionNumber.MEMORIES)
        for _ in range(r.count()):
            start = r.at
            r.limits()
            yield r.data[start : r.at]

    def globals(self, to: Relocation) -> Iterator[bytes]:
        """Yield the globals."""
        r = self._reader(SectionNumber.GLOBALS)
        count = r.count()
        first = len(to.globals) - count  # imports precede them
        for number in range(first, first + count):
            start = r.at
            _read_type(r, _VALUE_TYPES)
            is_mutable = r.byte()
            type_, value = r.data[start : r.at], relocate_constant(r, to)
            if not is_mutable and _I32_CONSTANT.fullmatch(value):
                to.constants[to.globals.new(number)] = value[:-1]
            yield type_ + value

    def elements(self, to: Relocation) -> Iterator[bytes]:
        """Yield the segments of elements."""
        r = self._reader(SectionNumber.ELEMENTS)
        for _ in range(r.count()):
            flags = r.u32()
            if flags > 7:
                raise MalformedModuleError(f"unknown kind of elements: {flags}")
            pieces = [leb(flags)]
            kind = _FUNCREF if flags & _HAS_EXPRESSIONS else _FUNCTION_KIND
            if not flags & _NOT_ACTIVE:  # always with a table, whose index may have changed
                pieces = [leb(flags | _HAS_TABLE)]
                pieces.append(to.tables.read(r) if flags & _HAS_TABLE else leb(to.tables.new(0)))
                pieces.append(relocate_constant(r, to))
            if flags & (_NOT_ACTIVE | _HAS_TABLE):
                kind = bytes([r.byte()])
            pieces += [kind, leb(count := r.count())]
            for _ in range(count):
                is_expression = flags & _HAS_EXPRESSIONS
                pieces.append(relocate_constant(r, to) if is_expression else to.functions.read(r))
            yield b"".join(pieces)

    def data(self, to: Relocation) -> Iterator[bytes]:
        """Yield the segments of data."""
        r = self._reader(SectionNumber.DATA)
        for _ in range(r.count()):
            flags = r.u32()
            if flags > 2:
                raise MalformedModuleError(f"unknown kind of data: {flags}")
            if flags == 2 and r.u32():
                raise unknown_structure("several memories")
            offset = b"" if flags == _PASSIVE_DATA else relocate_constant(r, to)
            kind = bytes([flags & _PASSIVE_DATA])
            size = r.count()
            r.at += size
            yield kind + offset + leb(size) + r.data[r.at - size : r.at]

    def bodies(self) -> Iterator[Reader]:
        """Yield a reader of the body of each function."""
        r = self._reader(SectionNumber.CODE)
        for _ in range(r.count()):
            size = r.count()
            yield Reader(r.data, r.at, r.at + size)
            r.at += size


def _read_type(r: Reader, known: frozenset[int]) -> None:
    if (found := r.byte()) not in known:
        raise unknown_structure(f"type {found:#04x} in one of several modules")
