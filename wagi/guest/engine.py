"""From wasm bytes to a ``Handler``: a compiled module with its limits, ready to run guests.

Two processes may share the work: one that compiles and makes ``HandlerSpec`` values, and workers
that make handlers of them, from the artefacts that the first one has left.
"""

from __future__ import annotations

import contextlib
import hashlib
import resource
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path

import wasmtime

from wagi.errors import WagiError
from wagi.guest import binary, selftest, wasi
from wagi.guest.artefacts import Artefacts, artefact_key
from wagi.guest.capi.compiled import open_store
from wagi.guest.capi.engine import (
    Engine,
    Memory,
    Pool,
    default_memory,
    engine_name,
    wat_to_wasm,
)
from wagi.guest.capi.linker import InstancePre, Linker
from wagi.guest.capi.store import Image, ImagePlace, StoreLimits, StorePlan
from wagi.guest.description import Description, Import, signature
from wagi.guest.handler import Handler, HandlerSpec, Preopen
from wagi.guest.image import DataImage, extract_data
from wagi.guest.imports import explain
from wagi.guest.outcome import EngineError, Trap
from wagi.guest.scheduler import Ticker
from wagi.guest.targets import Target, this_processor
from wagi.guest.wasi.abi import UNSTABLE
from wagi.guest.wasi.unstable import rename
from wagi.limits import Limits

selftest.check()  # here, so that a process does it once and its forks do not

DEFAULT_MEMORY = default_memory()
"""Who allocates the memory of guests unless the user decides."""
_SLOT = 256 * 1024**2
"""Bytes of a pool's slot: what fits starts fastest. Most of it is address space only."""
_ELEMENT = 8  # bytes of a table's element
_SEGMENT_TRAPS = {
    "out of bounds memory access": "a data segment lies outside of its memory",
    "out of bounds table access": "an element segment lies outside of its table",
}
"""What these traps mean where no guest code has run."""
_COPIED_DATA = 64 * 1024
"""Bytes of a module's data that are copied into the memory of each guest. More is mapped, which
costs more at first, and only as much as a guest touches after that."""
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
        image: Its data, if that is mapped into the memory of guests instead of copied.
        without_data: The module without that data.
        has_much_data: Whether it has so much that wasmtime should not copy it for each guest.
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
    sections = {section.number: section for section in binary.sections(wasm)}
    data = sections.get(binary.DATA_SECTION)
    has_much_data = data is not None and data.end - data.start > _COPIED_DATA
    extracted = extract_data(wasm, _COPIED_DATA) if has_much_data else None
    without_data, image = extracted or (wasm, None)
    return Source(
        name,
        wasm,
        hashlib.sha256(wasm).digest(),
        sizes,
        fits,
        binary.START_SECTION in sections,
        image,
        without_data,
        has_much_data,
    )


@dataclass(frozen=True, slots=True)
class _Compiled:
    key: str
    linker: Linker
    inner: wasmtime.Module
    image: Image | None


