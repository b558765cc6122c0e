"""From wasm bytes to a ``Handler``: a compiled module with its limits, ready to run guests.

Two processes may share the work: one that compiles and makes ``HandlerSpec`` values, and workers
that make handlers of them, from the artefacts that the first one has left.
"""

from __future__ import annotations

import contextlib
import hashlib
import resource
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path

import wasmtime

from wagi.errors import WagiError
from wagi.guest import binary, selftest, wasi
from wagi.guest.artefacts import Artefacts, artefact_key
from wagi.guest.capi import (
    Engine,
    InstancePre,
    Linker,
    Pool,
    Store,
    StoreLimits,
    engine_name,
    wat_to_wasm,
)
from wagi.guest.description import Description, Import, signature
from wagi.guest.handler import Handler, HandlerSpec, Limits, Preopen
from wagi.guest.imports import explain
from wagi.guest.outcome import EngineError, Trap
from wagi.guest.scheduler import Ticker
from wagi.guest.targets import Target, this_processor
from wagi.guest.wasi.abi import UNSTABLE
from wagi.guest.wasi.unstable import rename

selftest.check()  # here, so that a process does it once and its forks do not

_SLOT = 256 * 1024**2
"""Bytes of a pool's slot: what fits starts fastest. Most of it is address space only."""
_ELEMENT = 8  # bytes of a table's element
_SEGMENT_TRAPS = {
    "out of bounds memory access": "a data segment lies outside of its memory",
    "out of bounds table access": "an element segment lies outside of its table",
}
"""What these traps mean where no guest code has run."""
_TABLES_SHARE = 8  # tables get this part of the memory limit, besides


class ModuleError(WagiError):
    """A module cannot be a handler; the message says why and what to do."""


class MemoryLimitError(ModuleError):
    """A module starts with more memory than its guests may have."""


@dataclass(frozen=True, slots=True)
class Source:
    """A module that can be compiled: see ``parse``.

    Attributes:
        name: For messages.
        wasm: Its bytes.
        digest: Their SHA-256.
        sizes: What an instance starts with.
        fits: Whether its guests fit into slots of the pool.
        has_start: Whether guest code runs already when an instance is made.
    """

    name: str
    wasm: bytes
    digest: bytes
    sizes: binary.Sizes
    fits: bool
    has_start: bool


def parse(name: str, content: bytes, memory_limit: int) -> Source:
    """Read a module.

    Parameters: ``name`` for messages; ``content`` wasm or its text format; ``memory_limit`` of
    its guests in bytes. Raises: ModuleError saying why it cannot be a handler.
    """
    try:
        wasm = _to_wasm(content)
        sizes = binary.initial_sizes(wasm)
        if UNSTABLE.encode() in wasm:
            wasm = binary.rename_imports(wasm, rename)
    except (binary.MalformedModuleError, EngineError) as error:
        raise ModuleError(f"{name}: {error}") from None
    fits = max((memory_limit, *sizes.memories)) <= _SLOT
    has_start = any(section.number == binary.START_SECTION for section in binary.sections(wasm))
    return Source(name, wasm, hashlib.sha256(wasm).digest(), sizes, fits, has_start)


@dataclass(frozen=True, slots=True)
class _Compiled:
    key: str
    linker: Linker
    inner: wasmtime.Module


