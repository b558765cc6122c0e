"""The runtime: it compiles modules and makes handlers of them.

The work can be divided between processes: one compiles modules and makes ``HandlerSpec`` values;
workers make handlers from these values and from the artefacts of the first process.
"""

from __future__ import annotations

import contextlib
import resource
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from os import cpu_count
from pathlib import Path

from wagi.errors import WagiError
from wagi.guest import preview2, selftest, wasi
from wagi.guest.artefacts import Artefacts, artefact_key
from wagi.guest.capi.engine import (
    Engine,
    Memory,
    Pool,
    default_memory,
    engine_name,
)
from wagi.guest.capi.linker import InstancePre, Linker
from wagi.guest.capi.store_config import MemoryImage, MemoryImageSpec
from wagi.guest.component.interfaces import interface_of
from wagi.guest.description import Description, Import, signature
from wagi.guest.handler import Handler, HandlerSpec
from wagi.guest.imports import explain
from wagi.guest.module import (
    ELEMENT_SIZE,
    MEMORY_SLOT_SIZE,
    TABLES_SHARE,
    Compiled,
    Module,
    ModuleError,
    ParsedModule,
    one_line,
)
from wagi.guest.outcome import EngineError
from wagi.guest.scheduler import Ticker
from wagi.guest.targets import Target, this_processor

selftest.check()  # at import, so that it runs once, and not again in forked workers

DEFAULT_MEMORY = default_memory()
"""The default allocator of the guests' memory."""


