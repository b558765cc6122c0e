"""Engines: they compile modules and allocate the memory of guests."""

from __future__ import annotations

import asyncio
import weakref
from dataclasses import dataclass
from enum import Enum
from itertools import count
from pathlib import Path
from typing import Any

import wasmtime
from wasmtime import _bindings as c

from wagi.errors import ConfigurationError, Problem
from wagi.guest.backtrace import lines_are_enabled
from wagi.guest.capi import api
from wagi.guest.capi.cache_config import wasmtime_cache_file
from wagi.guest.outcome import EngineError
from wagi.guest.scheduler import Ticker
from wagi.guest.targets import X86_64_TRIPLE, Target

_KEEP_RESIDENT = 128 * 1024
"""Bytes at the start of a pooled memory that stay resident and are cleared for the next guest."""
_BURST_SIZE = 64
"""Number of concurrent guests from which on the memory that they keep resident is released."""
_TRIM_DELAY_S = 0.5
"""Seconds from the end of the last guest of a burst to the return of free memory to the system."""
_CONFIGURATION_VERSION = 2
"""Incremented when an engine's configuration changes, so that older artefacts are not loaded."""


def wat_to_wasm(text: str) -> bytes:
    """Translate the WebAssembly text format to the binary format.

    Raises:
        EngineError: If the text is invalid; the message has the position.
    """
    try:
        return bytes(wasmtime.wat2wasm(text))
    except wasmtime.WasmtimeError as error:
        raise EngineError(str(error)) from None


@dataclass(frozen=True, slots=True)
class Pool:
    """The size of a pooling engine.

    Attributes:
        guests: Maximum number of concurrent guests.
        memory: Maximum linear memory of each guest, in bytes.
        elements: Maximum number of table elements of each guest.
    """

    guests: int
    memory: int
    elements: int


class Memory(Enum):
    """The allocator of the guests' memory.

    ``POOL`` is wasmtime's pooling allocator, ``ON_DEMAND`` its on-demand allocator, which is slower
    and has no limits of its own, and ``CORE`` the allocator of the compiled core.
    """

    POOL = "pool"
    ON_DEMAND = "on demand"
    CORE = "core"


def default_memory() -> Memory:
    """Return the fastest allocator of this installation."""
    return Memory.POOL if api.core is None else Memory.CORE


def engine_name(pool: Pool | None, memory: Memory) -> str:
    """Return a name for the properties of an engine on which compiled code depends.

    Args:
        pool: The size of the engine's pool.
        memory: The engine's allocator.
    """
    size = pool.memory if memory is Memory.POOL and pool else memory.value
    kept = f"configuration {_CONFIGURATION_VERSION}, {size}"
    return f"{kept}, lines" if lines_are_enabled() else kept


