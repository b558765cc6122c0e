"""wasmtime's C API: the only file that touches its bindings, its pointers or ctypes.

The public API of wasmtime's Python package cannot suspend a guest; the C API can, on a fiber of its
own. ``Engine`` compiles, ``Linker`` gives host calls; the functions at the top are what
``guest.run`` makes one instance's life of.

Two ways into the same library: ``ctypes.CDLL`` releases the GIL during a call, which a call that
runs guest code needs (the ticker has to get in); ``ctypes.PyDLL`` keeps it, which a call of a
microsecond is better off with.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from ctypes import CFUNCTYPE, POINTER, byref, c_bool, c_size_t, c_uint32, c_void_p, cast
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from struct import Struct
from typing import Any, Protocol

import wasmtime
from wasmtime import _bindings as c
from wasmtime import _ffi as ffi

from wagi.errors import ConfigurationError, Problem
from wagi.guest.ends import EngineError, Exit, Trap
from wagi.guest.errno import EFAULT, GuestFault, GuestTrap

TESTED_MAJOR = "50"
_EXTERN_SIZE, _VALUE_SIZE = 32, 32
_MAX_MESSAGE = 8 * 1024
_CONFIGURATION = 1
"""Goes up with each change of an engine's configuration: artefacts of another one are not for us.
"""


def _check_version() -> None:
    """Refuse a wasmtime whose C API this file was not tested with. Raises: EngineError."""
    found = version("wasmtime")
    if (
        found.split(".")[0] != TESTED_MAJOR
        or ctypes.sizeof(ffi.wasmtime_extern_t) != _EXTERN_SIZE
        or ctypes.sizeof(c.wasmtime_val_t) != _VALUE_SIZE
    ):
        raise EngineError(
            f"wasmtime {found} is installed, and this version of wagi works with"
            f" wasmtime {TESTED_MAJOR} only: pip install 'wasmtime>={TESTED_MAJOR},<"
            f"{int(TESTED_MAJOR) + 1}'"
        )


_check_version()  # before anything below relies on it

_gil = ctypes.PyDLL(str(ffi.filename))
_no_gil = ctypes.CDLL(str(ffi.filename))


def _function(library: Any, name: str, result: Any, *arguments: Any) -> Any:
    prototype = library[name]  # an index makes a new object: argtypes of the bindings stay theirs
    prototype.restype = result
    prototype.argtypes = arguments
    return prototype


_P = c_void_p
_poll = _function(_no_gil, "wasmtime_call_future_poll", c_bool, _P)
future_delete = _function(_gil, "wasmtime_call_future_delete", None, _P)
store_new = _function(_gil, "wasmtime_store_new", _P, _P, _P, _P)
store_delete = _function(_gil, "wasmtime_store_delete", None, _P)
store_context = _function(_gil, "wasmtime_store_context", _P, _P)
store_limiter = _function(_gil, "wasmtime_store_limiter", None, _P, *[ctypes.c_int64] * 5)
set_deadline = _function(_gil, "wasmtime_context_set_epoch_deadline", None, _P, ctypes.c_uint64)
yield_at_deadline = _function(
    _gil, "wasmtime_context_epoch_deadline_async_yield_and_update", _P, _P, ctypes.c_uint64
)
set_wasi = _function(_gil, "wasmtime_context_set_wasi", _P, _P, _P)
wasi_new = _function(_gil, "wasi_config_new", _P)
wasi_delete = _function(_gil, "wasi_config_delete", None, _P)
preopen = _function(
    _gil, "wasi_config_preopen_dir", c_bool, _P, ctypes.c_char_p, ctypes.c_char_p, c_bool
)
instantiate = _function(_gil, "wasmtime_instance_pre_instantiate_async", _P, _P, _P, _P, _P, _P)
link_and_instantiate = _function(
    _gil, "wasmtime_linker_instantiate_async", _P, _P, _P, _P, _P, _P, _P
)
instance_export = _function(
    _gil, "wasmtime_instance_export_get", c_bool, _P, _P, ctypes.c_char_p, c_size_t, _P
)
caller_export = _function(
    _gil, "wasmtime_caller_export_get", c_bool, _P, ctypes.c_char_p, c_size_t, _P
)
call = _function(_gil, "wasmtime_func_call_async", _P, _P, _P, _P, c_size_t, _P, c_size_t, _P, _P)
memory_data = _function(_gil, "wasmtime_memory_data", _P, _P, _P)
memory_size = _function(_gil, "wasmtime_memory_data_size", c_size_t, _P, _P)
_increment_epoch = _function(_gil, "wasmtime_engine_increment_epoch", None, _P)
_trap_new = _function(_gil, "wasmtime_trap_new", _P, ctypes.c_char_p, c_size_t)

addressof = ctypes.addressof
# What ctypes.string_at calls, without a function around it: a tenth of a host call's time.
peek: Callable[[int, int], bytes] = getattr(ctypes, "_string_at", ctypes.string_at)
"""``peek(address, length)`` copies bytes out of memory. Only ``guest.memory`` may call it."""
poke = ctypes.memmove
"""``poke(address, bytes, length)`` copies bytes into memory. Only ``guest.memory`` may call it."""


def wat_to_wasm(text: str) -> bytes:
    """Translate the text format. Raises: EngineError with the place of the mistake."""
    try:
        return bytes(wasmtime.wat2wasm(text))
    except wasmtime.WasmtimeError as error:
        raise EngineError(str(error)) from None


@dataclass(frozen=True, slots=True)
class Pool:
    """The size of a pooling engine: ``guests`` at a time, each with at most ``memory`` bytes."""

    guests: int
    memory: int


def engine_name(pool: Pool | None) -> str:
    """What the code of a module depends on: the configuration, and the memory it may have."""
    kept = f"configuration {_CONFIGURATION}, {'on demand' if pool is None else pool.memory}"
    # wasmtime's own switch: then the code has the lines of its source with it.
    return f"{kept}, lines" if os.environ.get("WASMTIME_BACKTRACE_DETAILS") == "1" else kept


class Engine:
    """Compiles modules, either for slots of a pool or for memory that is allocated on demand."""

    def __init__(self, pool: Pool | None, cache_config: Path | None = None) -> None:
        config = wasmtime.Config()
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
        self.inner = wasmtime.Engine(config)
        self.address = address_of(self.inner)

    def increment_epoch(self) -> None:
        """Move the time on by which running guests have to yield."""
        _increment_epoch(self.address)

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
        # A guest with volumes has a second instance, see guest.files.
        "total_core_instances": 2 * pool.guests,
        "total_memories": pool.guests,
        "total_tables": pool.guests,
        "total_stacks": 2 * pool.guests,
        "max_memory_size": pool.memory,
        "table_elements": 20_000,
        "max_core_instance_size": 1024 * 1024,
        # Clearing 128 KiB costs 3 µs; giving the pages back and faulting them in again, 6 µs and
        # more: modules with 64 KiB of stack (wasi-sdk, TinyGo) have all they touch in there.
        "linear_memory_keep_resident": 128 * 1024,
        "table_keep_resident": 64 * 1024,
        # Slots are given back to the system some at a time: each time flushes the TLB.
        "decommit_batch_size": 32,
    }.items():
        getattr(c, f"wasmtime_pooling_allocation_config_{name}_set")(options, value)
    c.wasmtime_pooling_allocation_strategy_set(config.ptr(), options)
    c.wasmtime_pooling_allocation_config_delete(options)


def address_of(managed: Any) -> int:
    return int(cast(managed.ptr(), c_void_p).value or 0)


HostCall = Callable[..., int]
"""``call(guest, *arguments) -> errno``."""
Continuation = Callable[[], "int | None"]
"""Asked at each poll: the errno, or None while the guest has to wait."""
AsyncHostCall = Callable[..., "int | Continuation"]

_RAW_SIZE = 16
_SYNC = CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_void_p, c_size_t)
_ASYNC = CFUNCTYPE(
    None, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_void_p
)
_READY = CFUNCTYPE(c_bool, c_void_p)
_NO_FINALIZER = cast(0, CFUNCTYPE(None, c_void_p))
_current: Run | None = None  # the run that is being polled: one thread, so one at a time


class Run(Protocol):
    """What host calls need of the run that makes them; see ``guest.run``."""

    guest: Any
    failure: BaseException | None
    continuation: Continuation | None
    caller: int
    span: tuple[int, int] | None
    result: int


def poll(run: Run, future: int) -> bool:
    """Run guest code until it suspends or ends; True when it has ended."""
    global _current
    _current = run
    return bool(_poll(future))


class Linker:
    """The functions that modules of one engine may import."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.inner = wasmtime.Linker(engine.inner)
        self.inner.define_wasi()
        self.inner.allow_shadowing = True
        self._known: dict[tuple[str, str], bool] = {}
        self._kept: list[Any] = []  # ctypes callbacks live as long as somebody refers to them

    def define(self, module: str, name: str, parameters: str, call: HostCall) -> None:
        """Give a host call that answers at once.

        Parameters: ``parameters`` one character for each: ``I`` for i32, ``Q`` for i64, unsigned.
        The result is an i32.
        """
        unpack = Struct("<" + "".join({"I": "I12x", "Q": "Q8x"}[p] for p in parameters)).unpack
        size = _RAW_SIZE * len(parameters)

        def enter(_data: int, caller: int, raw: int, _count: int) -> int | None:
            run = _current
            assert run is not None
            run.caller, run.span = caller, None
            try:
                result = call(run.guest, *unpack(peek(raw, size)))
            except GuestFault as fault:
                result = fault.errno
            except BaseException as error:  # nothing may fly through the guest's frames
                return _trap_for(run, error)
            c_uint32.from_address(raw).value = result
            return None

        callback = _SYNC(enter)
        kind = _type(parameters)
        self._kept.append(callback)
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
        """Give a host call that may suspend the guest by returning a continuation."""
        unpack = Struct("<" + "".join({"I": "8xI20x", "Q": "8xQ16x"}[p] for p in parameters)).unpack
        size = _VALUE_SIZE * len(parameters)

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
            run = _current
            assert run is not None
            run.caller, run.span = caller, None
            run.result = results
            ctypes.memset(results, 0, _VALUE_SIZE)
            slot: Any = c.wasmtime_async_continuation_t.from_address(continuation)
            slot.callback = _resume_pointer
            slot.env = None
            slot.finalizer = _NO_FINALIZER
            try:
                outcome = call(run.guest, *unpack(peek(arguments, size)))
            except GuestFault as fault:
                outcome = fault.errno
            except BaseException as error:
                c_void_p.from_address(trap).value = _trap_for(run, error)
                outcome = 0
            if isinstance(outcome, int):
                c_uint32.from_address(results + 8).value = outcome
                run.continuation = None
            else:
                run.continuation = outcome

        callback = _ASYNC(enter)
        kind = _type(parameters)
        self._kept.append(callback)
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

    def prepare(self, module: wasmtime.Module) -> Prepared:
        """Resolve a module's imports once for all its runs. Raises: EngineError."""
        try:
            return Prepared(self.engine, self.inner.instantiate_pre(module))
        except wasmtime.WasmtimeError as error:
            raise EngineError(str(error)) from None


