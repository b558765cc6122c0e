"""What the indices of a component refer to, as far as it matters here."""

from __future__ import annotations

from dataclasses import dataclass, field

from wagi.guest.component.reader import Sort


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface that the component imports: an instance.

    Attributes:
        name: The name with its version, such as ``wasi:io/streams@0.2.3``.
    """

    name: str


@dataclass(frozen=True, slots=True)
class Imported:
    """A function or a type of an interface that the component imports.

    Attributes:
        interface: The name of the interface with its version; empty for an import of its own.
        name: The name in the interface.
    """

    interface: str
    name: str


@dataclass(frozen=True, slots=True)
class CoreExport:
    """An export of an instance of a core module.

    Attributes:
        instance: The index of the core instance.
        name: The name of the export.
        sort: The sort of the export.
    """

    instance: int
    name: str
    sort: Sort


@dataclass(frozen=True, slots=True)
class Lowered:
    """A core function that calls an imported function (``canon lower``).

    Attributes:
        function: The imported function.
        memory: The memory that it reads and writes, if any.
        allocator: The function that allocates memory for its results, if any.
    """

    function: Imported
    memory: CoreItem | None
    allocator: CoreItem | None


@dataclass(frozen=True, slots=True)
class ResourceDrop:
    """A core function that drops a resource of an imported interface."""

    resource: Imported


@dataclass(frozen=True, slots=True)
class OwnResourceFunction:
    """A core function that makes, drops or reads a resource that the component defines."""


CoreItem = CoreExport | Lowered | ResourceDrop | OwnResourceFunction
"""A core function, table, memory or global."""


@dataclass(frozen=True, slots=True)
class Lifted:
    """A function of the component that calls a core function (``canon lift``)."""

    function: CoreItem


@dataclass(frozen=True, slots=True)
class Nested:
    """The place of a component inside of the component."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class CoreModuleCode:
    """The place of a core module in the file.

    Attributes:
        number: The number of the module in the file, from 0.
        start: Offset of the module.
        end: Offset of its end.
    """

    number: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance of a component: its exports by name."""

    exports: dict[str, Item]


@dataclass(slots=True)
class CoreInstance:
    """A core instance: of a module, or a collection of exports.

    Attributes:
        module: The number of the module; None if it is a collection.
        arguments: For each module name of imports, the index of the core instance.
        exports: The exports of a collection, with their sorts.
    """

    module: int | None = None
    arguments: dict[str, int] = field(default_factory=dict)
    exports: dict[str, tuple[Sort, CoreItem]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Opaque:
    """An item whose content does not matter: a type."""


Item = (
    Interface
    | Imported
    | CoreExport
    | Lowered
    | ResourceDrop
    | OwnResourceFunction
    | Lifted
    | Nested
    | CoreModuleCode
    | Instance
    | CoreInstance
    | Opaque
)