class Module:
    """A compiled module: several handlers may share it."""

    def __init__(self, source: Source, compiled: _Compiled, ticker: Ticker) -> None:
        self.name = source.name
        self._source = source
        self._compiled = compiled
        self._ticker = ticker
        self._exports = {
            item.name: isinstance(item.type, wasmtime.FuncType)
            and not item.type.params
            and not item.type.results
            for item in compiled.inner.exports
        }
        self._pre = self._link()

    def _link(self) -> InstancePre:
        linker = self._compiled.linker
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
            return linker.instantiate_pre(inner)
        except EngineError as error:
            raise ModuleError(f"{self.name}: cannot be linked: {_one_line(error)}") from None

    def exports(self, name: str) -> bool:
        """Whether it exports anything of this name."""
        return name in self._exports

    def handler(self, entrypoint: str, limits: Limits, preopens: tuple[Preopen, ...]) -> Handler:
        """Make a handler of it.

        Raises:
            ModuleError: If the entrypoint is missing, or if no instance can ever be made.
            MemoryLimitError: If the memory limit is below what the module starts with.
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
        store_limits = self._store_limits(limits.memory)
        self._check_instantiation(store_limits)
        # A reactor is initialised before anything else of it is called (WASI's application ABI).
        first = (b"_initialize",) if self._exports.get("_initialize") else ()
        calls = first if entrypoint == "_initialize" else (*first, entrypoint.encode())
        key, pooled = self._compiled.key, self._compiled.linker.engine.pooled
        spec = HandlerSpec(self.name, key, pooled, calls, limits, store_limits, preopens)
        return Handler(spec, self._pre, self._ticker)

    def _check_instantiation(self, limits: StoreLimits) -> None:
        """Make an instance: what fails now would fail at every request.

        A start function is guest code and may do anything, so a module that has one is not tried.
        """
        if self._source.has_start:
            return
        store = Store(self._pre, None, limits)
        try:
            store.instantiate()
            while (outcome := store.poll()) is None:
                pass
        finally:
            store.close()
        if isinstance(outcome, Trap):
            reason = _one_line(outcome.message)
            for trap, cause in _SEGMENT_TRAPS.items():
                reason = reason.replace(trap, f"{trap} ({cause})")
            raise ModuleError(f"{self.name}: no instance can be made: {reason}")

    def _hint(self, entrypoint: str) -> str:
        """What may be the matter with a module without this entrypoint."""
        if entrypoint != "_start" or "_start" in self._exports:
            return ""
        if "_initialize" in self._exports:
            return ": it is a reactor: name the function that answers requests as entrypoint"
        if not self._compiled.inner.imports:
            return ": was it built for wasm32-unknown-unknown? Build a program for wasm32-wasip1"
        return ": was it built as a library? Build a program, which has a _start"

    def _store_limits(self, limit: int) -> StoreLimits:
        """Divide a memory limit among the memories and tables that a module has."""
        memories, tables = self._source.sizes.memories, self._source.sizes.tables
        limits = StoreLimits(
            memory=limit // max(1, len(memories)),
            elements=limit // _TABLES_SHARE // _ELEMENT // max(1, len(tables)),
            memories=len(memories),
            tables=len(tables),
        )
        if max(memories, default=0) > limits.memory:
            raise MemoryLimitError(
                f"{self.name}: memory_limit is {limit} bytes, and the module starts with"
                f" {sum(memories)} bytes{' in several memories' if len(memories) > 1 else ''}"
            )
        if max(tables, default=0) > limits.elements:
            raise MemoryLimitError(
                f"{self.name}: memory_limit is {limit} bytes, which leaves a table"
                f" {limits.elements} elements, and the module starts with {max(tables)}"
            )
        return limits


class Runtime:
    """Compiles modules and owns the engines. One for a process."""

    def __init__(
        self,
        artefacts: Artefacts | None = None,
        cache_config: Path | None = None,
        guests: int = 1000,
        target: Target = Target.NATIVE,
    ) -> None:
        """Make the engine of the pool.

        Args:
            artefacts: Where compiled modules are kept.
            cache_config: A file of wasmtime's that says where it keeps some itself.
            guests: How many guests run at a time at most.
            target: What modules are compiled for. With ``native``, code for another target that
                this processor can run is taken where there is no native code.

        Raises:
            EngineError: The address space is limited.
            ConfigurationError: wasmtime refuses the file.
            WagiError: Nothing can be compiled for the target on this machine.
        """
        _check_address_space()
        self._processor = this_processor()
        self._processor.check(target)
        self._target = target
        self._artefacts = artefacts
        self._cache_config = cache_config
        self._ticker = Ticker(self._tick)
        self._pool = Pool(guests, _SLOT, _SLOT // _TABLES_SHARE // _ELEMENT)
        self._pooled = _make_linker(Engine(self._pool, cache_config, target))
        self._lock = threading.Lock()
        self._on_demand: Linker | None = None
        self._compiled: dict[str, _Compiled] = {}
        self._pres: dict[str, InstancePre] = {}

    def _linker(self, pooled: bool) -> Linker:
        """Of one of the two engines; the one without a pool is made when it is first needed."""
        if pooled:
            return self._pooled
        with self._lock:
            if self._on_demand is None:
                engine = Engine(None, self._cache_config, self._target)
                self._on_demand = _make_linker(engine)
            return self._on_demand

    def _tick(self) -> None:
        self._pooled.engine.increment_epoch()
        if self._on_demand is not None:
            self._on_demand.engine.increment_epoch()

    def compile(self, sources: Iterable[Source], report: Callable[[int, int], None]) -> None:
        """Compile modules at the same time, so that ``load`` finds them. Mistakes wait for it.

        Parameters: ``report(done, all)`` is called as it goes on, if there is anything to compile.
        """
        missing = {
            (source.digest, source.fits): source for source in sources if not self._find(source)
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
        has = compiled.linker.has
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
        return Module(source, self._find(source) or self._compile(source), self._ticker)

    def handler(self, spec: HandlerSpec, artefact: Path) -> Handler:
        """Make a handler whose module another process has compiled.

        Raises: EngineError if the artefact is not one of these engines.
        """
        linker = self._linker(spec.pooled)
        if spec.key not in self._pres:
            self._pres[spec.key] = linker.instantiate_pre(linker.engine.read(artefact))
        return Handler(spec, self._pres[spec.key], self._ticker)

    def _engines(self, source: Source) -> list[tuple[str, bool]]:
        """The engines that may take a module, the best one first: name, and whether pooled."""
        alone = engine_name(None)
        if not source.fits:
            return [(alone, False)]
        return [(engine_name(self._pool), True), (f"{alone}, for no slot can hold it", False)]

    def _key(self, source: Source, engine: str, target: Target) -> str:
        return artefact_key(source.digest, engine, target, self._processor)

    def _candidates(self, source: Source) -> Iterator[tuple[str, bool]]:
        """The artefacts that would do, the best one first: key, and whether it is for the pool."""
        # Who asks for a target wants its code to be there, whatever else this machine could run.
        native = self._target is Target.NATIVE
        targets = self._processor.targets if native else (self._target,)
        for engine, pooled in self._engines(source):
            for target in targets:
                yield self._key(source, engine, target), pooled

    def _find(self, source: Source) -> _Compiled | None:
        for key, pooled in self._candidates(source):
            if key in self._compiled:
                return self._compiled[key]
            path = self._artefacts.find(key) if self._artefacts else None
            if path is not None:
                linker = self._linker(pooled)
                with contextlib.suppress(EngineError):  # damaged: it is compiled again
                    found = _Compiled(key, linker, linker.engine.read(path))
                    return self._compiled.setdefault(key, found)
        return None

    def _compile_quietly(self, source: Source) -> None:
        with contextlib.suppress(WagiError):
            self._compile(source)

    def _compile(self, source: Source) -> _Compiled:
        reason = ""
        for engine, pooled in self._engines(source):
            linker = self._linker(pooled)
            try:
                inner = linker.engine.compile(source.wasm)
            except EngineError as error:
                reason = str(error)
                if "pooling allocator" not in reason:
                    break
                continue
            key = self._key(source, engine, self._target)
            if self._artefacts:
                self._artefacts.add(key, bytes(inner.serialize()))
            return self._compiled.setdefault(key, _Compiled(key, linker, inner))
        raise ModuleError(f"{source.name}: not a valid module: {_one_line(reason)}")


def _one_line(reason: object) -> str:
    """What wasmtime says in several lines: a summary and its causes, one below the other."""
    lines = (line.strip() for line in str(reason).splitlines())
    return ": ".join(line for line in lines if line not in ("", "Caused by:"))


def _make_linker(engine: Engine) -> Linker:
    linker = Linker(engine)
    wasi.define(linker)
    return linker


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
