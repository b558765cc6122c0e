"""How much memory a guest of a module needs to start, and how much it may get. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from wagi.guest.binary import Reader, initial_sizes, sections

_TABLE_SHARE = 8  # tables may grow to an eighth of the memory limit
_ELEMENT_SIZE = 8  # bytes of a table's element
_TYPE_SECTION, _EXPORT_SECTION, _CODE_SECTION, _TAG_SECTION = 1, 7, 10, 13
_MEMORY_EXPORT = 2
_FUNCTION_TYPE = 0x60
# The opcode is 0xFC and the number 15 in LEB128, which may be longer than it has to be.
_TABLE_GROW = re.compile(rb"\xfc(\x0f|\x8f\x80*\x00)")


@dataclass(frozen=True, slots=True)
class MemoryDemand:
    """What a guest takes of the memory budget.

    Attributes:
        initial: Bytes of linear memory that it has from its start to its end.
        limit: Bytes of linear memory that it may grow to.
        tables: Bytes of its tables.
    """

    initial: int = 0
    limit: int = 0
    tables: int = 0

    @property
    def at_start(self) -> int:
        """Bytes that have to be free for it to start."""
        return self.initial + self.tables


def memory_demand(wasm: bytes, memory_limit: int) -> MemoryDemand:
    """Read a module's demand.

    What cannot be seen while a guest runs counts from the start with all that it may become: the
    growth of a second memory or of one that is not exported, of the heap of collected objects, and
    of tables.

    Args:
        wasm: A valid module.
        memory_limit: Bytes of linear memory that a guest may have.
    """
    sizes = initial_sizes(wasm)
    each = memory_limit // max(1, len(sizes.memories))
    has_heap = may_have_heap(wasm)
    if len(sizes.memories) == 1 and _exports_memory(wasm) and not has_heap:
        initial, limit = sizes.memories[0], memory_limit
    else:
        initial = limit = each * (len(sizes.memories) + has_heap)
    if sizes.tables and _may_grow_tables(wasm):
        tables = memory_limit // _TABLE_SHARE
    else:
        tables = sum(sizes.tables) * _ELEMENT_SIZE
    return MemoryDemand(initial, limit, tables)


def _exports_memory(wasm: bytes) -> bool:
    """Whether a module exports its memory by the name that WASI gives it."""
    for section in sections(wasm):
        if section.number == _EXPORT_SECTION:
            reader = Reader(wasm, section.start, section.end)
            for _ in range(reader.count()):
                name, kind = reader.name(), reader.byte()
                reader.u32()  # its index
                if (name, kind) == ("memory", _MEMORY_EXPORT):
                    return True
    return False


def may_have_heap(wasm: bytes) -> bool:
    """Whether a module may make objects that are collected: structures, arrays, exceptions."""
    for section in sections(wasm):
        if section.number == _TAG_SECTION:
            return True
        if section.number == _TYPE_SECTION:
            reader = Reader(wasm, section.start, section.end)
            for _ in range(reader.count()):
                if reader.byte() != _FUNCTION_TYPE:
                    return True
                for _ in range(2):  # parameters and results
                    for _ in range(reader.count()):
                        reader.skip_type()
    return False


def _may_grow_tables(wasm: bytes) -> bool:
    """Whether ``table.grow`` occurs. Other bytes may look like it: that counts, too."""
    return any(
        _TABLE_GROW.search(wasm, section.start, section.end)
        for section in sections(wasm)
        if section.number == _CODE_SECTION
    )