def _resume(_data: int) -> bool:
    run = _current
    assert run is not None
    if run.continuation is None:
        return True
    run.span = None
    try:
        errno = run.continuation()
    except GuestFault as fault:
        errno = fault.errno
    except BaseException as error:
        run.failure = error
        errno = EFAULT
    if errno is None:
        return False
    run.continuation = None
    c_uint32.from_address(run.result + 8).value = errno
    return True


_resume_callback = _READY(_resume)
_resume_pointer = cast(_resume_callback, c.wasmtime_func_async_continuation_callback_t)


def _trap_for(run: Run, error: BaseException) -> int:
    message = b"the host call failed"
    if isinstance(error, GuestTrap):
        message = str(error).encode()
    else:
        run.failure = error
    return int(_trap_new(message, len(message)))


def _text(text: str) -> tuple[Any, int]:
    encoded = text.encode()
    return ctypes.create_string_buffer(encoded), len(encoded)


def _type(parameters: str) -> wasmtime.FuncType:
    types = {"I": wasmtime.ValType.i32, "Q": wasmtime.ValType.i64}
    return wasmtime.FuncType([types[p]() for p in parameters], [wasmtime.ValType.i32()])


def _check(error: Any) -> None:
    if error:
        raise EngineError(str(wasmtime.WasmtimeError._from_ptr(error)))


