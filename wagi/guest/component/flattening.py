"""Makes the core module that a component nearly always contains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from wagi.guest.binary import SectionNumber
from wagi.guest.component.core_module import FunctionType
from wagi.guest.component.errors import unknown_structure
from wagi.guest.component.graph import Component
from wagi.guest.component.host_exports import add_host_exports
from wagi.guest.component.interfaces import (
    COMMAND,
    INCOMING_HANDLER,
    PREVIEW_1,
    PROXY,
    RUN,
    check_interfaces,
    explain_exports,
    without_version,
)
from wagi.guest.component.items import (
    CoreExport,
    CoreItem,
    Instance,
    Item,
    Lifted,
    Lowered,
    OwnResourceFunction,
    ResourceDrop,
)
from wagi.guest.component.linking import Linking
from wagi.guest.component.merging import Part, PartExport, merge
from wagi.guest.component.reader import Sort
from wagi.guest.encoding import encode_name, sized, vector

_WORLDS = {INCOMING_HANDLER: (PROXY, "handle"), RUN: (COMMAND, "run")}
"""The worlds that the gateway knows, and their functions, by the interface that they export."""
MAX_ALLOCATORS = 8
"""Maximum number of allocators of a component. Those of componentize-py have three."""
_NOTHING_TO_NOTHING = FunctionType(b"", b"")


@dataclass(frozen=True, slots=True)
class FlatComponent:
    """The core module of a component.

    Attributes:
        wasm: The core module. Its imports have the name of an interface of WASI preview 2 without
            a version, and the name of a function in the flat form of the canonical ABI
            (``[resource-drop]NAME`` for a drop), or are functions of WASI preview 1. The name of
            the interface is followed by ``#N`` if allocator N allocates the results, except 0.
            Its exports have the additions of ``host_exports``.
        world: The world: ``wasi:cli/command`` or ``wasi:http/proxy``.
        entry: The export that runs the component.
        initializers: The exports to call before it, in order.
        allocators: The exports that allocate memory for the results of imports.
        imports: The imports of the module.
    """

    wasm: bytes
    world: str
    entry: str
    initializers: tuple[str, ...]
    allocators: tuple[str, ...]
    imports: tuple[tuple[str, str], ...]


def find_world(component: Component) -> str:
    """Return the world of a component; empty if it is none that the gateway knows."""
    interface = _find_interface(component)
    return _WORLDS[interface][0] if interface else ""


def flatten(wasm: bytes, component: Component) -> FlatComponent:
    """Make the core module of a component.

    Args:
        wasm: The component.
        component: The same, read by ``read_component``.

    Raises:
        MalformedModuleError: The component is not valid.
        UnsupportedComponentError: It is not known how to run the component.
    """
    check_interfaces(component.imports)
    return _Flattener(wasm, component).flatten()


class _Flattener:
    def __init__(self, wasm: bytes, component: Component) -> None:
        interface = _find_interface(component)
        if not interface:
            raise explain_exports(component.exports)
        self._wasm = wasm
        self._world, function = _WORLDS[interface]
        self._exported = _exported_function(component, interface, function)
        self._linking = Linking(wasm, component)
        owners = {index: self._adapted_instance(index) for index in self._linking.parts}
        self._adapters = {index for index, owner in owners.items() if owner is not None}
        mains = [index for index, owner in owners.items() if owner is None]
        if not mains:
            raise unknown_structure("no core module with a memory")
        if len({self._linking.module(index).code for index in mains}) < len(mains):
            raise unknown_structure("module that is instantiated twice")
        self._numbers = {index: number for number, index in enumerate(mains)}
        self._allocators: list[PartExport] = []
        self._used_adapters: set[int] = set()

    def _adapted_instance(self, index: int) -> int | None:
        """Return the instance for which another one is an adapter.

        An adapter has no memory: it works in that of the main module. Apart from functions of the
        main module, it imports only functions of WASI.
        """
        if self._linking.module(index).has_memory:
            return None
        owners, memories = set(), 0
        for _, item in self._linking.imports(index):
            if isinstance(item, OwnResourceFunction):
                return None
            if isinstance(item, CoreExport):
                if item.sort not in (Sort.CORE_FUNC, Sort.CORE_MEMORY):
                    return None
                owners.add(item.instance)
                memories += item.sort is Sort.CORE_MEMORY
        return owners.pop() if memories == 1 and len(owners) == 1 else None

    def flatten(self) -> FlatComponent:
        """Make the module."""
        memories = self._adapter_memories()
        parts = [
            Part(self._linking.module(index), list(self._imports(index, memories)))
            for index in self._numbers
        ]
        if len(memories) > 1:
            raise unknown_structure("several memories")
        memory, entry = next(iter(memories), None), self._entry()
        initializers = [self._own_export(item) for item in self._linking.initializers]
        names = _unique_names([*memories, entry, *initializers, *self._allocators])
        if len(parts) > 1:
            wasm = merge(parts, {name: export for export, name in names.items()})
        else:
            wasm = _renamed(self._wasm, parts[0])
        called = names[entry], *(names[item] for item in initializers)
        allocators = tuple(names[item] for item in self._allocators)
        exported = None if memory is None else names[memory]
        return FlatComponent(
            wasm=add_host_exports(wasm, exported, allocators, called),
            world=self._world,
            entry=names[entry],
            initializers=called[1:],
            allocators=allocators,
            imports=tuple(i for part in parts for i in part.imports if isinstance(i, tuple)),
        )

    def _imports(
        self, index: int, memories: set[PartExport]
    ) -> Iterator[tuple[str, str] | PartExport]:
        """Yield what the imports of a module are.

        Args:
            index: The index of its instance.
            memories: Receives the memories that host calls access.
        """
        module, number = self._linking.module(index), self._numbers[index]
        if module.has_start and len(self._numbers) > 1:
            raise unknown_structure("start function of one of several modules")
        for imported, item in self._linking.imports(index):
            if isinstance(item, OwnResourceFunction):
                raise unknown_structure("resources of its own")
            if isinstance(item, Lowered):
                if item.memory is not None:
                    memories.add(self._own_export(self._linking.resolve(item.memory)))
                interface = without_version(item.function.interface)
                yield interface + self._allocator_suffix(item.allocator), item.function.name
            elif isinstance(item, ResourceDrop):
                name = f"[resource-drop]{item.resource.name}"
                yield without_version(item.resource.interface), name
            elif item.instance in self._adapters and item.sort is Sort.CORE_FUNC:
                self._used_adapters.add(item.instance)
                yield PREVIEW_1, item.name
            elif self._numbers.get(item.instance, number) < number:
                yield self._own_export(item)
            else:
                raise unknown_structure(f"import {imported.name!r} from {imported.module!r}")

    def _allocator_suffix(self, item: CoreItem | None) -> str:
        """Return what follows the name of an interface for an allocator of its results."""
        if item is None:
            return ""
        allocator = self._own_export(self._linking.resolve(item))
        if allocator not in self._allocators:
            self._allocators.append(allocator)
        if len(self._allocators) > MAX_ALLOCATORS:
            raise unknown_structure("many allocators")
        number = self._allocators.index(allocator)
        return f"#{number}" if number else ""

    def _own_export(self, item: CoreItem) -> PartExport:
        """Return an export of a module that becomes part of the result."""
        if not isinstance(item, CoreExport) or item.instance not in self._numbers:
            raise unknown_structure("memory or function of its glue code")
        return PartExport(self._numbers[item.instance], item.name)

    def _adapter_memories(self) -> set[PartExport]:
        """Return the memories that the adapters access."""
        return {
            self._own_export(item)
            for index in self._adapters
            for imported, item in self._linking.imports(index)
            if imported.sort is Sort.CORE_MEMORY
        }

    def _entry(self) -> PartExport:
        """Return the export to call."""
        found = self._linking.resolve(self._exported)
        if (
            isinstance(found, CoreExport)
            and found.instance in self._used_adapters
            and self._world == COMMAND
        ):
            found = self._program(found.instance)
        return self._own_export(found)

    def _program(self, adapter: int) -> CoreItem:
        """Return the function of the program that an adapter calls to run it.

        It is the only function of the main module without parameters and results that the adapter
        imports. The adapter itself only converts the outcome.
        """
        module = self._linking.module(adapter)
        programs = [
            item
            for imported, item in self._linking.imports(adapter)
            if imported.sort is Sort.CORE_FUNC
            and isinstance(item, CoreExport)
            and module.type_of(imported.type) == _NOTHING_TO_NOTHING
        ]
        if len(programs) != 1:
            raise unknown_structure("adapter that does not call one program")
        return programs[0]


def _find_interface(component: Component) -> str:
    """Return the interface that the gateway calls; empty if the component exports none."""
    exported = {without_version(name) for name in component.exports}
    return next((name for name in _WORLDS if name in exported), "")


def _exported_function(component: Component, interface: str, function: str) -> CoreItem:
    """Return the core function behind an exported one."""
    found: list[Item] = [
        item for name, item in component.exports.items() if without_version(name) == interface
    ]
    check_interfaces(name for name in component.exports if without_version(name) == interface)
    (instance, *others) = found
    if others or not isinstance(instance, Instance):
        raise unknown_structure(f"export {interface}")
    lifted = instance.exports.get(function)
    if not isinstance(lifted, Lifted):
        raise unknown_structure(f"export {interface} without a function {function}")
    return lifted.function


def _unique_names(exports: Iterable[PartExport]) -> dict[PartExport, str]:
    """Return names for exports: their own if possible."""
    names: dict[PartExport, str] = {}
    for export in dict.fromkeys(exports):
        is_taken = export.name in names.values()
        names[export] = f"{export.name}#{export.part}" if is_taken else export.name
    return names


def _renamed(wasm: bytes, part: Part) -> bytes:
    """Return a core module with other names of its imports, all of which are host calls."""
    code, section = part.module.code, part.module.import_section
    names = [item for item in part.imports if isinstance(item, tuple)]
    if section is None or names == [(item.module, item.name) for item in part.module.imports]:
        return wasm[code.start : code.end]
    imports = [
        encode_name(interface) + encode_name(function) + item.description
        for (interface, function), item in zip(names, part.module.imports, strict=True)
    ]
    renamed = bytes([SectionNumber.IMPORTS]) + sized(vector(imports))
    return wasm[code.start : section.header] + renamed + wasm[section.end : code.end]
