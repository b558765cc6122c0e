"""Merges core modules that import from each other into one. Pure.

The items of a module follow those of the modules before it, so their indices change::

    functions   host calls of all modules, functions of module 0, functions of module 1, ...
    globals     globals of module 0, globals of module 1, ...       (likewise the other items)

An import of another module's item becomes that item. The result behaves like instances of the
modules that are made in this order: no module has a start function, so nothing runs in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from wagi.guest.binary import SectionNumber, leb
from wagi.guest.component.core_module import CoreModule
from wagi.guest.component.errors import unknown_structure
from wagi.guest.component.module_items import ModuleItems
from wagi.guest.component.reader import Sort
from wagi.guest.encoding import encode_module, encode_name, sized, vector
from wagi.guest.relocation import Indices, Relocation, UnsupportedCodeError, relocate_body

_SECTIONS = {
    Sort.CORE_FUNC: SectionNumber.FUNCTIONS,
    Sort.CORE_TABLE: SectionNumber.TABLES,
    Sort.CORE_MEMORY: SectionNumber.MEMORIES,
    Sort.CORE_GLOBAL: SectionNumber.GLOBALS,
}
"""The sections with the items that a module defines, by their sort."""


@dataclass(frozen=True, slots=True)
class PartExport:
    """An export of one of the modules.

    Attributes:
        part: The index of the module.
        name: The name of the export.
    """

    part: int
    name: str


@dataclass(frozen=True, slots=True)
class Part:
    """A module to merge.

    Attributes:
        module: The module.
        imports: For each import, in order, the module name and the name of a host call, or the
            export of an earlier module.
    """

    module: CoreModule
    imports: Sequence[tuple[str, str] | PartExport]


def merge(parts: Sequence[Part], exports: Mapping[str, PartExport]) -> bytes:
    """Merge modules.

    Args:
        parts: The modules, in the order of their instantiation.
        exports: The exports of the merged module by their names.

    Raises:
        MalformedModuleError: A module is not valid. Not everything is checked.
        UnsupportedComponentError: A module uses a feature that is not supported.
    """
    merger = _Merger(parts)
    try:
        for part in parts:
            merger.add(part)
    except UnsupportedCodeError as error:
        raise unknown_structure(f"{error} in one of several modules") from None
    merger.export(exports)
    return merger.encode()


class _Merger:
    """The merged module, while it is made: the encoded items of its sections."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._sections: dict[SectionNumber, list[bytes]] = {each: [] for each in SectionNumber}
        self._indices: list[dict[Sort, Indices]] = []  # of the modules added, by sort
        self._constants: dict[int, bytes] = {}
        self._host_calls = sum(isinstance(i, tuple) for part in parts for i in part.imports)

    def add(self, part: Part) -> None:
        """Append a module."""
        items = ModuleItems(part.module)
        types = self._append(SectionNumber.TYPES, items.types())
        indices = self._number(part, items, types)
        self._indices.append(indices)
        if len(self._sections[SectionNumber.MEMORIES]) + items.count(
            SectionNumber.MEMORIES
        ) > 1 or (len(indices[Sort.CORE_MEMORY]) > 1):
            raise unknown_structure("several memories")
        to = Relocation(
            types,
            indices[Sort.CORE_FUNC],
            indices[Sort.CORE_GLOBAL],
            indices[Sort.CORE_TABLE],
            self._range(SectionNumber.ELEMENTS, items.count(SectionNumber.ELEMENTS)),
            self._range(SectionNumber.DATA, items.count(SectionNumber.DATA)),
            self._constants,
        )
        self._append(SectionNumber.FUNCTIONS, items.functions(to))
        self._append(SectionNumber.TABLES, items.tables())
        self._append(SectionNumber.MEMORIES, items.memories())
        self._append(SectionNumber.GLOBALS, items.globals(to))
        self._append(SectionNumber.ELEMENTS, items.elements(to))
        self._append(SectionNumber.DATA, items.data(to))
        bodies = (sized(relocate_body(body, to)) for body in items.bodies())
        self._append(SectionNumber.CODE, bodies)

    def _append(self, section: SectionNumber, items: Iterable[bytes]) -> Indices:
        """Append items to a section, and return their indices."""
        first = len(self._sections[section])
        self._sections[section] += items
        return Indices.of(range(first, len(self._sections[section])))

    def _range(self, section: SectionNumber, count: int) -> Indices:
        """Return the indices of items that will be appended to a section."""
        first = len(self._sections[section])
        return Indices.of(range(first, first + count))

    def _number(self, part: Part, items: ModuleItems, types: Indices) -> dict[Sort, Indices]:
        """Return the new indices of the items that a module imports and defines."""
        numbers: dict[Sort, list[int]] = {sort: [] for sort in _SECTIONS}
        for imported, source in zip(part.module.imports, part.imports, strict=True):
            if imported.sort not in numbers:
                raise unknown_structure("exceptions in one of several modules")
            if isinstance(source, PartExport):
                numbers[imported.sort].append(self._find(source))
                continue
            host_calls = self._sections[SectionNumber.IMPORTS]
            numbers[Sort.CORE_FUNC].append(len(host_calls))
            description = b"\0" + leb(types.new(imported.type))
            host_calls.append(encode_name(source[0]) + encode_name(source[1]) + description)
        for sort, section in _SECTIONS.items():
            first = len(self._sections[section])
            first += self._host_calls if sort is Sort.CORE_FUNC else 0
            numbers[sort] += range(first, first + items.count(section))
        return {sort: Indices.of(found) for sort, found in numbers.items()}

    def _find(self, export: PartExport) -> int:
        """Return the new index of an export of a module that has been added."""
        sort, index = self._parts[export.part].module.exports[export.name]
        return self._indices[export.part][sort].new(index)

    def export(self, exports: Mapping[str, PartExport]) -> None:
        """Export items of the modules that have been added."""
        kinds = {sort: bytes([number]) for number, sort in enumerate(_SECTIONS)}
        for text, export in exports.items():
            sort, _ = self._parts[export.part].module.exports[export.name]
            encoded = encode_name(text) + kinds[sort] + leb(self._find(export))
            self._sections[SectionNumber.EXPORTS].append(encoded)

    def encode(self) -> bytes:
        """Return the merged module."""
        contents = {number: vector(items) for number, items in self._sections.items() if items}
        if SectionNumber.DATA in contents:
            segments = len(self._sections[SectionNumber.DATA])
            contents[SectionNumber.DATA_COUNT] = leb(segments)
        return encode_module(contents)
