"""From wasm bytes to a ``Handler``: a compiled module with its rules, ready to run guests.

Two processes may share the work: one that compiles and makes ``Blueprint`` values, and workers that
make handlers of them, out of the artefacts that the first one has left.
"""

from __future__ import annotations

import contextlib
import hashlib
import resource
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from os import cpu_count
from pathlib import Path

import wasmtime

from wagi.errors import WagiError
from wagi.guest import binary, hostcalls, outbound, unstable
from wagi.guest.artefacts import Artefacts, artefact_key
from wagi.guest.capi import Engine, Linker, Pool, Prepared, engine_name, wat_to_wasm
from wagi.guest.description import Description, Import, signature
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
class Blueprint:
    """All of a handler but the compiled module itself, fit to be sent to another process.

    Attributes: ``name`` of the module, for messages; ``key`` of its artefact; ``pooled`` which
    engine it was compiled for; ``calls`` the exports to call, in order; ``caps`` what the store of
    a guest allows; ``preopens`` the folders its guests see.
    """

    name: str
    key: str
    pooled: bool
    calls: tuple[bytes, ...]
    limits: Limits
    caps: Caps
    preopens: tuple[Preopen, ...]


@dataclass(frozen=True, slots=True)
class Handler:
    """A compiled module with its rules."""

    blueprint: Blueprint
    kit: Kit
    prepared: Prepared

    @property
    def name(self) -> str:
        """The module's name, for messages."""
        return self.blueprint.name


class Kit:
    """An engine with all that its guests share."""

    def __init__(self, engine: Engine, ticker: Ticker) -> None:
        self.engine = engine
        self.ticker = ticker
        self.linker = Linker(engine)
        hostcalls.define(self.linker)
        unstable.define(self.linker)
        outbound.define(self.linker)

    @cached_property
    def file_calls(self) -> FileCalls:
        """Made when the first guest with a volume touches a file."""
        return FileCalls(self.engine)


@dataclass(frozen=True, slots=True)
class Source:
    """A module that can be compiled: see ``parse``.

    Attributes: ``digest`` the sha256 of its bytes; ``fits`` whether its guests fit into slots of
    the pool.
    """

    name: str
    wasm: bytes
    digest: bytes
    sizes: binary.Sizes
    fits: bool


def parse(name: str, content: bytes, memory_limit: int) -> Source:
    """Read a module.

    Parameters: ``name`` for messages; ``content`` wasm or its text format; ``memory_limit`` of
    its guests in bytes. Raises: ModuleError saying why it cannot be a handler.
    """
    try:
        wasm = _to_wasm(content)
        sizes = binary.initial_sizes(wasm)
        if unstable.UNSTABLE.encode() in wasm:
            wasm = binary.rename_imports(wasm, unstable.rename)
    except (binary.MalformedModuleError, EngineError) as error:
        raise ModuleError(f"{name}: {error}") from None
    fits = max((memory_limit, *sizes.memories)) <= _SLOT
    return Source(name, wasm, hashlib.sha256(wasm).digest(), sizes, fits)


@dataclass(frozen=True, slots=True)
class _Compiled:
    key: str
    kit: Kit
    inner: wasmtime.Module


