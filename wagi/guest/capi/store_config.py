"""What the stores of all guests of a handler share: limits, exports and the memory image."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

from wagi.guest.capi import api
from wagi.guest.capi.linker import InstancePre
from wagi.guest.outcome import EngineError
from wagi.guest.scheduler import SLICE, SLICE_TICKS


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """The limits of a store (wasmtime's StoreLimits).

    Attributes:
        memory: Maximum size of each linear memory, in bytes.
        elements: Maximum number of elements of each table.
        memories: Maximum number of memories.
        tables: Maximum number of tables.
    """

    memory: int
    elements: int
    memories: int
    tables: int


@dataclass(frozen=True, slots=True)
class MemoryImageSpec:
    """A memory image without its data; it can be sent to another process.

    Attributes:
        key: The key of the image's artefact.
        offset: Offset of the image in the memory, in bytes.
        size: Size of the image, in bytes.
        memory_size: Initial size of the memory, in bytes.
    """

    key: str
    offset: int
    size: int
    memory_size: int


class MemoryImage:
    """The data of a module, which the core maps copy-on-write into the memory of its guests.

    Attributes:
        spec: The specification of the image.
        address: The address of the core's image.
    """

    def __init__(self, data: bytes, spec: MemoryImageSpec) -> None:
        """Make an image.

        Args:
            data: Its bytes, whole WebAssembly pages.
            spec: Its specification.

        Raises:
            EngineError: If the size of the data differs from the specification, or if there is
                not enough memory.
        """
        if len(data) != spec.size:
            raise EngineError(
                f"the data of a compiled module has {len(data)} bytes, expected {spec.size}:"
                " remove the folder of artefacts, and start again"
            )
        try:
            self.address: int = api.core.image_new(data, spec.offset, spec.memory_size)
        except MemoryError:
            raise EngineError("not enough memory for the data of a module") from None
        self.spec = spec
        weakref.finalize(self, api.core.image_delete, self.address).atexit = False


EXTRA_TICKS = 10
"""Ticks after the end of a slice in which the allocator of a component may still run. Ordinary
allocators take microseconds, those that collect garbage a few milliseconds."""


@dataclass(frozen=True, slots=True)
class Canonical:
    """How the functions of a component are called (canonical ABI).

    Attributes:
        allocators: The exports that allocate memory for the results of host calls.
        arguments: The arguments of the last export that is called, at most two i32.
        has_result: Whether it returns an i32: 0, or 1 if it failed, which is exit status 1.
    """

    allocators: tuple[bytes, ...] = ()
    arguments: tuple[int, ...] = ()
    has_result: bool = False


MODULE = Canonical()
"""The value for a module that is not part of a component."""


class StoreConfig:
    """The configuration that the stores of all guests of a handler share.

    Attributes:
        pre: The module with its imports resolved.
        exports: The exports to call, in order.
        limits: The limits of each store.
        output_limit: Maximum size of the buffered output, in bytes; a guest that writes more waits.
        canonical: How the functions of a component are called.
    """

    def __init__(
        self,
        pre: InstancePre,
        exports: tuple[bytes, ...],
        limits: StoreLimits,
        output_limit: int = 0,
        has_preopens: bool = False,
        image: MemoryImage | None = None,
        canonical: Canonical = MODULE,
    ) -> None:
        """Make the configuration.

        Args:
            pre: The module with its imports resolved.
            exports: The exports to call, in order.
            limits: The limits of each store.
            output_limit: Maximum size of the buffered output, in bytes; a guest that writes more
                waits.
            has_preopens: Whether guests have preopened directories.
            image: The data to map into the memory of guests, if any.
            canonical: How the functions of a component are called.
        """
        self.pre = pre
        self.exports = exports
        self.limits = limits
        self.output_limit = output_limit
        self.canonical = canonical
        compiled = pre.engine.core
        if compiled is not None:
            self._image = image  # the C object refers to it, and to the block of names
            self._block = b"".join(name + b"\0" for name in exports)
            self.address = compiled.plan_new(
                pre.engine.address,
                pre.address,
                image.address if image is not None else 0,
                self._block,
                limits.memory,
                limits.elements,
                limits.tables,
                limits.memories,
                output_limit,
                SLICE,
                SLICE_TICKS,
                pre.needs_wasi,
                has_preopens,
                bool(canonical.allocators),
                canonical.has_result,
                len(canonical.arguments),
                *(*canonical.arguments, 0, 0)[:2],
            )
            weakref.finalize(self, compiled.plan_delete, self.address).atexit = False
