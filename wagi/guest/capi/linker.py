"""The linker: it connects the imports of guests with host calls in Python."""

from __future__ import annotations

from collections.abc import Callable, Generator
from ctypes import byref, c_uint32, c_void_p, cast
from struct import Struct
from time import monotonic
from typing import Any, TypeVar

import wasmtime
from wasmtime import _bindings as c
from wasmtime import _ffi as ffi

from wagi.guest.capi import api
from wagi.guest.capi.callbacks import (
    ASYNC,
    CONTINUATION,
    DEADLINE,
    DONE,
    RAW,
    RAW_SIZE,
    READY,
    SYNC,
    VALUE,
    VALUE_AT,
    VALUE_SIZE,
    ComponentDefinition,
    define_trap,
    function_type,
    link_async,
    link_sync,
    text_argument,
)
from wagi.guest.capi.engine import Engine
from wagi.guest.errno import GuestFault, errno_of
from wagi.guest.outcome import EngineError

T = TypeVar("T")
Waiting = Generator[None, None, int]
"""A host call in progress: it yields whenever it suspends the guest, and returns the errno."""
HostCall = Callable[..., int | None]
"""``call(guest, *arguments)`` returns the errno, or None for a function without a result."""
AsyncHostCall = Callable[..., "int | Waiting"]
"""``call(guest, *arguments)`` returns the errno, or a generator that completes the call."""

_WASI = "wasi_snapshot_preview1"
_ALLOCATORS = frozenset("1234567")
"""What may follow ``#`` in the name of an interface (``component_linker``): components have at most
``component.flattening.MAX_ALLOCATORS``."""
_NATIVE = frozenset(("clock_res_get", "clock_time_get", "sched_yield"))
"""Functions that guests import from wasmtime's own WASI: they use no descriptors, cannot block, and
language runtimes call them often (a host call in Python costs ten times as much)."""


class Linker:
    """The functions that modules of one engine can import.

    Attributes:
        engine: The engine.
        component_calls: The host calls of components by interface and name
            (``component_linker``).
    """

    def __init__(self, engine: Engine) -> None:
        """Define wasmtime's own WASI functions, which ``define`` then overrides."""
        self.engine = engine
        self.inner = wasmtime.Linker(engine.inner)
        self.inner.define_wasi()
        self.inner.allow_shadowing = True
        self.component_calls: dict[tuple[str, str], ComponentDefinition] = {}
        self._denied = ""
        self._known: dict[tuple[str, str], bool] = {}
        stores = engine.stores

        def resume(number: int) -> bool:
            return stores[number].resume()

        def at_deadline(context: int, _data: int, delta_at: int, kind_at: int) -> int | None:
            return stores[api.get_data(context)].at_deadline(delta_at, kind_at)

        self._callbacks: list[Any] = []
        self.resume = cast(self.keep(READY(resume)), c_void_p).value or 0
        self.on_deadline = cast(self.keep(DEADLINE(at_deadline)), c_void_p).value or 0

    def keep(self, callback: T) -> T:
        """Keep a callback as long as the linker: ctypes frees callbacks without references."""
        self._callbacks.append(callback)
        return callback

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
        unpack = Struct("<" + "".join(RAW[p] for p in parameters)).unpack
        size = RAW_SIZE * len(parameters)
        stores = self.engine.stores

        def on_call(_data: int, caller: int, raw: int, _count: int) -> int | None:
            store = stores[api.get_data(api.caller_context(caller))]
            if store.is_allocating:
                return store.trap_reentrance()
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

        callback = self.keep(SYNC(on_call))
        function, data = self._with_core(module, name, callback)
        kind = function_type(parameters, results)
        link_sync(self.inner, module, name, kind, function, data)

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
        unpack = Struct("<" + "".join(VALUE[p] for p in parameters)).unpack
        size = VALUE_SIZE * len(parameters)
        stores = self.engine.stores

        def on_call(
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
            if store.is_allocating:
                c_void_p.from_address(trap).value = store.trap_reentrance()
                c_void_p.from_address(continuation).value = DONE
                return
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
                waiting = yield_once(errno)
            if errno:  # wasmtime initialises the result to 0
                c_uint32.from_address(results + VALUE_AT).value = errno
            if waiting is None:
                c_void_p.from_address(continuation).value = DONE
            else:
                store.wait_for(waiting, results, trap)
                api.poke(continuation, CONTINUATION.pack(self.resume, number, 0), CONTINUATION.size)

        callback = self.keep(ASYNC(on_call))
        function, data = self._with_core(module, name, callback)
        kind = function_type(parameters, "I")
        link_async(self.inner, module, name, kind, function, data)

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
        assert is_async is isinstance(callback, ASYNC)
        return c_void_p(address), cast(callback, c_void_p)

    def deny_others(self, prefix: str) -> None:
        """Make all other functions of some interfaces traps.

        Args:
            prefix: How the names of the interfaces begin.
        """
        self._denied = prefix

    def has(self, module: str, name: str) -> bool:
        """Whether an import is defined, or made a trap."""
        if self._denied and module.startswith(self._denied):
            return True
        if (module, name) not in self._known:
            self._known[module, name] = self._look_up(module, name)
        return self._known[module, name]

    def _look_up(self, module: str, name: str) -> bool:
        interface, _, number = module.partition("#")
        if number in _ALLOCATORS and (interface, name) in self.component_calls:
            self.component_calls[interface, name].define(module)
        store = wasmtime.Store(self.engine.inner)
        return bool(
            c.wasmtime_linker_get(
                self.inner.ptr(),
                store._context(),
                *text_argument(module),
                *text_argument(name),
                byref(ffi.wasmtime_extern_t()),
            )
        )

    def instantiate_pre(self, module: wasmtime.Module) -> InstancePre:
        """Resolve a module's imports once for all its instances.

        Raises:
            EngineError: If an import is missing or has another type.
        """
        imports = module.imports  # made at every access, which takes 0.1 ms
        for item in imports:
            key = item.module, item.name or ""
            if self._denied and item.module.startswith(self._denied):
                if key not in self._known and not self._look_up(*key):
                    self.keep(define_trap(self.inner, self.engine.stores, item))
                self._known[key] = True
            elif "#" in item.module:
                self.has(*key)  # defines it
        try:
            inner = self.inner.instantiate_pre(module)
        except wasmtime.WasmtimeError as error:
            raise EngineError(str(error)) from None
        needs_wasi = any(i.module == _WASI and i.name in _NATIVE for i in imports)
        return InstancePre(self, inner, needs_wasi)


def yield_once(errno: int) -> Waiting:
    """Suspend a guest whose slice is over, then return from its host call."""
    return errno
    yield


class InstancePre:
    """A compiled module with its imports resolved (wasmtime's InstancePre)."""

    def __init__(self, linker: Linker, inner: wasmtime.InstancePre, needs_wasi: bool) -> None:
        self.engine = linker.engine
        self.needs_wasi = needs_wasi
        self.on_deadline = linker.on_deadline
        self.address = api.address_of(inner)
        self._owned = linker, inner  # keeps the callbacks that instances call
