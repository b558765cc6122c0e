"""The callbacks of host calls, and the values that they exchange with wasmtime."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from ctypes import CFUNCTYPE, c_bool, c_size_t, c_void_p, cast
from dataclasses import dataclass
from struct import Struct
from typing import Any

import wasmtime
from wasmtime import _bindings as c
from wasmtime import _ffi as ffi

from wagi.guest.capi import api
from wagi.guest.errno import GuestTrap
from wagi.guest.outcome import EngineError

SYNC = CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_void_p, c_size_t)
ASYNC = CFUNCTYPE(
    None, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_void_p
)
READY = CFUNCTYPE(c_bool, c_void_p)
DEADLINE = CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)
_NO_FINALIZER = cast(0, CFUNCTYPE(None, c_void_p))
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
RAW = {"I": "I12x", "Q": "Q8x"}
RAW_SIZE = 16
VALUE = {"I": "8xI20x", "Q": "8xQ16x"}
VALUE_SIZE, VALUE_AT = 32, 8
# wasmtime_async_continuation_t, 24 bytes:
#
#     offset  size  field
#     0       8     callback
#     8       8     env
#     16      8     finalizer
CONTINUATION = Struct("<QQQ")
# A C function that always returns true and needs no GIL. As the continuation of a call that has
# completed, it saves a call into Python.
DONE = cast(ctypes.pythonapi.Py_IsInitialized, c_void_p).value


@dataclass(frozen=True, slots=True)
class ComponentDefinition:
    """A host call of components.

    Attributes:
        parameters: As for ``component_linker.define_call``.
        results: As for ``component_linker.define_call``.
        define: Defines it again under another name of its interface.
    """

    parameters: str
    results: str
    define: Callable[[str], None]


def text_argument(text: str) -> tuple[Any, int]:
    encoded = text.encode()
    return ctypes.create_string_buffer(encoded), len(encoded)


def function_type(parameters: str, results: str) -> wasmtime.FuncType:
    types = {"I": wasmtime.ValType.i32, "Q": wasmtime.ValType.i64}
    return wasmtime.FuncType([types[p]() for p in parameters], [types[r]() for r in results])


def _check(error: Any) -> None:
    if error:
        raise EngineError(str(wasmtime.WasmtimeError._from_ptr(error)))


def link_sync(
    linker: wasmtime.Linker,
    module: str,
    name: str,
    kind: wasmtime.FuncType,
    function: Any,
    data: Any = None,
) -> None:
    """Define a function that cannot suspend the guest.

    Args:
        linker: wasmtime's linker.
        module: The module name of the import.
        name: The name of the import.
        kind: The type of the function.
        function: A ``SYNC`` callback, or a C function with its type; it must live as long as the
            linker.
        data: The first argument of the function.

    Raises:
        EngineError: If wasmtime rejects the definition.
    """
    _check(
        c.wasmtime_linker_define_func_unchecked(
            linker.ptr(),
            *text_argument(module),
            *text_argument(name),
            kind.ptr(),
            cast(function, ffi.wasmtime_func_unchecked_callback_t),
            data,
            _NO_FINALIZER,
        )
    )


def link_async(
    linker: wasmtime.Linker,
    module: str,
    name: str,
    kind: wasmtime.FuncType,
    function: Any,
    data: Any = None,
) -> None:
    """Define a function that can suspend the guest.

    Args:
        linker: As for ``link_sync``.
        module: As for ``link_sync``.
        name: As for ``link_sync``.
        kind: As for ``link_sync``.
        function: As for ``link_sync``, but an ``ASYNC`` callback.
        data: As for ``link_sync``.

    Raises:
        EngineError: If wasmtime rejects the definition.
    """
    _check(
        c.wasmtime_linker_define_async_func(
            linker.ptr(),
            *text_argument(module),
            *text_argument(name),
            kind.ptr(),
            cast(function, c.wasmtime_func_async_callback_t),
            data,
            _NO_FINALIZER,
        )
    )


def define_trap(
    linker: wasmtime.Linker, stores: Mapping[int, Any], item: wasmtime.ImportType
) -> Any:
    """Define a function that traps every guest that calls it.

    Args:
        linker: wasmtime's linker.
        stores: The open stores by their numbers.
        item: The import of a function.

    Returns:
        The callback, which must live as long as the linker.
    """
    message = f"it called {item.name} of {item.module}, for which it can have no handle"

    def on_call(_data: int, caller: int, _raw: int, _count: int) -> int:
        store = stores[api.get_data(api.caller_context(caller))]
        return int(store.trap(GuestTrap(message)))

    callback, kind = SYNC(on_call), item.type
    assert isinstance(kind, wasmtime.FuncType)
    link_sync(linker, item.module, item.name or "", kind, callback)
    return callback
