"""Modules: parsing, compiled modules, and the handlers that are made of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import wasmtime

from wagi.errors import WagiError
from wagi.guest import binary
from wagi.guest.capi.compiled import open_store
from wagi.guest.capi.engine import wat_to_wasm
from wagi.guest.capi.linker import InstancePre, Linker
from wagi.guest.capi.store_config import Canonical, MemoryImage, StoreConfig, StoreLimits
from wagi.guest.component.description import to_core_module
from wagi.guest.component.errors import UnsupportedComponentError
from wagi.guest.component.flattening import FlatComponent
from wagi.guest.description import signature
from wagi.guest.entry import EntryError, find_entry
from wagi.guest.handler import Handler, HandlerSpec, Preopen
from wagi.guest.image import DataImage, extract_data
from wagi.guest.imports import explain
from wagi.guest.outcome import EngineError, Trap
from wagi.guest.wasi.abi import UNSTABLE
from wagi.guest.wasi.unstable import rename
from wagi.limits import Limits

MEMORY_SLOT_SIZE = 256 * 1024**2
"""Size of a memory slot of the pool, in bytes; guests that fit start fastest. Most of it is only
reserved address space."""
ELEMENT_SIZE = 8  # bytes of a table's element
_SEGMENT_TRAPS = {
    "out of bounds memory access": "a data segment lies outside of its memory",
    "out of bounds table access": "an element segment lies outside of its table",
}
"""The meaning of these traps during an instantiation that runs no guest code."""
_OPENS_FILES = frozenset(("path_open", "[method]descriptor.open-at"))
"""Imports of modules that open files."""
_COPIED_DATA = 64 * 1024
"""Maximum size of a module's data, in bytes, that is copied into the memory of each guest. Larger
data is mapped: that has a higher fixed cost, but copies only the pages that a guest touches."""
TABLES_SHARE = 8  # tables can use an additional 1/8 of the memory limit


class ModuleError(WagiError):
    """A module cannot be a handler; the message has the reason and a remedy."""


class MemoryLimitError(ModuleError):
    """The initial memory of a module exceeds the memory limit."""


@dataclass(frozen=True, slots=True)
class ParsedModule:
    """A module that can be compiled, made by ``parse``.

    Attributes:
        name: The name, for messages.
        wasm: The module in the binary format.
        digest: The SHA-256 of ``wasm``.
        sizes: The initial sizes of memories and tables.
        fits: Whether guests fit into memory slots of the pool.
        has_start: Whether the module has a start function, which runs at instantiation.
        image: The data, if it is mapped into the memory of guests instead of copied.
        without_data: The module without that data.
        has_much_data: Whether the data is too large for wasmtime to copy it for each guest.
        component: The component that ``wasm`` is the core module of, if any.
    """

    name: str
    wasm: bytes
    digest: bytes
    sizes: binary.Sizes
    fits: bool
    has_start: bool
    image: DataImage | None
    without_data: bytes
    has_much_data: bool
    component: FlatComponent | None


def parse(name: str, content: bytes, memory_limit: int) -> ParsedModule:
    """Parse a module.

    Args:
        name: The name, for messages.
        content: The module in the binary or text format. A component is parsed as the core module
            that it contains.
        memory_limit: The memory limit of its guests, in bytes.

    Raises:
        ModuleError: If the module is malformed, or is a component that is not supported.
    """
    wasm = to_wasm(name, content)
    try:
        component = to_core_module(wasm) if binary.is_component(wasm) else None
        if component is not None:
            wasm = component.wasm
        sizes = binary.initial_sizes(wasm)
        if UNSTABLE.encode() in wasm:
            wasm = binary.rename_imports(wasm, rename)
    except (binary.MalformedModuleError, UnsupportedComponentError) as error:
        raise ModuleError(f"{name}: {error}") from None
    fits = max((memory_limit, *sizes.memories)) <= MEMORY_SLOT_SIZE
    sections = {section.number: section for section in binary.sections(wasm)}
    data = sections.get(binary.SectionNumber.DATA)
    has_much_data = data is not None and data.end - data.start > _COPIED_DATA
    extracted = extract_data(wasm, _COPIED_DATA) if has_much_data else None
    without_data, image = extracted or (wasm, None)
    return ParsedModule(
        name,
        wasm,
        hashlib.sha256(wasm).digest(),
        sizes,
        fits,
        binary.SectionNumber.START in sections,
        image,
        without_data,
        has_much_data,
        component,
    )


@dataclass(frozen=True, slots=True)
class Compiled:
    """The compiled code of a module, with the linker of its engine."""

    key: str
    linker: Linker
    inner: wasmtime.Module
    image: MemoryImage | None


class Module:
    """A compiled module, which several handlers can share."""

    def __init__(self, parsed: ParsedModule, compiled: Compiled) -> None:
        self.name = parsed.name
        self._parsed = parsed
        self._compiled = compiled
        # wasmtime's package makes these objects at every access, which takes 0.1 ms.
        self._imports = compiled.inner.imports
        self._exports = {item.name: signature(item.type) for item in compiled.inner.exports}
        self._pre = self._link()

    def _link(self) -> InstancePre:
        linker = self._compiled.linker
        inner = self._compiled.inner
        imports = [(item.module, item.name or "") for item in self._imports]
        # Functions of preview 2 have no versions here. Modules that name them so are components,
        # and their guests have the state that these functions need.
        of_component = self._parsed.component is not None
        unknown = [
            (module, name)
            for module, name in imports
            if not linker.has(module, name) or (module.startswith("wasi:") and not of_component)
        ]
        if unknown:
            module, name = unknown[0]
            more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
            raise ModuleError(
                f"{self.name}: unknown import {name!r} of {module!r}{more}: {explain(module, name)}"
            )
        try:
            return linker.instantiate_pre(inner)
        except EngineError as error:
            raise ModuleError(f"{self.name}: cannot be linked: {one_line(error)}") from None

    def exports(self, name: str) -> bool:
        """Whether the module has an export of this name, of any type."""
        return name in self._exports

    def handler(self, entrypoint: str, limits: Limits, preopens: tuple[Preopen, ...]) -> Handler:
        """Make a handler.

        Args:
            entrypoint: The export to call.
            limits: The limits of each guest.
            preopens: The directories that guests can access.

        Raises:
            ModuleError: If the entrypoint is missing, or if instantiation always fails.
            MemoryLimitError: If the initial memory of the module exceeds the limit.
        """
        component = self._parsed.component
        has_imports = bool(self._imports)
        try:
            entry = find_entry(entrypoint, self._exports, component, has_imports)
        except EntryError as error:
            raise ModuleError(f"{self.name}: {error}") from None
        store_limits = self._store_limits(limits.memory_limit)
        self._check_instantiation(store_limits)
        allocators = tuple(name.encode() for name in component.allocators) if component else ()
        canonical = Canonical(allocators, entry.arguments, entry.has_result)
        spec = HandlerSpec(
            self.name,
            self._compiled.key,
            self._compiled.linker.engine.memory,
            tuple(name.encode() for name in entry.exports),
            limits,
            store_limits,
            preopens,
            None if self._compiled.image is None else self._compiled.image.spec,
            any(item.name in _OPENS_FILES for item in self._imports),
            canonical,
            component.world if component else "",
        )
        return Handler(spec, self._pre, self._compiled.image)

    def _check_instantiation(self, limits: StoreLimits) -> None:
        """Instantiate the module once, to find errors that would occur at every request.

        Modules with a start function are skipped, since it is guest code that may do anything.
        """
        if self._parsed.has_start:
            return
        store = open_store(StoreConfig(self._pre, (), limits), b"", b"", lambda store: None)
        try:
            while (outcome := store.poll()) is None:
                pass
        finally:
            store.close()
        if isinstance(outcome, Trap):
            reason = outcome.cause
            for trap, cause in _SEGMENT_TRAPS.items():
                reason = reason.replace(trap, f"{trap} ({cause})")
            raise ModuleError(f"{self.name}: no instance can be made: {reason}")

    def _store_limits(self, limit: int) -> StoreLimits:
        """Divide a memory limit among the memories and tables of the module."""
        memories, tables = self._parsed.sizes.memories, self._parsed.sizes.tables
        limits = StoreLimits(
            memory=limit // max(1, len(memories)),
            elements=limit // TABLES_SHARE // ELEMENT_SIZE // max(1, len(tables)),
            memories=len(memories),
            tables=len(tables),
        )
        if max(memories, default=0) > limits.memory:
            raise MemoryLimitError(
                f"{self.name}: memory_limit is {limit} bytes, but the module starts with"
                f" {sum(memories)} bytes{' in several memories' if len(memories) > 1 else ''}"
            )
        if max(tables, default=0) > limits.elements:
            raise MemoryLimitError(
                f"{self.name}: memory_limit is {limit} bytes, which leaves a table"
                f" {limits.elements} elements, and the module starts with {max(tables)}"
            )
        return limits


def one_line(reason: object) -> str:
    """Join the lines of a wasmtime message: a summary, followed by its causes."""
    lines = (line.strip() for line in str(reason).splitlines())
    return ": ".join(line for line in lines if line not in ("", "Caused by:"))


def to_wasm(name: str, content: bytes) -> bytes:
    """Convert a module or component to the binary format.

    Args:
        name: The name, for messages.
        content: It in the binary or text format.

    Raises:
        ModuleError: It is neither.
    """
    try:
        if content.lstrip()[:1] in (b"(", b";"):
            return wat_to_wasm(content.decode())
        if not binary.is_component(content):
            binary.check_magic(content)
    except UnicodeDecodeError:
        raise ModuleError(f"{name}: not UTF-8 text and not a wasm file") from None
    except (binary.MalformedModuleError, EngineError) as error:
        # wasmtime's message about the text format shows the line, but it does not know the file.
        raise ModuleError(f"{name}: {str(error).replace('<anon>', name)}") from None
    return content
