"""Determine how much memory a guest of a module needs to start, and may grow to. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from wagi.guest.binary import Reader, SectionNumber, initial_sizes, sections

_TABLE_SHARE = 8  # tables may grow to one eighth of the memory limit
_ELEMENT_SIZE = 8  # bytes
_MEMORY_EXPORT = 2
_FUNCTION_TYPE = 0x60
# The opcode is 0xFC and 15 in LEB128, which may have redundant bytes.
_TABLE_GROW = re.compile(rb"\xfc(\x0f|\x8f\x80*\x00)")


@dataclass(frozen=True, slots=True)
class MemoryDemand:
    """The share of the memory budget that a guest takes.

    Attributes:
        initial: Initial size of its linear memory in bytes.
        limit: Maximum size of its linear memory in bytes.
        tables: Size of its tables in bytes.
    """

    initial: int = 0
    limit: int = 0
    tables: int = 0

    @property
    def at_start(self) -> int:
        """Memory that has to be free for it to start, in bytes."""
        return self.initial + self.tables


def memory_demand(wasm: bytes, memory_limit: int) -> MemoryDemand:
    """Determine the demand of a module.

    Memory whose growth cannot be observed counts with its maximum from the start: a second memory,
    one that is not exported, the heap of garbage-collected objects, and tables.

    Args:
        wasm: A valid module.
        memory_limit: Maximum size of the linear memory of a guest in bytes.
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
    """Return whether a module exports its memory under the name that WASI requires."""
    for section in sections(wasm):
        if section.number == SectionNumber.EXPORTS:
            reader = Reader(wasm, section.start, section.end)
            for _ in range(reader.count()):
                name, kind = reader.name(), reader.byte()
                reader.u32()  # its index
                if (name, kind) == ("memory", _MEMORY_EXPORT):
                    return True
    return False


def may_have_heap(wasm: bytes) -> bool:
    """Return whether a module may create garbage-collected objects: structs, arrays, exceptions."""
    for section in sections(wasm):
        if section.number == SectionNumber.TAGS:
            return True
        if section.number == SectionNumber.TYPES:
            reader = Reader(wasm, section.start, section.end)
            for _ in range(reader.count()):
                if reader.byte() != _FUNCTION_TYPE:
                    return True
                for _ in range(2):  # parameters and results
                    for _ in range(reader.count()):
                        reader.skip_type()
    return False


def _may_grow_tables(wasm: bytes) -> bool:
    """Return whether ``table.grow`` may occur. Other bytes may look like it: false positives."""
    return any(
        _TABLE_GROW.search(wasm, section.start, section.end)
        for section in sections(wasm)
        if section.number == SectionNumber.CODE
    )
