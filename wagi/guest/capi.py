"""wasmtime's C API: the only file that touches its bindings, its pointers or ctypes.

The public API of wasmtime's Python package cannot suspend a guest; the C API can, on a fiber of its
own. ``Engine`` compiles, ``Linker`` holds the host calls, ``InstancePre`` is a module with its
imports resolved, and a ``Store`` is one instance of it from its start to its end. A store owns
every pointer of its guest; no address leaves this file.

How a guest runs::

    event loop         store                     fiber (the guest's own stack)
    ----------         -----                     -----------------------------
    step           ->  poll                  ->  wasm runs ... calls an import
                                                   enter: the host call, in Python, returns an errno
                                                 wasm runs on ... its slice is over, or a host call
    others' turns  <-  None: suspended       <-    has to wait: the fiber stays as it is
    step           ->  poll                  ->    resume: the rest of the host call; wasm runs on
                   <-  Returned, Exit, Trap  <-  the fiber ends

Two ways into the same library: ``ctypes.CDLL`` releases the GIL during a call, which a call that
runs guest code needs (the ticker has to run); ``ctypes.PyDLL`` keeps it, which is faster for a call
of a microsecond.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Generator
from ctypes import CFUNCTYPE, POINTER, byref, c_bool, c_size_t, c_uint32, c_void_p, cast
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from struct import Struct
from time import monotonic, thread_time
from typing import Any

import wasmtime
from wasmtime import _bindings as c
from wasmtime import _ffi as ffi

from wagi.errors import ConfigurationError, Problem
from wagi.guest import compatibility
from wagi.guest.errno import (
    EFAULT,
    GuestExit,
    GuestFault,
    GuestTrap,
    NoMemoryFault,
    errno_of,
)
from wagi.guest.outcome import EngineError, Exit, Outcome, Returned, Trap
from wagi.guest.scheduler import SLICE, SLICE_TICKS
from wagi.guest.targets import X86_64_TRIPLE, Target

_MAX_MESSAGE = 8 * 1024
_KEPT_OF_A_SLOT = 128 * 1024
"""Bytes at the beginning of a memory that are cleared for the next guest and not given back."""
_BURST = 64
"""Guests at a time after which it is worth giving back what their slots have kept."""
_CONFIGURATION = 2
"""Goes up with each change of an engine's configuration: artefacts of another one are not for us.
"""


compatibility.check()  # before anything below relies on it

_gil = ctypes.PyDLL(str(ffi.filename))
_no_gil = ctypes.CDLL(str(ffi.filename))


def _function(library: Any, name: str, result: Any, *arguments: Any) -> Any:
    prototype = library[name]  # an index makes a new object: argtypes of the bindings stay theirs
    prototype.restype = result
    prototype.argtypes = arguments
    return prototype


_P = c_void_p
_poll = _function(_no_gil, "wasmtime_call_future_poll", c_bool, _P)
_future_delete = _function(_gil, "wasmtime_call_future_delete", None, _P)
_store_new = _function(_gil, "wasmtime_store_new", _P, _P, _P, _P)
_store_delete = _function(_gil, "wasmtime_store_delete", None, _P)
_store_context = _function(_gil, "wasmtime_store_context", _P, _P)
_store_limiter = _function(_gil, "wasmtime_store_limiter", None, _P, *[ctypes.c_int64] * 5)
_set_deadline = _function(_gil, "wasmtime_context_set_epoch_deadline", None, _P, ctypes.c_uint64)
_yield_at_deadline = _function(
    _gil, "wasmtime_context_epoch_deadline_async_yield_and_update", _P, _P, ctypes.c_uint64
)
_set_wasi = _function(_gil, "wasmtime_context_set_wasi", _P, _P, _P)
_wasi_new = _function(_gil, "wasi_config_new", _P)
_instantiate = _function(_gil, "wasmtime_instance_pre_instantiate_async", _P, _P, _P, _P, _P, _P)
_instance_export = _function(
    _gil, "wasmtime_instance_export_get", c_bool, _P, _P, ctypes.c_char_p, c_size_t, _P
)
_caller_export = _function(
    _gil, "wasmtime_caller_export_get", c_bool, _P, ctypes.c_char_p, c_size_t, _P
)
_caller_context = _function(_gil, "wasmtime_caller_context", _P, _P)
_get_data = _function(_gil, "wasmtime_context_get_data", _P, _P)
_call = _function(_gil, "wasmtime_func_call_async", _P, _P, _P, _P, c_size_t, _P, c_size_t, _P, _P)
_memory_data = _function(_gil, "wasmtime_memory_data", _P, _P, _P)
_memory_size = _function(_gil, "wasmtime_memory_data_size", c_size_t, _P, _P)
_increment_epoch = _function(_gil, "wasmtime_engine_increment_epoch", None, _P)
_trap_new = _function(_gil, "wasmtime_trap_new", _P, ctypes.c_char_p, c_size_t)

# What ctypes.string_at calls, without a function around it: a tenth of a host call's time.
_peek: Callable[[int, int], bytes] = getattr(ctypes, "_string_at", ctypes.string_at)
_poke = ctypes.memmove
_view = _function(
    ctypes.pythonapi,
    "PyMemoryView_FromMemory",
    ctypes.py_object,
    _P,
    ctypes.c_ssize_t,
    ctypes.c_int,
)
_WRITABLE = 0x200  # PyBUF_WRITE
_madvise = _function(ctypes.PyDLL(None), "madvise", ctypes.c_int, _P, c_size_t, ctypes.c_int)
_MADV_DONTNEED = 4
_malloc_trim = getattr(ctypes.PyDLL(None), "malloc_trim", None)  # of glibc


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


def engine_name(pool: Pool | None) -> str:
    """What the code of a module depends on: the configuration, and the memory it may have."""
    kept = f"configuration {_CONFIGURATION}, {'on demand' if pool is None else pool.memory}"
    # wasmtime's own switch: then the code has the lines of its source with it.
    return f"{kept}, lines" if os.environ.get("WASMTIME_BACKTRACE_DETAILS") == "1" else kept


class Engine:
    """Compiles modules, either for slots of a pool or for memory that is allocated on demand.

    An engine for another target than ``native`` differs in the code that it makes only: what it
    compiles, every engine with the same pool can run.

    Attributes:
        pooled: Whether it has a pool.
        stores: The open stores by the number that wasmtime keeps as their data, with which a host
            call finds its guest.
    """

    def __init__(
        self,
        pool: Pool | None,
        cache_config: Path | None = None,
        target: Target = Target.NATIVE,
        isolated: bool = False,
    ) -> None:
        """Make an engine.

        Args:
            pool: The size of its pool; None for memory that is allocated on demand.
            cache_config: A file of wasmtime's that says where it keeps compiled modules.
            target: What it compiles for; this processor must be able to run it.
            isolated: Whether it leaves the process as it is, at the price of slow code: it starts
                no threads to compile, so that a fork is safe, makes no files in memory, and
                installs no signal handlers, which ``faulthandler.enable`` would put its own in
                front of.

        Raises:
            ConfigurationError: wasmtime refuses the file.
        """
        config = wasmtime.Config()
        config.parallel_compilation = not isolated
        config.signals_based_traps = not isolated
        c.wasmtime_config_memory_init_cow_set(config.ptr(), not isolated)
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
        if pool is not None:
            _configure_pool(config, pool)
        self.pooled = pool is not None
        self.stores: dict[int, Store] = {}
        self._numbers = count(1)
        self._slots: set[int] = set()  # addresses of the memories that guests have had
        self._had_burst = False
        self.inner = wasmtime.Engine(config)
        self.address = _address_of(self.inner)

    def increment_epoch(self) -> None:
        """Advance the clock by which running guests have to yield."""
        _increment_epoch(self.address)

    def add(self, store: Store) -> int:
        """A store is opened. Returns: its number."""
        number = next(self._numbers)
        self.stores[number] = store
        if len(self.stores) >= _BURST:
            self._had_burst = True
        return number

    def remove(self, number: int, memory: int) -> None:
        """A store has been closed, whose memory, if it is known, was at an address of the pool."""
        del self.stores[number]
        if memory and self.pooled:
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
            _madvise(address, _KEPT_OF_A_SLOT, _MADV_DONTNEED)
        if _malloc_trim is not None:
            _malloc_trim(0)
        self._slots.clear()
        self._had_burst = False

    def compile(self, wasm: bytes) -> wasmtime.Module:
        """Compile a module. Raises: EngineError with wasmtime's reason."""
        try:
            return wasmtime.Module(self.inner, wasm)
        except wasmtime.WasmtimeError as error:
            raise EngineError(str(error)) from None

    def read(self, artefact: Path) -> wasmtime.Module:
        """Load a compiled module. Raises: EngineError if it is none of this engine's."""
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


