"""What can be said about a component, whether the gateway can run it or not."""

from __future__ import annotations

from dataclasses import dataclass

from wagi.guest import binary
from wagi.guest.component.errors import UnsupportedComponentError
from wagi.guest.component.flattening import FlatComponent, find_world, flatten
from wagi.guest.component.graph import Component, read_component
from wagi.guest.component.interfaces import version, without_version


@dataclass(frozen=True, slots=True)
class ComponentDescription:
    """A description of a component.

    Attributes:
        world: The world; empty if the gateway does not know it.
        imports: The imported interfaces with their versions.
        exports: The exported interfaces with their versions.
        producers: The contents of the ``producers`` sections of its program and of itself.
        problem: Why the gateway cannot run it; empty if it can.
    """

    world: str = ""
    imports: tuple[str, ...] = ()
    exports: tuple[str, ...] = ()
    producers: tuple[bytes, ...] = ()
    problem: str = ""

    @property
    def versions(self) -> list[str]:
        """The versions of WASI that it uses."""
        names = (*self.imports, *self.exports)
        found = {version(name) for name in names if without_version(name).startswith("wasi:")}
        return sorted(found - {""}, key=lambda text: [part.zfill(9) for part in text.split(".")])


def to_core_module(wasm: bytes) -> FlatComponent:
    """Make the core module of a component that the gateway can run.

    Raises:
        MalformedModuleError: The component is not valid.
        UnsupportedComponentError: The gateway cannot run the component.
    """
    return _to_core_module(wasm, read_component(wasm))


def describe_component(wasm: bytes) -> ComponentDescription:
    """Describe a component.

    Raises:
        MalformedModuleError: The component is not valid.
    """
    try:
        component = read_component(wasm)
    except UnsupportedComponentError as error:
        return ComponentDescription(problem=str(error))
    problem = ""
    try:
        _to_core_module(wasm, component)
    except UnsupportedComponentError as error:
        problem = str(error)
    return ComponentDescription(
        find_world(component),
        tuple(component.imports),
        tuple(component.exports),
        _producers(wasm, component),
        problem,
    )


def _to_core_module(wasm: bytes, component: Component) -> FlatComponent:
    try:
        flat = flatten(wasm, component)
    except UnsupportedComponentError as error:
        raise error.for_toolchain(_producers(wasm, component)) from None
    return flat


def _producers(wasm: bytes, component: Component) -> tuple[bytes, ...]:
    """Return the producers of the program, which is the largest module, and of the component."""
    found = [component.producers] if component.producers else []
    if component.modules:
        largest = max(component.modules, key=lambda module: module.end - module.start)
        sections = binary.custom_sections(wasm[largest.start : largest.end])
        found = [content for name, content in sections if name == "producers"] + found
    return tuple(found)
