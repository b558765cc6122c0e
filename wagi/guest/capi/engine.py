"""Engines: they compile modules, and allocate the memory of guests."""

from __future__ import annotations

import os
import weakref
from dataclasses import dataclass
from enum import Enum
from itertools import count
from pathlib import Path
from typing import Any

import wasmtime
from wasmtime import _bindings as c

from wagi.errors import ConfigurationError, Problem
from wagi.guest.capi import api
from wagi.guest.outcome import EngineError
from wagi.guest.scheduler import Ticker
from wagi.guest.targets import X86_64_TRIPLE, Target

_KEPT_OF_A_SLOT = 128 * 1024
"""Bytes at the beginning of a memory that are cleared for the next guest and not given back."""
_BURST = 64
"""Guests at a time after which it is worth giving back what their slots have kept."""
_CONFIGURATION = 2
"""Goes up with each change of an engine's configuration: artefacts of another one are not for us.
"""


def wat_to_wasm(text: str) -> bytes:
    """Translate the text format. Raises: EngineError with the place of the mistake."""
    try:
        return bytes(wasmtime.wat2wasm(text))
    except wasmtime.WasmtimeError as error:
        raise EngineError(str(error)) from None


@dataclass(frozen=True, slots=True)
class Pool:
    """The size of a pooling engine.

    Attributes:
        guests: How many guests there may be at a time.
        memory: Bytes of linear memory of each, at most.
        elements: Table elements of each, at most.
    """

    guests: int
    memory: int
    elements: int


class Memory(Enum):
    """Who allocates the memory of guests.

    ``POOL`` is wasmtime's pooling allocator, ``ON_DEMAND`` its other one, which is slow and has no
    bounds, and ``CORE`` the allocator of the compiled core.
    """

    POOL = "pool"
    ON_DEMAND = "on demand"
    CORE = "core"


def default_memory() -> Memory:
    """The best allocator of this installation."""
    return Memory.POOL if api.core is None else Memory.CORE


def engine_name(pool: Pool | None, memory: Memory) -> str:
    """What the code of a module depends on: the configuration, and the memory it may have."""
    size = pool.memory if memory is Memory.POOL and pool else memory.value
    kept = f"configuration {_CONFIGURATION}, {size}"
    # wasmtime's own switch: then the code has the lines of its source with it.
    return f"{kept}, lines" if os.environ.get("WASMTIME_BACKTRACE_DETAILS") == "1" else kept


class Engine:
    """Compiles modules, and runs them with memory of one allocator.

    An engine for another target than ``native`` differs in the code that it makes only: what it
    compiles, every engine with the same allocator can run.

    Attributes:
        memory: Who allocates the memory of its guests.
        core: The compiled core if it runs the guests.
        ticker: Makes busy guests yield, if the core does not.
        stores: The open stores by the number that wasmtime keeps as their data, with which a host
            call finds its guest.
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
            memory: Who allocates the memory of its guests.
            pool: The size of its pool, if it has one.
            cache_config: A file of wasmtime's that says where it keeps compiled modules.
            target: What it compiles for; this processor must be able to run it.
            ticker: What makes busy guests yield; None if ``isolated``, or if the core does it.
            isolated: Whether it leaves the process as it is, at the price of slow code: it starts
                no threads to compile or to tick, so that a fork is safe, makes no files in memory,
                and installs no signal handlers, which ``faulthandler.enable`` would put its own in
                front of.
            compiled: Whether the core runs the guests.

        Raises:
            ConfigurationError: wasmtime refuses the file.
            EngineError: The core's allocator does not work here.
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
        # Host calls run on the guest's stack: what wasm leaves free is theirs.
        config.max_wasm_stack = 512 * 1024
        c.wasmtime_config_async_stack_size_set(config.ptr(), 1024 * 1024)
        if cache_config is not None:
            try:
                config.cache = str(cache_config)
            except wasmtime.WasmtimeError as error:
                raise ConfigurationError(Problem(str(error), cache_config)) from None
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
        self._slots: set[int] = set()  # addresses of the memories that guests have had
        self._had_burst = False
        self.inner = wasmtime.Engine(config)
        self.address = api.address_of(self.inner)
        if self.core is not None and not isolated:
            self.core.clock_add(self.address)
            weakref.finalize(self, self.core.clock_remove, self.address)

    def increment_epoch(self) -> None:
        """Advance the clock by which running guests have to yield."""
        api.increment_epoch(self.address)

    def new_number(self) -> int:
        """A number that no store has."""
        return next(self._numbers)

    def add(self, number: int, store: object) -> None:
        """Count a store that is opened, with the number that wasmtime keeps as its data."""
        self.stores[number] = store
        if len(self.stores) >= _BURST:
            self._had_burst = True

    def remove(self, number: int, memory: int) -> None:
        """A store is closed, whose memory, if it is known, is at an address of the pool."""
        del self.stores[number]
        if memory and self.memory is Memory.POOL:
            self._slots.add(memory)
        if self._had_burst and not self.stores:
            self._release_slots()

    def _release_slots(self) -> None:
        """Give back the memory that slots have kept: after a burst most of them stay unused.

        Only when there is no guest at all: the memory of a guest is not always known, and that of a
        running one must not be touched. The pages of an unused slot are what a new guest begins
        with, zero or the module's image; given back, they are made anew from the same.
        """
        for address in self._slots:
            api.madvise(address, _KEPT_OF_A_SLOT, api.MADV_DONTNEED)
        if api.malloc_trim is not None:
            api.malloc_trim(0)
        self._slots.clear()
        self._had_burst = False

    def compile(self, wasm: bytes) -> wasmtime.Module:
        """Compile a module. Raises: EngineError with wasmtime's reason."""
        try:
            return wasmtime.Module(self.inner, wasm)
        except wasmtime.WasmtimeError as error:
            raise EngineError(str(error)) from None

    def read(self, artefact: Path) -> wasmtime.Module:
        """Load a compiled module. Raises: EngineError if another engine made it."""
        try:
            return wasmtime.Module.deserialize_file(self.inner, str(artefact))
        except wasmtime.WasmtimeError as error:
            raise EngineError(str(error)) from None


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
        # Clearing 128 KiB costs 3 µs; giving the pages back and faulting them in again, 6 µs and
        # more: modules with 64 KiB of stack (wasi-sdk, TinyGo) have all they touch in there.
        "linear_memory_keep_resident": _KEPT_OF_A_SLOT,
        "table_keep_resident": 64 * 1024,
        # The pages of a slot go back to the system as soon as its guest has ended. Batches would
        # save 1 to 2 µs of a request, and keep whole guests: 32 of 244 MiB are 7.8 GiB.
        "decommit_batch_size": 1,
    }.items():
        getattr(c, f"wasmtime_pooling_allocation_config_{name}_set")(options, value)
    c.wasmtime_pooling_allocation_strategy_set(config.ptr(), options)
    c.wasmtime_pooling_allocation_config_delete(options)