def _address_of(managed: Any) -> int:
    return int(cast(managed.ptr(), c_void_p).value or 0)


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """What a store allows (wasmtime's StoreLimits).

    Attributes:
        memory: Bytes of each linear memory.
        elements: Elements of each table.
        memories: How many memories there may be.
        tables: How many tables there may be.
    """

    memory: int
    elements: int
    memories: int
    tables: int


Waiting = Generator[None, None, int]
"""The rest of a host call that has to wait: it yields to suspend the guest, and returns the errno.
"""
HostCall = Callable[..., int | None]
"""``call(guest, *arguments)``: the errno, or None for a function without a result."""
AsyncHostCall = Callable[..., "int | Waiting"]
"""``call(guest, *arguments)``: the errno at once, or a generator of the rest."""

_SYNC = CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_void_p, c_size_t)
_ASYNC = CFUNCTYPE(
    None, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_void_p
)
_READY = CFUNCTYPE(c_bool, c_void_p)
_NO_FINALIZER = cast(0, CFUNCTYPE(None, c_void_p))
_WASI = "wasi_snapshot_preview1"
_NATIVE = frozenset(("clock_res_get", "clock_time_get", "sched_yield"))
"""The functions of wasmtime's own WASI that guests get as they are: they know no descriptor, cannot
block, and language runtimes call them often (a call of ours costs ten times as much)."""
_STRAIGHT_LINE_SECONDS = 0.1
"""CPU time that a guest may use after its slice without reaching a point at which it can be
suspended. Each loop and each function entry is one; only a long row of host calls has none."""

