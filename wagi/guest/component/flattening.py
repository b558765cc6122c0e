"""Makes the core module that a component nearly always contains."""

from __future__ import annotations

from dataclasses import dataclass

from wagi.guest.binary import leb
from wagi.guest.component.core_module import CoreImport, CoreModule, FunctionType
from wagi.guest.component.errors import (
    BUILD_FOR_PREVIEW_1,
    UnsupportedComponentError,
    unknown_structure,
)
from wagi.guest.component.graph import Component
from wagi.guest.component.interfaces import (
    COMMAND,
    INCOMING_HANDLER,
    PREVIEW_1,
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
from wagi.guest.component.reader import Sort

_WORLDS = {INCOMING_HANDLER: ("wasi:http/proxy", "handle"), RUN: (COMMAND, "run")}
"""The worlds that the gateway knows, and their functions, by the interface that they export."""
_IMPORT_SECTION = 2
_NOTHING_TO_NOTHING = FunctionType(b"", b"")


@dataclass(frozen=True, slots=True)
class FlatComponent:
    """The core module of a component.

    Attributes:
        wasm: The core module. Its imports have the name of an interface of WASI preview 2 without
            a version, and the name of a function in the flat form of the canonical ABI
            (``[resource-drop]NAME`` for a drop), or are functions of WASI preview 1.
        world: The world: ``wasi:cli/command`` or ``wasi:http/proxy``.
        entry: The export that runs the component.
        initializers: The exports to call before it, in order.
        memory: The export with the memory that the imported functions access, if any.
        allocator: The export that allocates memory for the results of imports, if any.
        imports: The imports of the module.
    """

    wasm: bytes
    world: str
    entry: str
    initializers: tuple[str, ...]
    memory: str | None
    allocator: str | None
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
        if len(mains) > 1:
            raise UnsupportedComponentError(
                f"consists of {len(mains)} modules that are linked at startup, as those of"
                " componentize-py, which is not supported yet",
                f"{BUILD_FOR_PREVIEW_1}, or, for Python, see `wagi new --lang python`",
            )
        (self._main,) = mains

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
        module = self._linking.module(self._main)
        memories: set[str] = set()
        allocators: set[str] = set()
        names: list[tuple[str, str]] = []
        used: set[int] = set()
        for imported, item in self._linking.imports(self._main):
            names.append(self._name(imported, item))
            if isinstance(item, CoreExport):
                used.add(item.instance)
            if isinstance(item, Lowered):
                memories |= self._options(item.memory)
                allocators |= self._options(item.allocator)
        memories |= self._adapter_memories()
        if len(memories) > 1 or len(allocators) > 1:
            raise unknown_structure("several memories or allocators")
        memory = next(iter(memories), None)
        if any(name == PREVIEW_1 for name, _ in names) and memory != "memory":
            raise unknown_structure(f"memory for preview 1 that is called {memory!r}")
        return FlatComponent(
            wasm=_renamed(self._wasm, module, names),
            world=self._world,
            entry=self._entry(used),
            initializers=tuple(map(self._own_name, self._linking.initializers)),
            memory=memory,
            allocator=next(iter(allocators), None),
            imports=tuple(names),
        )

    def _name(self, imported: CoreImport, item: CoreItem) -> tuple[str, str]:
        """Return the names of an import of the flat module."""
        if isinstance(item, Lowered):
            return without_version(item.function.interface), item.function.name
        if isinstance(item, ResourceDrop):
            name = f"[resource-drop]{item.resource.name}"
            return without_version(item.resource.interface), name
        if isinstance(item, OwnResourceFunction):
            raise unknown_structure("resources of its own")
        if item.instance in self._adapters and item.sort is Sort.CORE_FUNC:
            return PREVIEW_1, item.name
        raise unknown_structure(f"import {imported.name!r} from {imported.module!r}")

    def _options(self, item: CoreItem | None) -> set[str]:
        return set() if item is None else {self._own_name(self._linking.resolve(item))}

    def _own_name(self, item: CoreItem) -> str:
        """Return the name of an export of the main module."""
        if not isinstance(item, CoreExport) or item.instance != self._main:
            raise unknown_structure("memory or function of a module that is not the main module")
        return item.name

    def _adapter_memories(self) -> set[str]:
        """Return the names of the memories that the adapters access."""
        return {
            self._own_name(item)
            for index in self._adapters
            for imported, item in self._linking.imports(index)
            if imported.sort is Sort.CORE_MEMORY
        }

    def _entry(self, used: set[int]) -> str:
        """Return the export to call.

        Args:
            used: The adapters whose functions the main module imports.
        """
        found = self._linking.resolve(self._exported)
        if isinstance(found, CoreExport) and found.instance in used and self._world == COMMAND:
            found = self._program(found.instance)
        return self._own_name(found)

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


def _renamed(wasm: bytes, module: CoreModule, names: list[tuple[str, str]]) -> bytes:
    """Return a core module with other names of its imports."""
    code, section = module.code, module.import_section
    if section is None or names == [(item.module, item.name) for item in module.imports]:
        return wasm[code.start : code.end]
    content = leb(len(names)) + b"".join(
        _text(module_name) + _text(name) + item.description
        for (module_name, name), item in zip(names, module.imports, strict=True)
    )
    header = bytes([_IMPORT_SECTION]) + leb(len(content))
    return wasm[code.start : section.header] + header + content + wasm[section.end : code.end]


def _text(name: str) -> bytes:
    encoded = name.encode()
    return leb(len(encoded)) + encoded
