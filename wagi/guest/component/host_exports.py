"""What the host needs of a core module: its memory, under a known name, and a helper function.

A module may export its memory under any name. The gateway accesses the export ``memory``, as WASI
requires for modules.

The helper, ``place``, is added to the module. With it, a list of strings costs the host three calls
into the guest, however many strings there are, instead of one for each. In C::

    void place(string_t *table, uint32_t count, uint32_t stride) {
      for (; count; count--, table = (char *)table + stride) {
        char *copy = cabi_realloc(0, 0, 1, table->length);
        memcpy(copy, table->at, table->length);
        table->at = copy;
      }
    }

It is added behind all other functions, so that no index changes.
"""

from __future__ import annotations

from collections.abc import Mapping

from wagi.guest.binary import MalformedModuleError, Reader, Section, leb, sections
from wagi.guest.component.errors import unknown_structure

PLACE = "wagi:place"
"""The name of the helper. Modules for which it is not known how to add it have no such export."""
MEMORY = "memory"
_TYPES, _IMPORTS, _FUNCTIONS, _EXPORTS, _CODE = 1, 2, 3, 7, 10
_FUNCTION, _MEMORY_SORT = 0, 2
_FUNCTION_TYPE = 0x60
_PLACE_TYPE = b"\x60\x03\x7f\x7f\x7f\x00"  # (i32, i32, i32) -> ()
# The parameters are locals 0 to 2 (table, count, stride), local 3 is the copy.
_PLACE_START = (
    b"\x01\x01\x7f"  # one more local, an i32
    b"\x02\x40\x03\x40"  # block, loop
    b"\x20\x01\x45\x0d\x01"  # br_if 1 (eqz count)
    b"\x41\x00\x41\x00\x41\x01\x20\x00\x28\x02\x04\x10"  # 0, 0, 1, table->length; call
)
_PLACE_END = (
    b"\x22\x03\x20\x00\x28\x02\x00\x20\x00\x28\x02\x04\xfc\x0a\x00\x00"  # memory.copy
    b"\x20\x00\x20\x03\x36\x02\x00"  # table->at = copy
    b"\x20\x00\x20\x02\x6a\x21\x00"  # table += stride
    b"\x20\x01\x41\x01\x6b\x21\x01"  # count -= 1
    b"\x0c\x00\x0b\x0b\x0b"  # br 0, end of loop, block and function
)


def add_host_exports(
    wasm: bytes, memory: str | None, allocators: tuple[str, ...], called: tuple[str, ...]
) -> bytes:
    """Return a core module with the exports that the host needs.

    Args:
        wasm: The module.
        memory: The export with the memory that the canonical options name, if any.
        allocators: The exports that allocate memory. The helper is for the first one.
        called: The other exports that the gateway calls.

    Raises:
        MalformedModuleError: The module is not valid.
        UnsupportedComponentError: Another export that is used is called ``memory``.
    """
    found = {section.number: section for section in sections(wasm)}
    added: dict[int, bytes] = {}
    exports = _read_exports(wasm, found)
    if allocators:
        added = _place(wasm, found, exports, memory, exports.get(allocators[0]))
    if memory not in (None, MEMORY):
        if MEMORY in (*allocators, *called):
            raise unknown_structure(f"function that is called {MEMORY!r}")
        exports.pop(MEMORY, None)
        exports = {MEMORY if name == memory else name: item for name, item in exports.items()}
    elif not added:
        return wasm
    return _rebuilt(wasm, added, exports)


def _read_exports(wasm: bytes, found: Mapping[int, Section]) -> dict[str, tuple[int, int]]:
    """Return kind and index of each export."""
    exports: dict[str, tuple[int, int]] = {}
    if section := found.get(_EXPORTS):
        reader = Reader(wasm, section.start, section.end)
        for _ in range(reader.count()):
            name = reader.name()
            if name in exports or name == PLACE:
                raise MalformedModuleError(f"a core module exports {name!r} twice")
            exports[name] = reader.byte(), reader.u32()
    return exports


def _place(
    wasm: bytes,
    found: Mapping[int, Section],
    exports: dict[str, tuple[int, int]],
    memory: str | None,
    allocator: tuple[int, int] | None,
) -> dict[int, bytes]:
    """Return what ``place`` adds to each section; nothing if it is not known how to add it.

    Its export is added to ``exports``.
    """
    if not {_TYPES, _FUNCTIONS, _EXPORTS, _CODE} <= found.keys() or allocator is None:
        return {}
    if exports.get(memory or "") != (_MEMORY_SORT, 0):  # the code refers to the first memory
        return {}
    types = _count_types(Reader(wasm, found[_TYPES].start, found[_TYPES].end))
    if types is None:
        return {}
    section = found[_FUNCTIONS]
    index = _imported_functions(wasm, found) + Reader(wasm, section.start, section.end).count()
    exports[PLACE] = _FUNCTION, index
    code = _PLACE_START + leb(allocator[1]) + _PLACE_END
    return {_TYPES: _PLACE_TYPE, _FUNCTIONS: leb(types), _CODE: leb(len(code)) + code}


def _count_types(reader: Reader) -> int | None:
    """Count the types; None if there are others than those of functions."""
    count = reader.count()
    for _ in range(count):
        if reader.byte() != _FUNCTION_TYPE:
            return None
        for _ in range(2):  # parameters and results
            for _ in range(reader.count()):
                reader.skip_type()
    return count


def _imported_functions(wasm: bytes, found: Mapping[int, Section]) -> int:
    section = found.get(_IMPORTS)
    if section is None:
        return 0
    reader, functions = Reader(wasm, section.start, section.end), 0
    for _ in range(reader.count()):
        reader.name(), reader.name()
        functions += wasm[reader.at : reader.at + 1] == bytes([_FUNCTION])
        reader.skip_import_description()
    return functions


def _rebuilt(
    wasm: bytes, added: Mapping[int, bytes], exports: Mapping[str, tuple[int, int]]
) -> bytes:
    """Return a module with one more item at the end of some sections, and other exports."""
    pieces, at = [], 0
    for section in sections(wasm):
        if section.number == _EXPORTS:
            content = leb(len(exports)) + b"".join(
                _export(name, *item) for name, item in exports.items()
            )
        elif section.number in added:
            reader = Reader(wasm, section.start, section.end)
            content = leb(reader.count() + 1) + wasm[reader.at : section.end]
            content += added[section.number]
        else:
            continue
        pieces += [wasm[at : section.header], bytes([section.number]), leb(len(content)), content]
        at = section.end
    return b"".join((*pieces, wasm[at:]))


def _export(name: str, kind: int, index: int) -> bytes:
    encoded = name.encode()
    return leb(len(encoded)) + encoded + bytes([kind]) + leb(index)
