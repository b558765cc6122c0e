"""The index spaces of a component: what each index of each sort refers to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from wagi.guest import binary
from wagi.guest.binary import MalformedModuleError, Section
from wagi.guest.component.errors import UnsupportedComponentError, preview_3, unknown_structure
from wagi.guest.component.items import (
    CoreExport,
    CoreInstance,
    CoreItem,
    CoreModuleCode,
    Imported,
    Instance,
    Interface,
    Item,
    Lifted,
    Lowered,
    Nested,
    Opaque,
    OwnResourceFunction,
    ResourceDrop,
)
from wagi.guest.component.reader import Budget, ComponentReader, Sort

_CORE_ITEMS = (CoreExport, Lowered, ResourceDrop, OwnResourceFunction)
T = TypeVar("T")


class Component:
    """A component, read as far as it matters here.

    Attributes:
        modules: The core modules.
        core_instances: The core instances, in the order in which they are made.
        imports: The names of the imports, with their versions.
        exports: The exports by name, with their versions.
        producers: The content of the ``producers`` section; empty without one.
    """

    def __init__(self, reader: ComponentReader, arguments: Mapping[str, Item] | None = None):
        """Read a component.

        Args:
            reader: Reads the bytes of the component.
            arguments: What a nested component imports, by name; None for the component itself.

        Raises:
            MalformedModuleError: The component is not valid.
            UnsupportedComponentError: The component has parts that are not supported.
        """
        self.modules: list[CoreModuleCode] = []
        self.core_instances: list[CoreInstance] = []
        self.imports: list[str] = []
        self.exports: dict[str, Item] = {}
        self.producers = b""
        self._spaces: dict[Sort, list[Item]] = {sort: [] for sort in Sort}
        self._arguments = arguments
        if not binary.is_component(reader.data[reader.at : reader.at + binary.PREAMBLE_SIZE]):
            raise MalformedModuleError("not a component of version 1")
        reader.at += binary.PREAMBLE_SIZE
        readers = {
            2: self._read_core_instance,
            5: self._read_instance,
            6: self._read_alias,
            7: self._read_type,
            8: self._read_canonical_function,
            10: self._read_import,
            11: self._read_export,
        }
        for section in reader.sections():
            part = reader.part(section.start, section.end)
            if section.number in readers:
                for _ in range(part.count()):
                    readers[section.number](part)
                if part.at != part.end:
                    raise MalformedModuleError("a section is longer than its content")
            else:
                self._read_other(section, part)

    def _read_other(self, section: Section, part: ComponentReader) -> None:
        match section.number:
            case 0:  # custom
                if part.name() == "producers":
                    self.producers = part.data[part.at : part.end]
            case 1:  # core module
                if self._arguments is not None:
                    raise UnsupportedComponentError(
                        "is composed of several components (wac, spin compose, WASI-Virt), which"
                        " is not supported",
                        "build a component from one program",
                    )
                module = CoreModuleCode(len(self.modules), section.start, section.end)
                self.modules.append(module)
                self._spaces[Sort.CORE_MODULE].append(module)
            case 4:  # component
                self._spaces[Sort.COMPONENT].append(Nested(section.start, section.end))
            case 9:
                raise unknown_structure("start function of the component")
            case other:
                raise unknown_structure(f"section {other}")

    def _find(self, sort: Sort, index: int) -> Item:
        return _at(self._spaces[sort], index)

    def _item(self, r: ComponentReader) -> Item:
        return self._find(r.sort(), r.u32())

    def _core_item(self, sort: Sort, index: int) -> CoreItem:
        item = self._find(sort, index)
        if not isinstance(item, _CORE_ITEMS):
            raise unknown_structure("core instance with parts that are no core items")
        return item

    def _read_core_instance(self, r: ComponentReader) -> None:
        made = CoreInstance()
        kind = r.byte()
        if kind == 0:
            code = self._find(Sort.CORE_MODULE, r.u32())
            if not isinstance(code, CoreModuleCode):
                raise unknown_structure("core instance of a module of another component")
            made.module = code.number
            for _ in range(r.count()):
                name, sort, index = r.name(), r.core_sort(), r.u32()
                if sort is not Sort.CORE_INSTANCE:
                    raise MalformedModuleError("an argument of a core instance is no core instance")
                _at(self.core_instances, index)
                _add(made.arguments, name, index)
        elif kind == 1:
            for _ in range(r.count()):
                name, sort = r.name(), r.core_sort()
                _add(made.exports, name, (sort, self._core_item(sort, r.u32())))
        else:
            raise MalformedModuleError(f"unknown kind of core instance: {kind}")
        self.core_instances.append(made)
        self._spaces[Sort.CORE_INSTANCE].append(made)

    def _read_instance(self, r: ComponentReader) -> None:
        kind = r.byte()
        items: dict[str, Item] = {}
        if kind == 0:
            component = self._find(Sort.COMPONENT, r.u32())
            for _ in range(r.count()):
                _add(items, r.name(), self._item(r))
            items = self._instantiate(component, items, r)
        elif kind == 1:
            for _ in range(r.count()):
                _add(items, r.extern_name(), self._item(r))
        else:
            raise MalformedModuleError(f"unknown kind of instance: {kind}")
        self._spaces[Sort.INSTANCE].append(Instance(items))

    @staticmethod
    def _instantiate(
        component: Item, arguments: dict[str, Item], r: ComponentReader
    ) -> dict[str, Item]:
        if not isinstance(component, Nested):
            raise unknown_structure("instance of a component that is imported")
        part = r.part(component.start, component.end)
        part.descend()
        return Component(part, arguments).exports

    def _read_alias(self, r: ComponentReader) -> None:
        sort, kind, index, name = r.alias()
        space = self._spaces[sort]
        if kind == 0:
            space.append(_export_of(self._find(Sort.INSTANCE, index), sort, str(name)))
        elif kind == 1:
            instance = _at(self.core_instances, index)
            if instance.module is not None:
                space.append(CoreExport(index, str(name), sort))
                return
            found = instance.exports.get(str(name))
            if found is None or found[0] is not sort:
                raise MalformedModuleError(f"an alias refers to {name!r}, which does not exist")
            space.append(found[1])
        elif sort in (Sort.TYPE, Sort.CORE_TYPE):
            space.append(Opaque())
        else:
            raise unknown_structure("alias of a part of an outer component")

    def _read_type(self, r: ComponentReader) -> None:
        r.skip_component_type()
        self._spaces[Sort.TYPE].append(Opaque())

    def _read_canonical_function(self, r: ComponentReader) -> None:
        functions = self._spaces[Sort.CORE_FUNC]
        match r.byte():
            case 0:  # lift
                r.expect_zero()
                function = self._core_item(Sort.CORE_FUNC, r.u32())
                self._read_options(r)
                self._find(Sort.TYPE, r.u32())
                self._spaces[Sort.FUNC].append(Lifted(function))
            case 1:  # lower
                r.expect_zero()
                imported = self._find(Sort.FUNC, r.u32())
                if not isinstance(imported, Imported):
                    raise unknown_structure("call of a function of its own")
                options = self._read_options(r)
                functions.append(Lowered(imported, options.get(3), options.get(4)))
            case 3:  # resource.drop
                resource = self._find(Sort.TYPE, r.u32())
                functions.append(
                    ResourceDrop(resource)
                    if isinstance(resource, Imported)
                    else OwnResourceFunction()
                )
            case 2 | 4:  # resource.new, resource.rep
                self._find(Sort.TYPE, r.u32())
                functions.append(OwnResourceFunction())
            case other:
                raise preview_3(f"built-in function {other:#x}")

    def _read_options(self, r: ComponentReader) -> dict[int, CoreItem]:
        """Read canonical options. Returns: Those that refer to a core item, by their kind."""
        options: dict[int, CoreItem] = {}
        for _ in range(r.count()):
            kind = r.byte()
            if kind in (1, 2):
                raise UnsupportedComponentError(
                    "uses strings that are not UTF-8, which is not supported"
                )
            if kind in (3, 4, 5):  # memory, allocator, function to call after the return
                sort = Sort.CORE_MEMORY if kind == 3 else Sort.CORE_FUNC
                options[kind] = self._core_item(sort, r.u32())
            elif kind in (6, 7):
                raise preview_3("asynchronous functions")
            elif kind:
                raise unknown_structure(f"canonical option {kind}")
        return options

    def _read_import(self, r: ComponentReader) -> None:
        name, sort = r.extern_name(), r.extern_type()
        self.imports.append(name)
        if self._arguments is not None:
            found = self._arguments.get(name)
            if found is None:
                raise MalformedModuleError(f"the import {name!r} of a nested component is missing")
            self._spaces[sort].append(found)
        elif sort is Sort.INSTANCE:
            self._spaces[sort].append(Interface(name))
        elif sort in (Sort.FUNC, Sort.TYPE):
            self._spaces[sort].append(Imported("", name))
        else:
            raise unknown_structure("import of a module or a component")

    def _read_export(self, r: ComponentReader) -> None:
        name, sort = r.extern_name(), r.sort()
        item = self._find(sort, r.u32())
        r.optional(r.extern_type)
        _add(self.exports, name, item)
        self._spaces[sort].append(item)  # an export is a new index


def read_component(wasm: bytes) -> Component:
    """Read a component.

    Raises:
        MalformedModuleError: The component is not valid.
        UnsupportedComponentError: The component has parts that are not supported.
    """
    return Component(ComponentReader(wasm, 0, len(wasm), Budget()))


def _at(space: Sequence[T], index: int) -> T:
    if index >= len(space):
        raise MalformedModuleError(f"an index is out of range: {index} of {len(space)}")
    return space[index]


def _add(items: dict[str, T], name: str, item: T) -> None:
    if name in items:
        raise MalformedModuleError(f"the name {name!r} is used twice")
    items[name] = item


def _export_of(instance: Item, sort: Sort, name: str) -> Item:
    if isinstance(instance, Interface):
        return Imported(instance.name, name)
    if not isinstance(instance, Instance) or name not in instance.exports:
        raise MalformedModuleError(f"an alias refers to {name!r}, which does not exist")
    return instance.exports[name]