# wasmtime_val_raw_t, 16 bytes:   | value: 4 or 8 bytes | unused |
# wasmtime_val_t, 32 bytes:       | kind: 1 byte, 7 unused | value: 4 or 8 bytes | unused |
_RAW = {"I": "I12x", "Q": "Q8x"}
_RAW_SIZE = 16
_VALUE = {"I": "8xI20x", "Q": "8xQ16x"}
_VALUE_SIZE, _VALUE_AT = 32, 8
# wasmtime_async_continuation_t:  | callback | env | finalizer |, 8 bytes each
_CONTINUATION = Struct("<QQQ")
# A C function that always returns true, and needs no GIL: as the continuation of a call that has
# ended at once it saves the way back into Python.
_DONE = cast(ctypes.pythonapi.Py_IsInitialized, c_void_p).value


class Linker:
    """The functions that modules of one engine may import."""

    def __init__(self, engine: Engine) -> None:
        """Start with the functions of wasmtime's own WASI, which ``define`` replaces."""
        self.engine = engine
        self.inner = wasmtime.Linker(engine.inner)
        self.inner.define_wasi()
        self.inner.allow_shadowing = True
        self._known: dict[tuple[str, str], bool] = {}
        stores = engine.stores

        def resume(number: int) -> bool:
            return stores[number].resume()

        callback = _READY(resume)
        self._resume = cast(callback, c_void_p).value or 0
        self._callbacks: list[Any] = [callback]  # they live as long as Python refers to them

    def define(
        self, module: str, name: str, parameters: str, call: HostCall, results: str = "I"
    ) -> None:
        """Add a host call that cannot wait.

        Args:
            module: The module under which guests import it.
            name: Its name there.
            parameters: A character for each parameter: ``I`` for i32, ``Q`` for i64, both unsigned.
            call: The function; it may raise GuestFault, OSError, GuestExit and GuestTrap.
            results: ``I``, or empty for a function without a result.
        """
        unpack = Struct("<" + "".join(_RAW[p] for p in parameters)).unpack
        size = _RAW_SIZE * len(parameters)
        stores = self.engine.stores

        def enter(_data: int, caller: int, raw: int, _count: int) -> int | None:
            store = stores[_get_data(_caller_context(caller))]
            store.caller, store.memory_is_current = caller, False
            try:
                result = call(store.guest, *unpack(_peek(raw, size)))
            except (GuestFault, OSError) as error:
                result = errno_of(error)
            except BaseException as error:  # nothing may propagate through the guest's frames
                return store.trap(error)
            if result is not None:
                c_uint32.from_address(raw).value = result
            return store.overrun() if monotonic() > store.slice_end else None

        callback = _SYNC(enter)
        self._callbacks.append(callback)
        kind = _function_type(parameters, results)
        _check(
            c.wasmtime_linker_define_func_unchecked(
                self.inner.ptr(),
                *_text(module),
                *_text(name),
                kind.ptr(),
                cast(callback, ffi.wasmtime_func_unchecked_callback_t),
                None,
                _NO_FINALIZER,
            )
        )

    def define_async(self, module: str, name: str, parameters: str, call: AsyncHostCall) -> None:
        """Add a host call that may suspend the guest by returning a generator.

        Args:
            module: The module under which guests import it.
            name: Its name there.
            parameters: As for ``define``; the result is an i32.
            call: The function; it and its generator may raise the same.
        """
        unpack = Struct("<" + "".join(_VALUE[p] for p in parameters)).unpack
        size = _VALUE_SIZE * len(parameters)
        stores = self.engine.stores

        def enter(
            _data: int,
            caller: int,
            arguments: int,
            _n: int,
            results: int,
            _m: int,
            trap: int,
            continuation: int,
        ) -> None:
            number = _get_data(_caller_context(caller))
            store = stores[number]
            store.caller, store.memory_is_current = caller, False
            waiting: Waiting | None = None
            errno = 0
            try:
                outcome = call(store.guest, *unpack(_peek(arguments, size)))
                if isinstance(outcome, int):
                    errno = outcome
                else:  # its first step belongs to this call: only now may the caller be used
                    waiting = outcome
                    next(waiting)
            except StopIteration as end:
                waiting, errno = None, end.value
            except (GuestFault, OSError) as error:
                waiting, errno = None, errno_of(error)
            except BaseException as error:
                waiting = None
                c_void_p.from_address(trap).value = store.trap(error)
            if waiting is None and monotonic() > store.slice_end:
                waiting = _after_a_turn(errno)
            if errno:  # wasmtime has made it 0
                c_uint32.from_address(results + _VALUE_AT).value = errno
            if waiting is None:
                c_void_p.from_address(continuation).value = _DONE
            else:
                store.wait_for(waiting, results, trap)
                _poke(continuation, _CONTINUATION.pack(self._resume, number, 0), _CONTINUATION.size)

        callback = _ASYNC(enter)
        self._callbacks.append(callback)
        kind = _function_type(parameters, "I")
        _check(
            c.wasmtime_linker_define_async_func(
                self.inner.ptr(),
                *_text(module),
                *_text(name),
                kind.ptr(),
                cast(callback, c.wasmtime_func_async_callback_t),
                None,
                _NO_FINALIZER,
            )
        )

    def has(self, module: str, name: str) -> bool:
        """Whether a module may import this."""
        if (module, name) not in self._known:
            self._known[module, name] = self._look_up(module, name)
        return self._known[module, name]

    def _look_up(self, module: str, name: str) -> bool:
        store = wasmtime.Store(self.engine.inner)
        return bool(
            c.wasmtime_linker_get(
                self.inner.ptr(),
                store._context(),
                *_text(module),
                *_text(name),
                byref(ffi.wasmtime_extern_t()),
            )
        )

    def instantiate_pre(self, module: wasmtime.Module) -> InstancePre:
        """Resolve a module's imports once for all its instances. Raises: EngineError."""
        try:
            inner = self.inner.instantiate_pre(module)
        except wasmtime.WasmtimeError as error:
            raise EngineError(str(error)) from None
        needs_wasi = any(i.module == _WASI and i.name in _NATIVE for i in module.imports)
        return InstancePre(self, inner, needs_wasi)


