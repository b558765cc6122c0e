"""As much of a core module as matters for linking the modules of a component."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from wagi.guest import binary
from wagi.guest.binary import MalformedModuleError, Section, SectionNumber
from wagi.guest.component.errors import unknown_structure
from wagi.guest.component.items import CoreModuleCode
from wagi.guest.component.reader import Budget, ComponentReader, Sort

_FIXUPS_SECTIONS = {
    SectionNumber.TYPES,
    SectionNumber.IMPORTS,
    SectionNumber.START,
    SectionNumber.ELEMENTS,
}
_SORTS = (
    Sort.CORE_FUNC,
    Sort.CORE_TABLE,
    Sort.CORE_MEMORY,
    Sort.CORE_GLOBAL,
    Sort.CORE_TAG,
)
_LOCAL_GET, _I32_CONST, _CALL_INDIRECT, _RETURN_CALL_INDIRECT = 0x20, 0x41, 0x11, 0x13
_END = 0x0B
_FUNCTION_TYPE = 0x60


@dataclass(frozen=True, slots=True)
class CoreImport:
    """An import of a core module.

    Attributes:
        module: The module name.
        name: The name.
        sort: The sort of the import.
        type: The index of a function's type; 0 for other sorts.
        description: The bytes that follow the names.
    """

    module: str
    name: str
    sort: Sort
    type: int
    description: bytes


@dataclass(frozen=True, slots=True)
class FunctionType:
    """The type of a function, with the encoded types of its parameters and results."""

    parameters: bytes
    results: bytes


class CoreModule:
    """A core module in a component.

    Attributes:
        data: The file.
        code: The place of the module in the file.
        imports: The imports, in order.
        exports: Sort and index of each export.
        import_section: The section with the imports, if there is one.
    """

    def __init__(self, data: bytes, code: CoreModuleCode, budget: Budget) -> None:
        """Read imports and exports.

        Args:
            data: The file.
            code: The place of the module.
            budget: The work that is left.

        Raises:
            MalformedModuleError: The module is not valid.
            UnsupportedComponentError: The budget is exceeded.
        """
        self.code = code
        self.imports: list[CoreImport] = []
        self.exports: dict[str, tuple[Sort, int]] = {}
        self.data = data
        self._budget = budget
        self._sections: dict[int, Section] = {}
        binary.check_magic(data[code.start : code.start + binary.PREAMBLE_SIZE])
        start = code.start + binary.PREAMBLE_SIZE
        for section in ComponentReader(data, start, code.end, budget).sections():
            budget.spend(1)
            if section.number and section.number in self._sections:
                raise MalformedModuleError("a section occurs twice in a core module")
            self._sections[section.number] = section
        self._sections.pop(0, None)  # custom sections
        self.import_section = self._sections.get(SectionNumber.IMPORTS)
        if reader := self._reader(SectionNumber.IMPORTS):
            self.imports += [_read_import(reader) for _ in range(reader.count())]
        if reader := self._reader(SectionNumber.EXPORTS):
            for _ in range(reader.count()):
                self._read_export(reader)

    def section(self, number: SectionNumber) -> Section | None:
        """Return the place of a section; None if it does not exist."""
        return self._sections.get(number)

    def _reader(self, number: SectionNumber) -> ComponentReader | None:
        section = self._sections.get(number)
        if section is None:
            return None
        return ComponentReader(self.data, section.start, section.end, self._budget)

    def _read_export(self, reader: ComponentReader) -> None:
        name, sort, index = reader.name(), _core_sort(reader.byte()), reader.u32()
        if name in self.exports:
            raise MalformedModuleError(f"a core module exports {name!r} twice")
        self.exports[name] = sort, index

    @cached_property
    def imported_functions(self) -> list[CoreImport]:
        """The imported functions, in the order of their indices."""
        return [item for item in self.imports if item.sort is Sort.CORE_FUNC]

    @property
    def has_memory(self) -> bool:
        """Whether the module defines a memory."""
        return SectionNumber.MEMORIES in self._sections

    @property
    def has_start(self) -> bool:
        """Whether the module has a start function."""
        return SectionNumber.START in self._sections

    @property
    def is_fixups(self) -> bool:
        """Whether the module can only fill tables and call a function, all of them imported."""
        return self._sections.keys() <= _FIXUPS_SECTIONS and bool(
            self._sections.keys() & {SectionNumber.START, SectionNumber.ELEMENTS}
        )

    @cached_property
    def function_types(self) -> list[FunctionType]:
        """The types of functions.

        Raises:
            UnsupportedComponentError: There are other types.
        """
        types: list[FunctionType] = []
        if reader := self._reader(SectionNumber.TYPES):
            for _ in range(reader.count()):
                if reader.byte() != _FUNCTION_TYPE:
                    raise unknown_structure("types other than those of functions in its glue code")
                parameters, results = _value_types(reader), _value_types(reader)
                types.append(FunctionType(parameters, results))
        return types

    def type_of(self, index: int) -> FunctionType:
        """Return a type of a function by its index."""
        if index >= len(self.function_types):
            raise MalformedModuleError(f"the index of a type is out of range: {index}")
        return self.function_types[index]

    def start(self) -> CoreImport | None:
        """Return the imported function that a module of fixups calls at its start."""
        reader = self._reader(SectionNumber.START)
        return None if reader is None else self._imported_function(reader.u32())

    def elements(self) -> dict[int, CoreImport]:
        """Return what a module of fixups puts into its table: functions by index.

        Raises:
            UnsupportedComponentError: The segments are not simple lists of imported functions.
        """
        found: dict[int, CoreImport] = {}
        if reader := self._reader(SectionNumber.ELEMENTS):
            for _ in range(reader.count()):
                if reader.u32() != 0 or reader.byte() != _I32_CONST:
                    raise unknown_structure("elements of a table")
                index = _natural(reader)
                if reader.byte() != _END:
                    raise unknown_structure("elements of a table")
                for _ in range(reader.count()):
                    if index in found:
                        raise unknown_structure("element of a table that is set twice")
                    found[index] = self._imported_function(reader.u32())
                    index += 1
        return found

    def _imported_function(self, index: int) -> CoreImport:
        if index >= len(self.imported_functions):
            raise MalformedModuleError(f"the index of a function is out of range: {index}")
        return self.imported_functions[index]

    def trampolines(self, table: str) -> dict[str, int] | None:
        """Return the elements of a table that the functions of a shim call.

        Args:
            table: The name of the exported table.

        Returns:
            For each exported function, the index of the element that it calls with its own
            parameters; None if this is not a shim, because a function does anything else.
        """
        types, functions, code = (
            self._reader(SectionNumber.FUNCTIONS),
            {},
            self._reader(SectionNumber.CODE),
        )
        if self.imports or types is None or code is None or self.exports.get(table) is None:
            return None
        self._budget.spend(len(self.exports))
        of_functions = [types.u32() for _ in range(types.count())]
        if code.count() != len(of_functions):
            raise MalformedModuleError("a module has more types of functions than functions")
        for number, own_type in enumerate(of_functions):
            element = self._trampoline(code, own_type, self.exports[table][1])
            if element is None:
                return None
            functions[number] = element
        exported = [(n, i) for n, (sort, i) in self.exports.items() if sort is Sort.CORE_FUNC]
        if any(index not in functions for _, index in exported):
            raise MalformedModuleError("the index of an exported function is out of range")
        return {name: functions[index] for name, index in exported}

    def _trampoline(self, code: ComponentReader, own_type: int, table: int) -> int | None:
        """Read the body of a function. Returns: The element that it calls; None if it does more."""
        end = code.u32() + code.at
        type_ = self.type_of(own_type)
        if end > code.end or code.u32() != 0:  # local variables
            return None
        self._budget.spend(len(type_.parameters))
        for number in range(len(type_.parameters)):
            if code.byte() != _LOCAL_GET or code.u32() != number:
                return None
        if code.byte() != _I32_CONST:
            return None
        element = _natural(code)
        if code.byte() not in (_CALL_INDIRECT, _RETURN_CALL_INDIRECT):
            return None
        if self.type_of(code.u32()) != type_ or code.u32() != table:
            return None
        return element if code.byte() == _END and code.at == end else None


def _read_import(reader: ComponentReader) -> CoreImport:
    module, name, start = reader.name(), reader.name(), reader.at
    sort = _core_sort(reader.byte())
    type_ = 0
    if sort is Sort.CORE_FUNC:
        type_ = reader.u32()
    else:
        reader.at = start
        reader.skip_import_description()
    return CoreImport(module, name, sort, type_, reader.data[start : reader.at])


def _core_sort(number: int) -> Sort:
    if number >= len(_SORTS):
        raise MalformedModuleError(f"unknown kind of import or export: {number}")
    return _SORTS[number]


def _value_types(reader: ComponentReader) -> bytes:
    """Read a vector of types of numbers, which have one byte each."""
    count = reader.count()
    for _ in range(count):
        if not 0x7B <= reader.byte() <= 0x7F:
            raise unknown_structure("functions of its glue code with references")
    return reader.data[reader.at - count : reader.at]


def _natural(reader: ComponentReader) -> int:
    """Read a signed integer (LEB128) that must not be negative."""
    start = reader.at
    value = reader.u32()
    if reader.data[reader.at - 1] & 0x40:
        raise unknown_structure("negative index of a table")
    if reader.at - start > 5:
        raise MalformedModuleError("an integer has too many bytes")
    return value
