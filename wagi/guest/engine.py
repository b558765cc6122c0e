"""From wasm bytes to a ``Handler``: a compiled module with its rules, ready to run guests."""

from __future__ import annotations

import hashlib
import resource
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import wasmtime

from wagi.errors import WagiError
from wagi.guest import binary, hostcalls, unstable
from wagi.guest.capi import Engine, Linker, Pool, Prepared, wat_to_wasm
from wagi.guest.ends import EngineError
from wagi.guest.files import FileCalls
from wagi.guest.imports import explain
from wagi.guest.run import Caps, Preopen
from wagi.guest.scheduler import Ticker

_SLOT = 256 * 1024**2
"""Bytes of a pool's slot: what fits starts fastest. Most of it is address space that nothing stands
behind."""
_ELEMENT = 8  # bytes of a table's element


class ModuleError(WagiError):
    """A module cannot be a handler; the message says why and what to do."""


class MemoryLimitError(ModuleError):
    """A module starts with more memory than its guests may have."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a guest may use.

    Attributes: ``memory`` bytes of linear memory; tables get an eighth of it besides;
    ``output_buffer`` bytes of output that nobody has taken at which the guest is suspended.
    """

    memory: int
    output_buffer: int = 256 * 1024


@dataclass(frozen=True, slots=True)
class Handler:
    """A compiled module with its rules.

    Attributes: ``name`` of the module, for messages; ``calls`` the exports to call, in order;
    ``caps`` what the store of a guest allows; ``preopens`` the folders its guests see.
    """

    name: str
    kit: Kit
    prepared: Prepared
    calls: tuple[bytes, ...]
    limits: Limits
    caps: Caps
    preopens: tuple[Preopen, ...]


class Kit:
    """An engine with all that its guests share."""

    def __init__(self, engine: Engine, ticker: Ticker) -> None:
        self.engine = engine
        self.ticker = ticker
        self.linker = Linker(engine)
        hostcalls.define(self.linker)
        unstable.define(self.linker)

    @cached_property
    def file_calls(self) -> FileCalls:
        """Made when the first guest with a volume touches a file."""
        return FileCalls(self.engine)


class Module:
    """A compiled module: several handlers may share it."""

    def __init__(self, name: str, kit: Kit, inner: wasmtime.Module, sizes: binary.Sizes) -> None:
        self.name = name
        self._sizes = sizes
        self._kit = kit
        self._exports = {
            item.name: isinstance(item.type, wasmtime.FuncType)
            and not item.type.params
            and not item.type.results
            for item in inner.exports
        }
        self._prepared = self._link(inner)

    def _link(self, inner: wasmtime.Module) -> Prepared:
        linker = self._kit.linker
        imports = [(item.module, item.name or "") for item in inner.imports]
        unknown = [(m, n) for m, n in imports if not linker.has(m, n)]
        if unknown:
            module, name = unknown[0]
            more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
            raise ModuleError(
                f"{self.name}: unknown import {name!r} of {module!r}{more}: {explain(module, name)}"
            )
        try:
            return linker.prepare(inner)
        except EngineError as error:
            raise ModuleError(f"{self.name}: cannot be linked: {error}") from None

    def exports(self, name: str) -> bool:
        """Whether it exports anything of this name."""
        return name in self._exports

    def handler(self, entrypoint: str, limits: Limits, preopens: tuple[Preopen, ...]) -> Handler:
        """Make a handler of it.

        Raises: ModuleError if the entrypoint is missing, MemoryLimitError if the memory limit is
        below what the module starts with.
        """
        if not self._exports.get(entrypoint, False):
            names = ", ".join(sorted(self._exports)) or "nothing"
            what = (
                "is not a function without parameters and results"
                if entrypoint in self._exports
                else "is not exported"
            )
            raise ModuleError(
                f"{self.name}: the entrypoint {entrypoint!r} {what}; it exports: {names}"
            )
        caps = self._caps(limits.memory)
        # A reactor is initialised before anything else of it is called (WASI's application ABI).
        first = (b"_initialize",) if self._exports.get("_initialize") else ()
        calls = first if entrypoint == "_initialize" else (*first, entrypoint.encode())
        return Handler(self.name, self._kit, self._prepared, calls, limits, caps, preopens)

    def _caps(self, limit: int) -> Caps:
        """Share a memory limit out among the memories and tables that a module has."""
        memories, tables = self._sizes.memories, self._sizes.tables
        caps = Caps(
            memory=limit // max(1, len(memories)),
            elements=limit // 8 // _ELEMENT // max(1, len(tables)),
            memories=len(memories),
            tables=len(tables),
        )
        if max(memories, default=0) > caps.memory:
            raise MemoryLimitError(
                f"{self.name}: memory_limit is {limit} bytes, and the module starts with"
                f" {sum(memories)} bytes{' in several memories' if len(memories) > 1 else ''}"
            )
        if max(tables, default=0) > caps.elements:
            raise MemoryLimitError(
                f"{self.name}: memory_limit is {limit} bytes, which leaves a table"
                f" {caps.elements} elements, and the module starts with {max(tables)}"
            )
        return caps