class Module:
    """A compiled module: several handlers may share it."""

    def __init__(self, source: Source, compiled: _Compiled) -> None:
        self.name = source.name
        self._sizes = source.sizes
        self._compiled = compiled
        self._exports = {
            item.name: isinstance(item.type, wasmtime.FuncType)
            and not item.type.params
            and not item.type.results
            for item in compiled.inner.exports
        }
        self._prepared = self._link()

    def _link(self) -> Prepared:
        linker = self._compiled.kit.linker
        inner = self._compiled.inner
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
                f"{self._hint(entrypoint)}"
            )
        caps = self._caps(limits.memory)
        # A reactor is initialised before anything else of it is called (WASI's application ABI).
        first = (b"_initialize",) if self._exports.get("_initialize") else ()
        calls = first if entrypoint == "_initialize" else (*first, entrypoint.encode())
        compiled = self._compiled
        pooled = compiled.kit.engine.pooled
        blueprint = Blueprint(self.name, compiled.key, pooled, calls, limits, caps, preopens)
        return Handler(blueprint, compiled.kit, self._prepared)

    def _hint(self, entrypoint: str) -> str:
        """What may be the matter with a module without this entrypoint."""
        if entrypoint != "_start" or "_start" in self._exports:
            return ""
        if "_initialize" in self._exports:
            return ": it is a reactor: name the function that answers requests as entrypoint"
        if not self._compiled.inner.imports:
            return ": was it built for wasm32-unknown-unknown? Build a program for wasm32-wasip1"
        return ": was it built as a library? Build a program, which has a _start"

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

    def __init__(
        self,
        artefacts: Artefacts | None = None,
        cache_config: Path | None = None,
        guests: int = 1000,
    ) -> None:
        """Parameters: ``artefacts`` where compiled modules are kept; ``cache_config`` a file of
        wasmtime's that says where it keeps some itself; ``guests`` that run at a time at most.

        Raises: EngineError if the address space is limited, ConfigurationError if wasmtime refuses
        the file.
        """
        _check_address_space()
        self._artefacts = artefacts
        self._cache_config = cache_config
        self._ticker = Ticker(self._tick)
        self._pool = Pool(guests, _SLOT)
        self._pooled = Kit(Engine(self._pool, cache_config), self._ticker)
        self._lock = threading.Lock()
        self._alone: Kit | None = None
        self._compiled: dict[str, _Compiled] = {}
        self._prepared: dict[str, Prepared] = {}

    def _kit(self, pooled: bool) -> Kit:
        """One of the two engines; the one without a pool is made when it is first needed."""
        if pooled:
            return self._pooled
        with self._lock:
            if self._alone is None:
                self._alone = Kit(Engine(None, self._cache_config), self._ticker)
            return self._alone

    def _tick(self) -> None:
        self._pooled.engine.increment_epoch()
        if self._alone is not None:
            self._alone.engine.increment_epoch()

    def compile(self, sources: Iterable[Source], report: Callable[[int, int], None]) -> None:
        """Compile modules at the same time, so that ``load`` finds them. Mistakes wait for it.

        Parameters: ``report(done, all)`` is called as it goes on, if there is anything to compile.
        """
        missing = {
            self._candidates(source)[0]: source for source in sources if not self._find(source)
        }
        if not missing:
            return
        report(0, len(missing))
        with ThreadPoolExecutor(cpu_count()) as pool:
            started = [pool.submit(self._compile_quietly, source) for source in missing.values()]
            for done, _ in enumerate(as_completed(started), 1):
                report(done, len(missing))

    def describe(self, source: Source) -> Description:
        """What a module imports and exports. Raises: ModuleError if it is not valid."""
        compiled = self._find(source) or self._compile(source)
        has = compiled.kit.linker.has
        imports = tuple(
            Import(
                item.module,
                item.name or "",
                signature(item.type),
                "" if has(item.module, item.name or "") else explain(item.module, item.name or ""),
            )
            for item in compiled.inner.imports
        )
        exports = {item.name: signature(item.type) for item in compiled.inner.exports}
        return Description(imports, exports)

    def load(self, source: Source) -> Module:
        """A module, compiled if it has not been. Raises: ModuleError with what is wrong with it."""
        return Module(source, self._find(source) or self._compile(source))

    def handler(self, blueprint: Blueprint, artefact: Path) -> Handler:
        """Make a handler whose module another process has compiled.

        Raises: EngineError if the artefact is not one of these engines.
        """
        kit = self._kit(blueprint.pooled)
        if blueprint.key not in self._prepared:
            self._prepared[blueprint.key] = kit.linker.prepare(kit.engine.read(artefact))
        return Handler(blueprint, kit, self._prepared[blueprint.key])

    def _candidates(self, source: Source) -> list[tuple[str, bool]]:
        """The artefacts that would do, the best one first: key, and whether it is for the pool."""
        alone = engine_name(None)
        if not source.fits:
            return [(artefact_key(source.digest, alone), False)]
        return [
            (artefact_key(source.digest, engine_name(self._pool)), True),
            (artefact_key(source.digest, f"{alone}, for no slot can hold it"), False),
        ]

    def _find(self, source: Source) -> _Compiled | None:
        for key, pooled in self._candidates(source):
            if key in self._compiled:
                return self._compiled[key]
            path = self._artefacts.find(key) if self._artefacts else None
            if path is not None:
                kit = self._kit(pooled)
                with contextlib.suppress(EngineError):  # damaged: it is compiled again
                    found = _Compiled(key, kit, kit.engine.read(path))
                    return self._compiled.setdefault(key, found)
        return None

    def _compile_quietly(self, source: Source) -> None:
        with contextlib.suppress(WagiError):
            self._compile(source)

    def _compile(self, source: Source) -> _Compiled:
        reason = ""
        for key, pooled in self._candidates(source):
            kit = self._kit(pooled)
            try:
                inner = kit.engine.compile(source.wasm)
            except EngineError as error:
                reason = str(error)
                if "pooling allocator" not in reason:
                    break
                continue
            if self._artefacts:
                self._artefacts.add(key, bytes(inner.serialize()))
            return self._compiled.setdefault(key, _Compiled(key, kit, inner))
        raise ModuleError(f"{source.name}: not a valid module: {reason}")


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
