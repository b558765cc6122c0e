"""Host calls of components: functions of WASI preview 2 in the flat form of the canonical ABI.

They differ from the host calls of preview 1 (``Linker.define``) in these points:

- Results are any i32 or i64, or nothing: there are no error numbers. A function that returns more
  gets an address to which it writes.
- An invalid address or handle is a bug of the guest, and traps it.
- They may allocate memory in the guest (``Store.allocator``), but only until they first wait.

The imports of a component name the allocator for their results: ``INTERFACE#N``, or ``INTERFACE``
for the first one. A call is defined again for each further allocator of a component.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from ctypes import c_uint32, c_uint64, c_void_p
from struct import Struct
from time import monotonic
from types import GeneratorType
from typing import Any

from wagi.guest.capi import api
from wagi.guest.capi.callbacks import (
    ASYNC,
    CONTINUATION,
    DONE,
    RAW,
    RAW_SIZE,
    SYNC,
    VALUE,
    VALUE_AT,
    VALUE_SIZE,
    ComponentDefinition,
    function_type,
    link_async,
    link_sync,
)
from wagi.guest.capi.linker import Linker, Waiting, yield_once
from wagi.guest.errno import GuestFault, GuestTrap

ComponentCall = Callable[..., int | None]
"""``call(guest, *arguments)`` returns the result, or None for a function without a result."""
ComponentWaiting = Generator[None, None, int | None]
"""A call in progress: it yields whenever it suspends the guest, and returns the result."""
WaitingComponentCall = Callable[..., "int | ComponentWaiting | None"]
"""``call(guest, *arguments)`` returns the result, or a generator that completes the call."""

_INVALID_ADDRESS = "it passed an address outside of its memory"
_RESULTS = {"I": c_uint32, "Q": c_uint64}


def define_call(
    linker: Linker, interface: str, name: str, parameters: str, results: str, call: ComponentCall
) -> None:
    """Define a host call that cannot suspend the guest.

    Args:
        linker: The linker.
        interface: The interface, without a version.
        name: The name of the function in it.
        parameters: One character per flat parameter: ``I`` for i32, ``Q`` for i64, both unsigned.
        results: ``I``, ``Q``, or empty for a function without a flat result.
        call: The function; it may raise GuestExit and GuestTrap. A GuestFault traps the guest too.

    Raises:
        EngineError: If wasmtime rejects the definition.
    """

    def define(module: str) -> None:
        _define_call(linker, module, name, parameters, results, call)

    define(interface)
    linker.component_calls[interface, name] = ComponentDefinition(parameters, results, define)


def _define_call(
    linker: Linker, module: str, name: str, parameters: str, results: str, call: ComponentCall
) -> None:
    unpack = Struct("<" + "".join(RAW[p] for p in parameters)).unpack
    size = RAW_SIZE * len(parameters)
    stores = linker.engine.stores
    allocator = _allocator_number(module)
    result_type = _RESULTS.get(results)

    def on_call(_data: int, caller: int, raw: int, _count: int) -> int | None:
        store = stores[api.get_data(api.caller_context(caller))]
        if store.is_allocating:
            return store.trap_reentrance()
        store.caller, store.memory_is_current = caller, False
        store.allocator_number = allocator
        try:
            result = call(store.guest, *unpack(api.peek(raw, size)))
            if result_type is not None:
                assert result is not None
                result_type.from_address(raw).value = result
        except GuestFault:
            return store.trap(GuestTrap(_INVALID_ADDRESS))
        except BaseException as error:  # nothing may propagate through the guest's frames
            return store.trap(error)
        return store.overrun() if monotonic() > store.slice_end else None

    callback = linker.keep(SYNC(on_call))
    kind = function_type(parameters, results)
    link_sync(linker.inner, module, name, kind, callback)


def define_waiting_call(
    linker: Linker,
    interface: str,
    name: str,
    parameters: str,
    results: str,
    call: WaitingComponentCall,
) -> None:
    """Define a host call that can suspend the guest by returning a generator.

    Args:
        linker: The linker.
        interface: The interface, without a version.
        name: The name of the function in it.
        parameters: As for ``define_call``.
        results: ``I``, or empty for a function without a flat result.
        call: The function; it and its generator may raise the same exceptions as for
            ``define_call``. The generator may allocate memory in the guest only before it first
            yields.

    Raises:
        EngineError: If wasmtime rejects the definition.
    """

    def define(module: str) -> None:
        _define_waiting_call(linker, module, name, parameters, results, call)

    define(interface)
    linker.component_calls[interface, name] = ComponentDefinition(parameters, results, define)


def _define_waiting_call(
    linker: Linker,
    module: str,
    name: str,
    parameters: str,
    results: str,
    call: WaitingComponentCall,
) -> None:
    unpack = Struct("<" + "".join(VALUE[p] for p in parameters)).unpack
    size = VALUE_SIZE * len(parameters)
    stores = linker.engine.stores
    allocator = _allocator_number(module)
    has_result = bool(results)

    def on_call(
        _data: int,
        caller: int,
        arguments: int,
        _n: int,
        results_at: int,
        _m: int,
        trap: int,
        continuation: int,
    ) -> None:
        number = api.get_data(api.caller_context(caller))
        store = stores[number]
        waiting: Waiting | None = None
        result: Any = None
        if store.is_allocating:
            c_void_p.from_address(trap).value = store.trap_reentrance()
            c_void_p.from_address(continuation).value = DONE
            return
        store.caller, store.memory_is_current = caller, False
        store.allocator_number = allocator
        try:
            outcome = call(store.guest, *unpack(api.peek(arguments, size)))
            if isinstance(outcome, GeneratorType):
                # Take the first step here: wasmtime's caller is valid only in this call.
                try:
                    next(outcome)
                    store.memory()  # the caller is needed to find it
                    waiting = _rest(outcome)
                except StopIteration as end:
                    result = end.value
            else:
                result = outcome
            if waiting is None and has_result:
                c_uint32.from_address(results_at + VALUE_AT).value = result
        except GuestFault:
            waiting = None
            c_void_p.from_address(trap).value = store.trap(GuestTrap(_INVALID_ADDRESS))
        except BaseException as error:
            waiting = None
            c_void_p.from_address(trap).value = store.trap(error)
        else:
            if waiting is None and monotonic() > store.slice_end:
                waiting = yield_once(result or 0)
        if waiting is None:
            c_void_p.from_address(continuation).value = DONE
        else:
            store.wait_for(waiting, results_at if has_result else 0, trap)
            api.poke(continuation, CONTINUATION.pack(linker.resume, number, 0), CONTINUATION.size)

    callback = linker.keep(ASYNC(on_call))
    kind = function_type(parameters, results)
    link_async(linker.inner, module, name, kind, callback)


def _rest(waiting: ComponentWaiting) -> Waiting:
    """Convert the rest of a call to one whose result is a number, and that has no faults."""
    try:
        result = yield from waiting
    except GuestFault:
        raise GuestTrap(_INVALID_ADDRESS) from None
    return result or 0


def _allocator_number(module: str) -> int:
    """Return which allocator allocates the results: ``#N`` after the name of the interface."""
    return int(module.partition("#")[2] or 0)