class Runtime:
    """Compiles modules and owns the engines of a process."""

    def __init__(
        self,
        artefacts: Artefacts | None = None,
        cache_config: Path | None = None,
        guests: int = 1000,
        target: Target = Target.NATIVE,
        memory: Memory = DEFAULT_MEMORY,
    ) -> None:
        """Create the engine that most modules run on.

        Args:
            artefacts: The store of compiled modules; None to keep none.
            cache_config: A configuration file for wasmtime's own cache of compiled modules.
            guests: Maximum number of concurrent guests.
            target: The target to compile for. With ``native``, artefacts for other targets that
                this processor can run are used if there are no native ones.
            memory: The allocator of the guests' memory. With the pool, guests that do not fit into
                a memory slot get memory on demand.

        Raises:
            EngineError: If the address space is limited, or if guests cannot be isolated.
            ConfigurationError: If wasmtime rejects ``cache_config``.
            WagiError: If this machine cannot compile for the target.
        """
        _check_address_space()
        self._processor = this_processor()
        self._processor.check(target)
        self._target = target
        self._artefacts = artefacts
        self._cache_config = cache_config
        self._ticker = Ticker(self._tick)
        self._pool = Pool(
            guests, MEMORY_SLOT_SIZE, MEMORY_SLOT_SIZE // TABLES_SHARE // ELEMENT_SIZE
        )
        self._memory = memory
        self._lock = threading.Lock()
        self._linkers: dict[Memory, Linker] = {}
        self._compiled: dict[str, Compiled] = {}
        self._loaded: dict[str, tuple[InstancePre, MemoryImage | None]] = {}
        self._linker(memory)

    def _linker(self, memory: Memory) -> Linker:
        """Return the linker of the engine with an allocator, creating both at the first use."""
        with self._lock:
            if memory not in self._linkers:
                engine = Engine(memory, self._pool, self._cache_config, self._target, self._ticker)
                self._linkers[memory] = _make_linker(engine)
            return self._linkers[memory]

    def _tick(self) -> None:
        for linker in list(self._linkers.values()):
            linker.engine.increment_epoch()

    def compile(self, modules: Iterable[ParsedModule], report: Callable[[int, int], None]) -> None:
        """Compile modules in parallel, so that ``load`` finds them.

        Errors are not reported here: ``load`` reports them.

        Args:
            modules: The modules; those that are already compiled are skipped.
            report: Callback for the progress; receives the numbers of compiled and of all modules.
        """
        missing = {
            (module.digest, module.fits): module for module in modules if not self._find(module)
        }
        if not missing:
            return
        report(0, len(missing))
        with ThreadPoolExecutor(cpu_count()) as pool:
            started = [pool.submit(self._compile_quietly, module) for module in missing.values()]
            for done, _ in enumerate(as_completed(started), 1):
                report(done, len(missing))

    def describe(self, module: ParsedModule) -> Description:
        """Describe the imports and exports of a module.

        Raises:
            ModuleError: If the module is invalid.
        """
        compiled = self._find(module) or self._compile(module)
        has = compiled.linker.has
        imports = dict.fromkeys(
            Import(
                interface_of(item.module) if module.component else item.module,
                item.name or "",
                signature(item.type),
                "" if has(item.module, item.name or "") else explain(item.module, item.name or ""),
            )
            for item in compiled.inner.imports
        )
        exports = {item.name: signature(item.type) for item in compiled.inner.exports}
        return Description(tuple(imports), exports)

    def load(self, module: ParsedModule) -> Module:
        """Load a compiled module, compiling it if necessary.

        Raises:
            ModuleError: If the module is invalid or cannot be linked.
        """
        return Module(module, self._find(module) or self._compile(module))

    def handler(self, spec: HandlerSpec, artefacts: Mapping[str, Path]) -> Handler:
        """Make a handler whose module another process has compiled.

        Args:
            spec: The specification of the handler.
            artefacts: Files by key; they must include the artefacts of ``spec``.

        Raises:
            EngineError: If an artefact was made with another configuration, or is damaged.
        """
        linker = self._linker(spec.memory)
        if spec.key not in self._loaded:
            pre = linker.instantiate_pre(linker.engine.read(artefacts[spec.key]))
            image = None
            if spec.image is not None:
                image = MemoryImage(artefacts[spec.image.key].read_bytes(), spec.image)
            self._loaded[spec.key] = pre, image
        return Handler(spec, *self._loaded[spec.key])

    def _engines(self, module: ParsedModule) -> list[tuple[str, Memory]]:
        """Return name and allocator of the engines that can run a module, the best one first."""
        if self._memory is Memory.CORE and (module.image or not module.has_much_data):
            name = engine_name(self._pool, Memory.CORE)
            return [(f"{name}, data apart" if module.image else name, Memory.CORE)]
        alone = engine_name(self._pool, Memory.ON_DEMAND)
        if not module.fits:
            return [(alone, Memory.ON_DEMAND)]
        pool = engine_name(self._pool, Memory.POOL)
        return [
            (pool, Memory.POOL),
            (f"{alone}, because it does not fit into a memory slot", Memory.ON_DEMAND),
        ]

    def _key(self, module: ParsedModule, engine: str, target: Target) -> str:
        return artefact_key(module.digest, engine, target, self._processor)

    def _candidates(self, module: ParsedModule) -> Iterator[tuple[str, Memory]]:
        """Iterate over key and allocator of a module's usable artefacts, the best one first."""
        # If a target was requested, an artefact for it has to be made, even if this machine could
        # run another one.
        native = self._target is Target.NATIVE
        targets = self._processor.targets if native else (self._target,)
        for engine, memory in self._engines(module):
            for target in targets:
                yield self._key(module, engine, target), memory

    def _find(self, module: ParsedModule) -> Compiled | None:
        for key, memory in self._candidates(module):
            if key in self._compiled:
                return self._compiled[key]
            path = self._artefacts.find(key) if self._artefacts else None
            if path is not None:
                linker = self._linker(memory)
                with contextlib.suppress(EngineError):  # a damaged artefact is compiled again
                    inner = linker.engine.read(path)
                    image = self._image(module, key, memory)
                    found = Compiled(key, linker, inner, image)
                    return self._compiled.setdefault(key, found)
        return None

    def _compile_quietly(self, module: ParsedModule) -> None:
        with contextlib.suppress(WagiError):
            self._compile(module)

    def _compile(self, module: ParsedModule) -> Compiled:
        reason = ""
        for engine, memory in self._engines(module):
            linker = self._linker(memory)
            try:
                takes_image = memory is Memory.CORE
                inner = linker.engine.compile(module.without_data if takes_image else module.wasm)
            except EngineError as error:
                reason = str(error)
                if "pooling allocator" not in reason:
                    break
                continue
            key = self._key(module, engine, self._target)
            if self._artefacts:
                self._artefacts.add(key, bytes(inner.serialize()))
            image = self._image(module, key, memory)
            return self._compiled.setdefault(key, Compiled(key, linker, inner, image))
        raise ModuleError(f"{module.name}: not a valid module: {one_line(reason)}")

    def _image(self, module: ParsedModule, key: str, memory: Memory) -> MemoryImage | None:
        """Make the image of a compiled module, and save it as an artefact for other processes."""
        if memory is not Memory.CORE or module.image is None:
            return None
        image = module.image
        spec = MemoryImageSpec(f"{key}-data", image.offset, len(image.data), image.memory_size)
        if self._artefacts and self._artefacts.find(spec.key) is None:
            self._artefacts.add(spec.key, image.data)
        return MemoryImage(image.data, spec)


def _make_linker(engine: Engine) -> Linker:
    linker = Linker(engine)
    wasi.define(linker)
    preview2.define(linker)
    return linker


def _check_address_space() -> None:
    """Check that the pool can be reserved; wasmtime aborts the process otherwise.

    Raises:
        EngineError: If the address space of this process is limited.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        raise EngineError(
            f"the address space is limited to {limit} bytes (ulimit -v), and the pool of instances"
            " reserves several TiB of it without using them: lift that limit; what guests use is"
            " bounded by memory_limit"
        )
