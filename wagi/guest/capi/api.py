"""The functions of wasmtime's C API, and the compiled core.

The library is opened in two ways: ``ctypes.CDLL`` releases the GIL during a call, as a call that
runs guest code must (the ticker thread has to run); ``ctypes.PyDLL`` holds it, which is faster for
calls that take a microsecond.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_bool, c_size_t, c_void_p, cast
from typing import Any

from wasmtime import _ffi as ffi

from wagi.guest import compatibility
from wagi.guest import core as compiled_core
from wagi.guest.scheduler import CALM_TICK, TICK

compatibility.check()  # the code below relies on the layouts that this verifies

core: Any = compiled_core.module
if core is not None:
    try:
        core.load(str(ffi.filename))
    except ImportError as error:
        raise compatibility.unsupported(f"the compiled core does not fit: {error}") from None
    core.clock_configure(TICK, CALM_TICK)

_gil = ctypes.PyDLL(str(ffi.filename))
_no_gil = ctypes.CDLL(str(ffi.filename))


def _function(library: Any, name: str, result: Any, *arguments: Any) -> Any:
    # Indexing makes a new function object, so the argtypes of wasmtime's bindings do not change.
    prototype = library[name]
    prototype.restype = result
    prototype.argtypes = arguments
    return prototype


_P = c_void_p
poll = _function(_no_gil, "wasmtime_call_future_poll", c_bool, _P)
future_delete = _function(_gil, "wasmtime_call_future_delete", None, _P)
store_new = _function(_gil, "wasmtime_store_new", _P, _P, _P, _P)
store_delete = _function(_gil, "wasmtime_store_delete", None, _P)
store_context = _function(_gil, "wasmtime_store_context", _P, _P)
store_limiter = _function(_gil, "wasmtime_store_limiter", None, _P, *[ctypes.c_int64] * 5)
set_deadline = _function(_gil, "wasmtime_context_set_epoch_deadline", None, _P, ctypes.c_uint64)
yield_at_deadline = _function(
    _gil, "wasmtime_context_epoch_deadline_async_yield_and_update", _P, _P, ctypes.c_uint64
)
on_deadline = _function(_gil, "wasmtime_store_epoch_deadline_callback", None, _P, _P, _P, _P)
set_wasi = _function(_gil, "wasmtime_context_set_wasi", _P, _P, _P)
wasi_new = _function(_gil, "wasi_config_new", _P)
instantiate = _function(_gil, "wasmtime_instance_pre_instantiate_async", _P, _P, _P, _P, _P, _P)
instance_export = _function(
    _gil, "wasmtime_instance_export_get", c_bool, _P, _P, ctypes.c_char_p, c_size_t, _P
)
caller_export = _function(
    _gil, "wasmtime_caller_export_get", c_bool, _P, ctypes.c_char_p, c_size_t, _P
)
caller_context = _function(_gil, "wasmtime_caller_context", _P, _P)
get_data = _function(_gil, "wasmtime_context_get_data", _P, _P)
call = _function(_gil, "wasmtime_func_call_async", _P, _P, _P, _P, c_size_t, _P, c_size_t, _P, _P)
call_unchecked = _function(_no_gil, "wasmtime_func_call_unchecked", _P, _P, _P, _P, c_size_t, _P)
memory_data = _function(_gil, "wasmtime_memory_data", _P, _P, _P)
memory_size = _function(_gil, "wasmtime_memory_data_size", c_size_t, _P, _P)
increment_epoch = _function(_gil, "wasmtime_engine_increment_epoch", None, _P)
error_new = _function(_gil, "wasmtime_error_new", _P, ctypes.c_char_p)
trap_new = _function(_gil, "wasmtime_trap_new", _P, ctypes.c_char_p, c_size_t)

# The function that ctypes.string_at wraps: the wrapper would take a tenth of a host call's time.
peek: Callable[[int, int], bytes] = getattr(ctypes, "_string_at", ctypes.string_at)
poke = ctypes.memmove
view = _function(
    ctypes.pythonapi,
    "PyMemoryView_FromMemory",
    ctypes.py_object,
    _P,
    ctypes.c_ssize_t,
    ctypes.c_int,
)
WRITABLE = 0x200  # PyBUF_WRITE
madvise = _function(ctypes.PyDLL(None), "madvise", ctypes.c_int, _P, c_size_t, ctypes.c_int)
MADV_DONTNEED = 4
malloc_trim = getattr(ctypes.PyDLL(None), "malloc_trim", None)  # glibc only


def address_of(managed: Any) -> int:
    """Return the address of the C object that an object of wasmtime's package wraps."""
    return int(cast(managed.ptr(), c_void_p).value or 0)