class Prepared:
    """A compiled module with its imports resolved: all that instances have in common."""

    def __init__(self, engine: Engine, inner: wasmtime.InstancePre) -> None:
        self.engine = engine
        self._inner = inner
        self.address = address_of(inner)


class Slots(ctypes.Structure):
    """What the C API writes to during a run."""

    _fields_ = (
        ("instance", ffi.wasmtime_instance_t),
        ("function", ffi.wasmtime_extern_t),
        ("memory", ffi.wasmtime_extern_t),
        ("trap", c_void_p),
        ("error", c_void_p),
    )


FUNCTION = Slots.function.offset + ffi.wasmtime_extern_t.of.offset
MEMORY = Slots.memory.offset + ffi.wasmtime_extern_t.of.offset
EXTERN_FUNC = ffi.WASMTIME_EXTERN_FUNC.value
EXTERN_MEMORY = ffi.WASMTIME_EXTERN_MEMORY.value


def take_end(slots: Slots) -> Exit | Trap | None:
    """How a call has ended, out of the slots it wrote to: None for a plain return."""
    trap, error = slots.trap, slots.error
    slots.trap = slots.error = None
    if trap:
        return _trap(wasmtime.Trap._from_ptr(cast(trap, POINTER(c.wasm_trap_t))))
    if error:
        wrapped = wasmtime.WasmtimeError._from_ptr(cast(error, POINTER(c.wasmtime_error_t)))
        if isinstance(wrapped, wasmtime.ExitTrap):
            return Exit(wrapped.code)
        return _trap(wrapped)
    return None