class Module:
    """A compiled module: several handlers may share it."""

    def __init__(self, source: Source, compiled: _Compiled) -> None:
        self.name = source.name
        self._source = source
        self._compiled = compiled
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
        store_limits = self._store_limits(limits.memory_limit)
        self._check_instantiation(store_limits)
        # A reactor is initialised before anything else of it is called (WASI's application ABI).
        first = (b"_initialize",) if self._exports.get("_initialize") else ()
        calls = first if entrypoint == "_initialize" else (*first, entrypoint.encode())
        key, memory = self._compiled.key, self._compiled.linker.engine.memory
        image = self._compiled.image
        place = None if image is None else image.place
        spec = HandlerSpec(self.name, key, memory, calls, limits, store_limits, preopens, place)
        return Handler(spec, self._pre, image)

    def _check_instantiation(self, limits: StoreLimits) -> None:
        """Make an instance: what fails now would fail at every request.

        A start function is guest code and may do anything, so a module that has one is not tried.
        """
        if self._source.has_start:
            return
        store = open_store(StorePlan(self._pre, (), limits), b"", b"", lambda store: None)
        try:
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
            return ": it is a reactor: set entrypoint to the function that handles requests"
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
                f"{self.name}: memory_limit is {limit} bytes, but the module starts with"
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
        memory: Memory = DEFAULT_MEMORY,
    ) -> None:
        """Make the engine that most modules run on.

        Args:
            artefacts: Where compiled modules are kept.
            cache_config: A file of wasmtime's that says where it keeps some itself.
            guests: How many guests run at a time at most.
            target: What modules are compiled for. With ``native``, code for another target that
                this processor can run is taken where there is no native code.
            memory: Who allocates the memory of guests. With the pool, what does not fit into its
                slots is allocated on demand.

        Raises:
            EngineError: The address space is limited, or the memory of a guest would not be clean.
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
        self._memory = memory
        self._lock = threading.Lock()
        self._linkers: dict[Memory, Linker] = {}
        self._compiled: dict[str, _Compiled] = {}
        self._loaded: dict[str, tuple[InstancePre, Image | None]] = {}
        self._linker(memory)

    def _linker(self, memory: Memory) -> Linker:
        """Of the engine with one of the allocators; it is made when it is first needed."""
        with self._lock:
            if memory not in self._linkers:
                engine = Engine(memory, self._pool, self._cache_config, self._target, self._ticker)
                self._linkers[memory] = _make_linker(engine)
            return self._linkers[memory]

    def _tick(self) -> None:
        for linker in list(self._linkers.values()):
            linker.engine.increment_epoch()

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
        return Module(source, self._find(source) or self._compile(source))

    def handler(self, spec: HandlerSpec, artefacts: Mapping[str, Path]) -> Handler:
        """Make a handler whose module another process has compiled.

        Parameters: ``artefacts`` the files by their keys, among them those of the ``spec``.

        Raises: EngineError if the artefact is not one of these engines.
        """
        linker = self._linker(spec.memory)
        if spec.key not in self._loaded:
            pre = linker.instantiate_pre(linker.engine.read(artefacts[spec.key]))
            image = None
            if spec.image is not None:
                image = Image(artefacts[spec.image.key].read_bytes(), spec.image)
            self._loaded[spec.key] = pre, image
        return Handler(spec, *self._loaded[spec.key])

    def _engines(self, source: Source) -> list[tuple[str, Memory]]:
        """The engines that may take a module, the best one first: name, and allocator."""
        if self._memory is Memory.CORE and (source.image or not source.has_much_data):
            name = engine_name(self._pool, Memory.CORE)
            return [(f"{name}, data apart" if source.image else name, Memory.CORE)]
        alone = engine_name(self._pool, Memory.ON_DEMAND)
        if not source.fits:
            return [(alone, Memory.ON_DEMAND)]
        pool = engine_name(self._pool, Memory.POOL)
        return [(pool, Memory.POOL), (f"{alone}, for no slot can hold it", Memory.ON_DEMAND)]

    def _key(self, source: Source, engine: str, target: Target) -> str:
        return artefact_key(source.digest, engine, target, self._processor)

    def _candidates(self, source: Source) -> Iterator[tuple[str, Memory]]:
        """The artefacts that would do, the best one first: key, and allocator."""
        # Who asks for a target wants its code to be there, whatever else this machine could run.
        native = self._target is Target.NATIVE
        targets = self._processor.targets if native else (self._target,)
        for engine, memory in self._engines(source):
            for target in targets:
                yield self._key(source, engine, target), memory

    def _find(self, source: Source) -> _Compiled | None:
        for key, memory in self._candidates(source):
            if key in self._compiled:
                return self._compiled[key]
            path = self._artefacts.find(key) if self._artefacts else None
            if path is not None:
                linker = self._linker(memory)
                with contextlib.suppress(EngineError):  # damaged: it is compiled again
                    inner = linker.engine.read(path)
                    image = self._image(source, key, memory)
                    found = _Compiled(key, linker, inner, image)
                    return self._compiled.setdefault(key, found)
        return None

    def _compile_quietly(self, source: Source) -> None:
        with contextlib.suppress(WagiError):
            self._compile(source)

    def _compile(self, source: Source) -> _Compiled:
        reason = ""
        for engine, memory in self._engines(source):
            linker = self._linker(memory)
            try:
                takes_image = memory is Memory.CORE
                inner = linker.engine.compile(source.without_data if takes_image else source.wasm)
            except EngineError as error:
                reason = str(error)
                if "pooling allocator" not in reason:
                    break
                continue
            key = self._key(source, engine, self._target)
            if self._artefacts:
                self._artefacts.add(key, bytes(inner.serialize()))
            image = self._image(source, key, memory)
            return self._compiled.setdefault(key, _Compiled(key, linker, inner, image))
        raise ModuleError(f"{source.name}: not a valid module: {_one_line(reason)}")

    def _image(self, source: Source, key: str, memory: Memory) -> Image | None:
        """The image of a compiled module, which is an artefact, too, for other processes."""
        if memory is not Memory.CORE or source.image is None:
            return None
        image = source.image
        place = ImagePlace(f"{key}-data", image.offset, len(image.data), image.memory_size)
        if self._artefacts and self._artefacts.find(place.key) is None:
            self._artefacts.add(place.key, image.data)
        return Image(image.data, place)


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