def _after_a_turn(errno: int) -> Waiting:
    """Return from a host call when the guest, whose slice is over, has its next turn."""
    return errno
    yield


def _text(text: str) -> tuple[Any, int]:
    encoded = text.encode()
    return ctypes.create_string_buffer(encoded), len(encoded)


def _function_type(parameters: str, results: str) -> wasmtime.FuncType:
    types = {"I": wasmtime.ValType.i32, "Q": wasmtime.ValType.i64}
    return wasmtime.FuncType([types[p]() for p in parameters], [types[r]() for r in results])


def _check(error: Any) -> None:
    if error:
        raise EngineError(str(wasmtime.WasmtimeError._from_ptr(error)))


class InstancePre:
    """A compiled module with its imports resolved: all that its instances have in common."""

    def __init__(self, linker: Linker, inner: wasmtime.InstancePre, needs_wasi: bool) -> None:
        self.engine = linker.engine
        self.needs_wasi = needs_wasi
        self.address = _address_of(inner)
        self._owned = linker, inner  # instances call the linker's callbacks


class _Slots(ctypes.Structure):
    """What the C API writes to during the life of an instance."""

    _fields_ = (
        ("instance", ffi.wasmtime_instance_t),
        ("function", ffi.wasmtime_extern_t),
        ("memory", ffi.wasmtime_extern_t),
        ("trap", c_void_p),
        ("error", c_void_p),
    )