def _trap(cause: object) -> Trap:
    """The names of functions are the guest's, and as long as it likes."""
    return Trap(str(cause)[:_MAX_MESSAGE])


def linker_with_memory(linker: Linker, context: int, memory: Any) -> Any:
    """A copy of a linker with a guest's memory as ``guest.memory``. Delete it after use."""
    copy = c.wasmtime_linker_clone(linker.inner.ptr())
    context_pointer = cast(context, POINTER(c.wasmtime_context_t))
    _check(
        c.wasmtime_linker_define(
            copy, context_pointer, *_text("guest"), *_text("memory"), byref(memory)
        )
    )
    return cast(copy, c_void_p)


def linker_delete(linker: Any) -> None:
    """Delete what ``linker_with_memory`` made."""
    c.wasmtime_linker_delete(cast(linker, POINTER(c.wasmtime_linker_t)))


def values(parameters: str, arguments: Sequence[int]) -> Any:
    """Arguments as the C API takes them; ``parameters`` as for ``Linker.define``."""
    array = (c.wasmtime_val_t * len(arguments))()
    for slot, kind, argument in zip(array, parameters, arguments, strict=True):
        if kind == "Q":
            slot.kind, slot.of.i64 = 1, ctypes.c_int64(argument).value
        else:
            slot.kind, slot.of.i32 = 0, ctypes.c_int32(argument).value
    return array