class Runtime:
    """Compiles modules and owns the engines. One for a process."""

    def __init__(self, cache_config: Path | None = None, guests: int = 1000) -> None:
        """Parameters: ``cache_config`` a file of wasmtime's that says where to keep its results;
        ``guests`` that run at a time at most.

        Raises: EngineError if the address space is limited, ConfigurationError if wasmtime refuses
        the file.
        """
        _check_address_space()
        self._ticker = Ticker(self._tick)
        self._cache_config = cache_config
        self._pool = Pool(guests, _SLOT)
        self._pooled = Kit(Engine(self._pool, cache_config), self._ticker)
        self._modules: dict[tuple[bytes, bool], tuple[Kit, wasmtime.Module]] = {}

    @cached_property
    def _on_demand(self) -> Kit:
        return Kit(Engine(None, self._cache_config), self._ticker)

    def _tick(self) -> None:
        self._pooled.engine.increment_epoch()
        if "_on_demand" in self.__dict__:
            self._on_demand.engine.increment_epoch()

    def load(self, name: str, content: bytes, memory_limit: int) -> Module:
        """Compile a module; the same bytes are compiled once.

        Parameters: ``name`` for messages; ``content`` wasm or its text format; ``memory_limit`` of
        its guests in bytes.
        Raises: ModuleError saying why it cannot be a handler.
        """
        try:
            wasm = _to_wasm(content)
            sizes = binary.initial_sizes(wasm)
            wasm = binary.rename_imports(wasm, unstable.rename)
        except (binary.MalformedModuleError, EngineError) as error:
            raise ModuleError(f"{name}: {error}") from None
        fits = max((memory_limit, *sizes.memories)) <= self._pool.memory
        key = hashlib.sha256(wasm).digest(), fits
        if key not in self._modules:
            self._modules[key] = self._compile(name, wasm, fits)
        kit, inner = self._modules[key]
        return Module(name, kit, inner, sizes)

    def _compile(self, name: str, wasm: bytes, fits: bool) -> tuple[Kit, wasmtime.Module]:
        if fits:
            try:
                return self._pooled, self._pooled.engine.compile(wasm)
            except EngineError as error:
                if "pooling allocator" not in str(error):
                    raise ModuleError(f"{name}: not a valid module: {error}") from None
        try:
            return self._on_demand, self._on_demand.engine.compile(wasm)
        except EngineError as error:
            raise ModuleError(f"{name}: not a valid module: {error}") from None


def _check_address_space() -> None:
    """wasmtime aborts the process if it cannot reserve the pool. Raises: EngineError instead."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        raise EngineError(
            f"the address space is limited to {limit} bytes (ulimit -v), and the pool of instances"
            " reserves several TiB of it without using them: lift that limit; what guests use is"
            " bounded by memory_limit"
        )


def _to_wasm(content: bytes) -> bytes:
    if binary.is_component(content):
        raise binary.MalformedModuleError(
            "this is a component (WASI preview 2), and the gateway runs core modules of preview 1:"
            " build for wasm32-wasip1"
        )
    if content.lstrip()[:1] in (b"(", b";"):
        try:
            return wat_to_wasm(content.decode())
        except UnicodeDecodeError:
            raise binary.MalformedModuleError("not UTF-8 text and not a wasm file") from None
    binary.check_magic(content)
    return content