class Engine:
    """Compiles modules and runs them in memory of one allocator.

    The target affects only the code that an engine generates: any engine with the same allocator
    can run that code, whatever its own target.

    Attributes:
        memory: The allocator of its guests' memory.
        core: The compiled core, if it runs the guests; otherwise None.
        ticker: Makes busy guests yield, unless the core does.
        stores: The open stores by the number that wasmtime keeps as their data. Host calls find
            their store by it.
    """

    def __init__(
        self,
        memory: Memory,
        pool: Pool | None = None,
        cache_config: Path | None = None,
        target: Target = Target.NATIVE,
        ticker: Ticker | None = None,
        isolated: bool = False,
        compiled: bool = api.core is not None,
    ) -> None:
        """Make an engine.

        Args:
            memory: The allocator of its guests' memory.
            pool: The size of its pool; required for ``Memory.POOL``.
            cache_config: A configuration file for wasmtime's own cache of compiled modules.
            target: The target to compile for; this processor must be able to run its code.
            ticker: Makes busy guests yield; None if ``isolated``, or if the core does it.
            isolated: Whether to leave the rest of the process unchanged, at the price of slow code:
                the engine starts no threads, so that a fork is safe, creates no files in memory,
                and installs no signal handlers, which would conflict with those of
                ``faulthandler.enable``.
            compiled: Whether the compiled core runs the guests.

        Raises:
            ConfigurationError: If wasmtime rejects ``cache_config``.
            EngineError: If the core's allocator does not work on this system.
        """
        config = wasmtime.Config()
        config.parallel_compilation = not isolated
        config.signals_based_traps = not isolated
        copies_on_write = memory is not Memory.CORE and not isolated
        c.wasmtime_config_memory_init_cow_set(config.ptr(), copies_on_write)
        if target is not Target.NATIVE:
            config.target = X86_64_TRIPLE
            for flag in target.cranelift_flags:
                config.cranelift_flag_enable(flag)
        config.epoch_interruption = True
        config.wasm_memory64 = False
        # Host calls run on the guest's stack, in the part that wasm must not use.
        config.max_wasm_stack = 512 * 1024
        c.wasmtime_config_async_stack_size_set(config.ptr(), 1024 * 1024)
        if cache_config is not None:
            _configure_cache(config, cache_config)
        if memory is Memory.POOL:
            assert pool is not None
            _configure_pool(config, pool)
        elif memory is Memory.CORE:
            fault = api.core.memory_self_test()
            if fault is not None:
                raise EngineError(f"cannot isolate the memory of guests: {fault}")
            api.core.memory_configure(api.address_of(config))
        self.memory = memory
        self.core = api.core if compiled else None
        self.ticker = ticker
        self.stores: dict[int, Any] = {}
        self._numbers = count(1)
        self._memory_slots: set[int] = set()  # addresses of the pool's memories that were used
        self._had_burst = False
        self.inner = wasmtime.Engine(config)
        self.address = api.address_of(self.inner)
        if self.core is not None and not isolated:
            self.core.clock_add(self.address)
            weakref.finalize(self, self.core.clock_remove, self.address)

    def increment_epoch(self) -> None:
        """Advance the epoch, at whose deadline running guests yield."""
        api.increment_epoch(self.address)

    def new_number(self) -> int:
        """Return a number that no other store of this engine has had."""
        return next(self._numbers)

    def add(self, number: int, store: object) -> None:
        """Register an open store under the number that wasmtime keeps as its data."""
        self.stores[number] = store
        if len(self.stores) >= _BURST_SIZE:
            self._had_burst = True

    def remove(self, number: int, memory: int) -> None:
        """Unregister a store.

        Args:
            number: The number under which it was added.
            memory: The address of its linear memory; 0 if unknown.
        """
        del self.stores[number]
        if memory and self.memory is Memory.POOL:
            self._memory_slots.add(memory)
        if self._had_burst and not self.stores:
            self._release_memory_slots()

    def _release_memory_slots(self) -> None:
        """Release what memory slots keep resident: after a burst most of them stay unused.

        This is safe only while no guest runs, since the address of a guest's memory is not always
        known. The pages of an unused memory slot hold the initial state of a guest, zeros or the
        module's image, and the kernel restores that state when released pages are used again.
        """
        for address in self._memory_slots:
            api.madvise(address, _KEEP_RESIDENT, api.MADV_DONTNEED)
        self._memory_slots.clear()
        self._had_burst = False
        _trim_heap_later()

    def compile(self, wasm: bytes) -> wasmtime.Module:
        """Compile a module.

        Raises:
            EngineError: If wasmtime rejects the module; the message is wasmtime's.
        """
        try:
            return wasmtime.Module(self.inner, wasm)
        except wasmtime.WasmtimeError as error:
            raise EngineError(str(error)) from None

    def read(self, artefact: Path) -> wasmtime.Module:
        """Load a compiled module from a file.

        Raises:
            EngineError: If it was compiled with another configuration, or is damaged.
        """
        try:
            return wasmtime.Module.deserialize_file(self.inner, str(artefact))
        except wasmtime.WasmtimeError as error:
            raise EngineError(str(error)) from None


def _trim_heap_later() -> None:
    """Return free memory of the heap to the system, once the requests of a burst have ended too."""
    if api.malloc_trim is None:
        return
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # outside of a worker
        api.malloc_trim(0)
    else:
        loop.call_later(_TRIM_DELAY_S, api.malloc_trim, 0)


def _configure_cache(config: wasmtime.Config, path: Path) -> None:
    with wasmtime_cache_file(path) as file:
        if file is None:
            return
        try:
            config.cache = str(file)
        except wasmtime.WasmtimeError as error:
            message = str(error).replace(str(file), str(path))
            raise ConfigurationError(Problem(message, path)) from None


def _configure_pool(config: wasmtime.Config, pool: Pool) -> None:
    options = c.wasmtime_pooling_allocation_config_new()
    for name, value in {
        "total_core_instances": pool.guests,
        "total_memories": pool.guests,
        "total_tables": pool.guests,
        "total_stacks": pool.guests,
        "max_memory_size": pool.memory,
        "table_elements": pool.elements,
        "max_core_instance_size": 1024 * 1024,
        # Clearing 128 KiB takes 3 µs; releasing the pages and faulting them in again takes at least
        # 6 µs. Modules with 64 KiB of stack (wasi-sdk, TinyGo) touch nothing beyond that.
        "linear_memory_keep_resident": _KEEP_RESIDENT,
        "table_keep_resident": 64 * 1024,
        # The pages of a memory slot are released as soon as its guest has ended. Batches would
        # save 1 to 2 µs per request but keep whole guests resident: 32 guests of 244 MiB take
        # 7.8 GiB.
        "decommit_batch_size": 1,
    }.items():
        getattr(c, f"wasmtime_pooling_allocation_config_{name}_set")(options, value)
    c.wasmtime_pooling_allocation_strategy_set(config.ptr(), options)
    c.wasmtime_pooling_allocation_config_delete(options)
