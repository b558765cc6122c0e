"""A reader of the binary format of components.

https://github.com/WebAssembly/component-model/blob/main/design/mvp/Binary.md

Types are skipped: what matters is where they end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from wagi.guest.binary import MalformedModuleError, Reader
from wagi.guest.component.errors import UnsupportedComponentError, preview_3, unknown_structure

_MAX_ITEMS = 100_000
"""Maximum number of items of all sections that are read. Each takes a few microseconds. Most
components have 1,000; those of componentize-py, with CPython in 11 modules, have 8,000."""
_MAX_DEPTH = 64
"""Maximum depth of components and types in each other. Real ones have four levels."""
_BYTES_PER_ITEM = 64  # of names, which are copied

_CORE = 0x100  # added to the sorts of core items


class Sort(IntEnum):
    """The sort of an item; each sort has an index space."""

    FUNC = 1
    VALUE = 2
    TYPE = 3
    COMPONENT = 4
    INSTANCE = 5
    CORE_FUNC = _CORE
    CORE_TABLE = _CORE + 1
    CORE_MEMORY = _CORE + 2
    CORE_GLOBAL = _CORE + 3
    CORE_TAG = _CORE + 4
    CORE_TYPE = _CORE + 0x10
    CORE_MODULE = _CORE + 0x11
    CORE_INSTANCE = _CORE + 0x12


class Budget:
    """The work that is left. It is shared by all readers of a file."""

    def __init__(self, items: int = _MAX_ITEMS) -> None:
        self._items = items
        self._left = items

    def spend(self, items: int) -> None:
        """Account for work that is about to be done.

        Raises:
            UnsupportedComponentError: The budget is exceeded.
        """
        self._left -= items
        if self._left < 0:
            raise UnsupportedComponentError(
                f"is too complex: it has more than {self._items} imports, exports and other items",
                "build a smaller program",
            )


@dataclass(slots=True)
class ComponentReader(Reader):
    """Reads components and the core modules in them.

    Attributes:
        budget: The work that is left.
        depth: How deep the component or type that is being read is nested.
    """

    budget: Budget
    depth: int = 0

    def part(self, start: int, end: int) -> ComponentReader:
        """Return a reader for a part of the file."""
        self.budget.spend(1)
        return ComponentReader(self.data, start, end, self.budget, self.depth)

    def name(self) -> str:
        """Read a name."""
        start = self.at
        name = Reader.name(self)
        self.budget.spend((self.at - start) // _BYTES_PER_ITEM)
        return name

    def count(self) -> int:
        """Read the length of a vector, and account for its items."""
        value = Reader.count(self)
        self.budget.spend(value)
        return value

    def each(self, read: Callable[[], object]) -> None:
        """Read a vector."""
        for _ in range(self.count()):
            read()

    def optional(self, read: Callable[[], object]) -> None:
        """Read a value that may be missing."""
        flag = self.byte()
        if flag > 1:
            raise MalformedModuleError(f"unknown flag of an optional value: {flag}")
        if flag:
            read()

    def descend(self) -> None:
        """Note that the following is one level deeper. It is followed by one ``ascend``."""
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise UnsupportedComponentError(
                f"is too complex: it is nested in more than {_MAX_DEPTH} levels",
                "build a component from one program",
            )

    def ascend(self) -> None:
        """Note that the following is one level higher again."""
        self.depth -= 1

    def expect_zero(self) -> None:
        """Read a byte that is reserved for extensions."""
        if byte := self.byte():
            raise unknown_structure(f"extension {byte:#x}")

    def extern_name(self) -> str:
        """Read the name of an import or export of a component."""
        kind = self.byte()
        if kind > 1:
            raise unknown_structure(f"name of kind {kind}")
        return self.name()

    def sort(self) -> Sort:
        """Read the sort of an item."""
        sort = self.byte()
        return self.core_sort() if sort == 0 else _sort(sort)

    def core_sort(self) -> Sort:
        """Read the sort of a core item."""
        return _sort(_CORE + self.byte())

    def alias(self) -> tuple[Sort, int, int, int | str]:
        """Read an alias: sort, kind of target, index, and index or name in it."""
        sort, kind = self.sort(), self.byte()
        if kind > 2:
            raise MalformedModuleError(f"unknown target of an alias: {kind}")
        index = self.u32()
        return sort, kind, index, self.u32() if kind == 2 else self.name()

    def extern_type(self) -> Sort:
        """Read the type of an import or export, and return its sort."""
        kind = self.byte()
        if kind == 0:  # a core module
            self.byte()
            self.u32()
            return Sort.CORE_MODULE
        if kind == Sort.VALUE or kind > Sort.INSTANCE:
            raise unknown_structure(f"import or export of kind {kind}")
        if kind == Sort.TYPE:
            self._skip_bound()
        else:
            self.u32()
        return Sort(kind)

    def skip_value_type(self) -> None:
        """Skip a primitive type, or the index of a type (signed LEB128)."""
        byte = self.byte()
        if not 0x40 <= byte < 0x80:
            self.at -= 1
            self.u32()

    def skip_component_type(self) -> None:
        """Skip a definition of a type."""
        self.descend()
        self._skip_type(self.byte())
        self.ascend()

    def _skip_type(self, kind: int) -> None:
        value = self.skip_value_type
        match kind:
            case 0x40:  # function
                self.each(self._skip_field)
                if self.byte():
                    self.expect_zero()
                else:
                    value()
            case 0x41 | 0x42:  # component, instance
                self.each(self._skip_declaration)
            case 0x3F:  # resource: its representation, its destructor
                self.byte()
                self.optional(self.u32)
            case 0x72:  # record
                self.each(self._skip_field)
            case 0x71:  # variant
                self.each(self._skip_case)
            case 0x6F:  # tuple
                self.each(value)
            case 0x6E | 0x6D:  # flags, enum
                self.each(self.name)
            case 0x70 | 0x6B:  # list, option
                value()
            case 0x67:  # list of a fixed length
                value()
                self.u32()
            case 0x6A:  # result
                self.optional(value)
                self.optional(value)
            case 0x69 | 0x68:  # own, borrow
                self.u32()
            case 0x43 | 0x3E:
                raise preview_3("asynchronous functions")
            case 0x66 | 0x65:
                raise preview_3("streams or futures")
            case _ if not 0x73 <= kind <= 0x7F:  # primitive types
                raise unknown_structure(f"type {kind:#x}")

    def _skip_bound(self) -> None:
        """Skip the bound of a type: equal to a type, or any resource."""
        bound = self.byte()
        if bound > 1:
            raise MalformedModuleError(f"unknown bound of a type: {bound}")
        if bound == 0:
            self.u32()

    def _skip_field(self) -> None:
        self.name()
        self.skip_value_type()

    def _skip_case(self) -> None:
        self.name()
        self.optional(self.skip_value_type)
        self.expect_zero()

    def _skip_declaration(self) -> None:
        match self.byte():
            case 1:
                self.skip_component_type()
            case 2:
                self.alias()
            case 3 | 4:
                self.extern_name()
                self.extern_type()
            case other:
                raise unknown_structure(f"declaration {other:#x} in a type")


def _sort(number: int) -> Sort:
    try:
        return Sort(number)
    except ValueError:
        raise MalformedModuleError(f"unknown sort of item: {number:#x}") from None
