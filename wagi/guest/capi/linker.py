"""The linker: it connects the imports of guests with host calls in Python."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Generator
from ctypes import CFUNCTYPE, byref, c_bool, c_size_t, c_uint32, c_void_p, cast
from struct import Struct
from time import monotonic
from typing import Any

import wasmtime
from wasmtime import _bindings as c
from wasmtime import _ffi as ffi

from wagi.guest.capi import api
from wagi.guest.capi.engine import Engine
from wagi.guest.errno import GuestFault, errno_of
from wagi.guest.outcome import EngineError

Waiting = Generator[None, None, int]
"""A host call in progress: it yields whenever it suspends the guest, and returns the errno."""
HostCall = Callable[..., int | None]
"""``call(guest, *arguments)`` returns the errno, or None for a function without a result."""
AsyncHostCall = Callable[..., "int | Waiting"]
"""``call(guest, *arguments)`` returns the errno, or a generator that completes the call."""

_SYNC = CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_void_p, c_size_t)
_ASYNC = CFUNCTYPE(
    None, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_void_p
)
_READY = CFUNCTYPE(c_bool, c_void_p)
_NO_FINALIZER = cast(0, CFUNCTYPE(None, c_void_p))
_WASI = "wasi_snapshot_preview1"
_NATIVE = frozenset(("clock_res_get", "clock_time_get", "sched_yield"))
"""Functions that guests import from wasmtime's own WASI: they use no descriptors, cannot block, and
language runtimes call them often (a host call in Python costs ten times as much)."""
# wasmtime_val_raw_t, 16 bytes:
#
#     offset  size    field
#     0       4 or 8  value (i32 or i64), the rest is unused
#
# wasmtime_val_t, 32 bytes:
#
#     offset  size    field
#     0       1       kind, followed by 7 bytes of padding
#     8       4 or 8  value (i32 or i64), the rest is unused
_RAW = {"I": "I12x", "Q": "Q8x"}
_RAW_SIZE = 16
_VALUE = {"I": "8xI20x", "Q": "8xQ16x"}
_VALUE_SIZE, VALUE_AT = 32, 8
# wasmtime_async_continuation_t, 24 bytes:
#
#     offset  size  field
#     0       8     callback
#     8       8     env
#     16      8     finalizer
_CONTINUATION = Struct("<QQQ")
# A C function that always returns true and needs no GIL. As the continuation of a call that has
# completed, it saves a call into Python.
_DONE = cast(ctypes.pythonapi.Py_IsInitialized, c_void_p).value


class Linker:
    """The functions that modules of one engine can import."""

    def __init__(self, engine: Engine) -> None:
        """Define wasmtime's own WASI functions, which ``define`` then overrides."""
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
        self._callbacks: list[Any] = [callback]  # ctypes frees callbacks without references

    def define(
        self, module: str, name: str, parameters: str, call: HostCall, results: str = "I"
    ) -> None:
        """Define a host call that cannot suspend the guest.

        Args:
            module: The module name of the import.
            name: The name of the import.
            parameters: One character per parameter: ``I`` for i32, ``Q`` for i64, both unsigned.
            call: The function; it may raise GuestFault, OSError, GuestExit and GuestTrap.
            results: ``I``, or empty for a function without a result.

        Raises:
            EngineError: If wasmtime rejects the definition.
        """
        unpack = Struct("<" + "".join(_RAW[p] for p in parameters)).unpack
        size = _RAW_SIZE * len(parameters)
        stores = self.engine.stores

        def enter(_data: int, caller: int, raw: int, _count: int) -> int | None:
            store = stores[api.get_data(api.caller_context(caller))]
            store.caller, store.memory_is_current = caller, False
            try:
                result = call(store.guest, *unpack(api.peek(raw, size)))
            except (GuestFault, OSError) as error:
                result = errno_of(error)
            except BaseException as error:  # nothing may propagate through the guest's frames
                return store.trap(error)
            if result is not None:
                c_uint32.from_address(raw).value = result
            return store.overrun() if monotonic() > store.slice_end else None

        callback = _SYNC(enter)
        self._callbacks.append(callback)
        function, data = self._with_core(module, name, callback)
        kind = _function_type(parameters, results)
        _check(
            c.wasmtime_linker_define_func_unchecked(
                self.inner.ptr(),
                *_text(module),
                *_text(name),
                kind.ptr(),
                cast(function, ffi.wasmtime_func_unchecked_callback_t),
                data,
                _NO_FINALIZER,
            )
        )

    def define_async(self, module: str, name: str, parameters: str, call: AsyncHostCall) -> None:
        """Define a host call that can suspend the guest by returning a generator.

        Args:
            module: The module name of the import.
            name: The name of the import.
            parameters: As for ``define``; the result is an i32.
            call: The function; it and its generator may raise the same exceptions as for
                ``define``.

        Raises:
            EngineError: If wasmtime rejects the definition.
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
            number = api.get_data(api.caller_context(caller))
            store = stores[number]
            store.caller, store.memory_is_current = caller, False
            waiting: Waiting | None = None
            errno = 0
            try:
                outcome = call(store.guest, *unpack(api.peek(arguments, size)))
                if isinstance(outcome, int):
                    errno = outcome
                else:  # take the first step here: wasmtime's caller is valid only in this call
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
                waiting = _yield_once(errno)
            if errno:  # wasmtime initialises the result to 0
                c_uint32.from_address(results + VALUE_AT).value = errno
            if waiting is None:
                c_void_p.from_address(continuation).value = _DONE
            else:
                store.wait_for(waiting, results, trap)
                api.poke(
                    continuation, _CONTINUATION.pack(self._resume, number, 0), _CONTINUATION.size
                )

        callback = _ASYNC(enter)
        self._callbacks.append(callback)
        function, data = self._with_core(module, name, callback)
        kind = _function_type(parameters, "I")
        _check(
            c.wasmtime_linker_define_async_func(
                self.inner.ptr(),
                *_text(module),
                *_text(name),
                kind.ptr(),
                cast(function, c.wasmtime_func_async_callback_t),
                data,
                _NO_FINALIZER,
            )
        )

    def _with_core(self, module: str, name: str, callback: Any) -> tuple[Any, Any]:
        """Return the C function to link and its data.

        For a call that the core implements, these are the core's function and, as its data, the
        host call in Python, to which it falls back.
        """
        found = None
        if self.engine.core is not None and module == _WASI:
            found = self.engine.core.host_call(name)
        if found is None:
            return callback, None
        address, is_async = found
        assert is_async is isinstance(callback, _ASYNC)
        return c_void_p(address), cast(callback, c_void_p)

    def has(self, module: str, name: str) -> bool:
        """Whether an import is defined."""
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
        """Resolve a module's imports once for all its instances.

        Raises:
            EngineError: If an import is missing or has another type.
        """
        try:
            inner = self.inner.instantiate_pre(module)
        except wasmtime.WasmtimeError as error:
            raise EngineError(str(error)) from None
        needs_wasi = any(i.module == _WASI and i.name in _NATIVE for i in module.imports)
        return InstancePre(self, inner, needs_wasi)


def _yield_once(errno: int) -> Waiting:
    """Suspend a guest whose slice is over, then return from its host call."""
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
    """A compiled module with its imports resolved (wasmtime's InstancePre)."""

    def __init__(self, linker: Linker, inner: wasmtime.InstancePre, needs_wasi: bool) -> None:
        self.engine = linker.engine
        self.needs_wasi = needs_wasi
        self.address = api.address_of(inner)
        self._owned = linker, inner  # keeps the callbacks that instances call