_TRAP, _ERROR = _Slots.trap.offset, _Slots.error.offset
_FUNCTION, _MEMORY = _Slots.function.offset, _Slots.memory.offset
_OF = ffi.wasmtime_extern_t.of.offset
_EXTERN_FUNC = ffi.WASMTIME_EXTERN_FUNC.value
_EXTERN_MEMORY = ffi.WASMTIME_EXTERN_MEMORY.value
_RETURNED = Returned()


class Store:
    """One instance in a store of its own. The owner closes it.

    Attributes:
        guest: What host calls get as their first argument.
        failure: An exception that a host call raised: a bug of the gateway, not of the guest.
        caller: The instance that makes the current host call.
        memory_is_current: Whether the memory's size has been looked up in this host call.
        slice_end: When the guest has to yield, in seconds of ``time.monotonic``. Host calls look at
            it themselves: the ticker needs the GIL, and starves beside a guest that calls the host
            in a loop.
    """

    def __init__(self, pre: InstancePre, guest: Any, limits: StoreLimits) -> None:
        # Shared by all stores of the handler
        self._pre = pre
        self._limits = limits
        # For the life of the instance
        self.guest = guest
        self.failure: BaseException | None = None
        self._exit_status: int | None = None
        self._slots = _Slots()
        self._at = ctypes.addressof(self._slots)
        self._number = pre.engine.add(self)
        self._store: int | None = _store_new(pre.engine.address, self._number, None)
        self._context = _store_context(self._store)
        self._is_instantiated = False
        # For the call of an export
        self._future: int | None = None
        # For a poll
        self.slice_end = 0.0
        self._overran_at: float | None = None
        # For a host call
        self.caller = 0
        self._has_memory = False
        self._memory = memoryview(b"")
        self._memory_address = 0
        self.memory_is_current = False
        self._waiting: Waiting | None = None
        self._has_yielded = False
        self._result_at = self._trap_at = 0

        self._allowed_memory = -1
        self.limit_memory(limits.memory)
        _yield_at_deadline(self._context, SLICE_TICKS)
        if pre.needs_wasi:  # a WASI call in a store without this aborts the whole process
            _set_wasi(self._context, _wasi_new())

    def limit_memory(self, size: int) -> None:
        """Set to how many bytes each memory may grow from now on, within the handler's limit."""
        limits = self._limits
        size = min(size, limits.memory)
        if size != self._allowed_memory:
            self._allowed_memory = size
            _store_limiter(self._store, size, limits.elements, 1, limits.tables, limits.memories)

    def instantiate(self) -> None:
        """Begin: the next polls make the instance, and run its start function if it has one."""
        at = self._at
        arguments = self._pre.address, self._context, at, at + _TRAP, at + _ERROR
        self._future = _instantiate(*arguments)

    def call(self, export: bytes) -> None:
        """Begin: the next polls run the exported function, which takes and returns nothing.

        Raises: EngineError if there is no such function.
        """
        at = self._at
        self._is_instantiated = True
        found = _instance_export(self._context, at, export, len(export), at + _FUNCTION)
        if not found or self._slots.function.kind != _EXTERN_FUNC:
            raise EngineError(f"the module does not export the function {export.decode()!r}")
        function = at + _FUNCTION + _OF
        self._future = _call(self._context, function, None, 0, None, 0, at + _TRAP, at + _ERROR)

    def poll(self) -> Outcome | None:
        """Run for at most about a slice.

        Returns: How what was begun has ended, or None if the guest is suspended.
        """
        # Whatever the epoch did while this guest was not running: it has a whole slice now.
        _set_deadline(self._context, SLICE_TICKS)
        self.slice_end = monotonic() + SLICE
        self._overran_at = None
        assert self._future is not None
        if not _poll(self._future):
            return None
        _future_delete(self._future)
        self._future = None
        return self._take_outcome()

    def _take_outcome(self) -> Outcome:
        slots = self._slots
        trap, error = slots.trap, slots.error
        slots.trap = slots.error = None
        outcome: Outcome = _RETURNED
        if trap:
            cause: Any = wasmtime.Trap._from_ptr(cast(trap, POINTER(c.wasm_trap_t)))
            outcome = Trap(str(cause)[:_MAX_MESSAGE])  # with names that are the guest's
        elif error:
            cause = wasmtime.WasmtimeError._from_ptr(cast(error, POINTER(c.wasmtime_error_t)))
            outcome = Trap(str(cause)[:_MAX_MESSAGE])
        return outcome if self._exit_status is None else Exit(self._exit_status)

    def memory(self) -> memoryview:
        """The guest's whole memory as it is now.

        It may grow whenever the guest runs, and only then: its size is looked up once in each host
        call. Raises: NoMemoryFault if the guest exports none.
        """
        if self.memory_is_current:
            return self._memory
        at = self._at + _MEMORY
        if not self._has_memory:
            assert self.caller, "a host call has to use the memory before it waits"
            found = _caller_export(self.caller, b"memory", 6, at)
            if not found or self._slots.memory.kind != _EXTERN_MEMORY:
                raise NoMemoryFault
            self._has_memory = True
        size = _memory_size(self._context, at + _OF)
        if size != len(self._memory):  # it never shrinks, and moves only when it grows
            self._memory_address = _memory_data(self._context, at + _OF)
            self._memory = _view(self._memory_address, size, _WRITABLE)
        self.memory_is_current = True
        return self._memory

    @property
    def memory_size(self) -> int | None:
        """Bytes of the exported memory, or 0 without one; None until the instance is made."""
        at = self._at + _MEMORY
        if not self._has_memory:
            if not self._is_instantiated:
                return None
            found = _instance_export(self._context, self._at, b"memory", 6, at)
            if not found or self._slots.memory.kind != _EXTERN_MEMORY:
                return 0
            self._has_memory = True
        return int(_memory_size(self._context, at + _OF))

    def close(self) -> None:
        """Free everything. In the middle of a run this is its cancellation. Idempotent."""
        self.guest = None  # it refers to this store: cut, both go at once, not with the collector
        if self._waiting is not None:
            self._waiting.close()
            self._waiting = None
        if self._future is not None:
            _future_delete(self._future)
            self._future = None
            self._take_outcome()
        if self._store is not None:
            self._memory = memoryview(b"")
            self._has_memory = self._is_instantiated = self.memory_is_current = False
            _store_delete(self._store)
            self._store = None
            self._pre.engine.remove(self._number, self._memory_address)

    # What the linker's callbacks do

    def trap(self, error: BaseException) -> int:
        """Make the trap with which a host call ends the guest. Returns: its address."""
        message = b"the host call failed"
        if isinstance(error, GuestExit):
            self._exit_status = error.status
        elif isinstance(error, GuestTrap):
            message = str(error).encode()
        else:
            self.failure = error
        return int(_trap_new(message, len(message)))

    def overrun(self) -> int | None:
        """Make a guest whose slice is over yield at the next loop or function entry.

        Compiled code keeps the deadline in a register until the epoch passes it: lowering the
        deadline is not enough, the epoch has to advance by a whole slice.

        Returns: The address of a trap if the guest does not reach such a point.
        """
        now = thread_time()
        if self._overran_at is None:
            self._overran_at = now
        elif now - self._overran_at > _STRAIGHT_LINE_SECONDS:
            return self.trap(GuestTrap("too many host calls without a loop or a function call"))
        _set_deadline(self._context, 0)
        for _ in range(SLICE_TICKS):
            self._pre.engine.increment_epoch()
        return None

    def wait_for(self, waiting: Waiting, result_at: int, trap_at: int) -> None:
        """Suspend the guest in its host call until the generator returns."""
        self._waiting = waiting
        self._has_yielded = False
        self.caller = 0
        self._result_at, self._trap_at = result_at, trap_at

    def resume(self) -> bool:
        """Continue the host call that waits. Returns: whether it has ended."""
        assert self._waiting is not None
        if not self._has_yielded:  # wasmtime asks at once, before it suspends the guest
            self._has_yielded = True
            return False
        self.memory_is_current = False
        try:
            next(self._waiting)
            return False
        except StopIteration as end:
            errno = end.value
        except (GuestFault, OSError) as error:
            errno = errno_of(error)
        except BaseException as error:
            c_void_p.from_address(self._trap_at).value = self.trap(error)
            errno = EFAULT
        self._waiting = None
        c_uint32.from_address(self._result_at + _VALUE_AT).value = errno
        return True
