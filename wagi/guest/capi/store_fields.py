"""The memory of a store that the C API writes to."""

from __future__ import annotations

import ctypes
from ctypes import c_double, c_int32, c_uint8, c_uint32, c_void_p

from wasmtime import _ffi as ffi


class StoreFields(ctypes.Structure):
    """Memory that the C API writes to during the life of an instance.

    The layout, drawn in core/store.h, is that of the first fields of the core's ``store_t``.
    """

    _fields_ = (
        ("instance", ffi.wasmtime_instance_t),
        ("function", ffi.wasmtime_extern_t),
        ("memory", ffi.wasmtime_extern_t),
        ("trap", c_void_p),
        ("error", c_void_p),
        ("slice_end", c_double),
        ("started_at", c_double),
        ("exit_status", c_int32),
        ("has_exited", c_uint8),
        ("streams", c_uint8),
        ("context", c_void_p),
        ("extra_ticks", c_uint32),
        ("is_allocating", c_uint8),
    )


TRAP, ERROR = StoreFields.trap.offset, StoreFields.error.offset
FUNCTION, MEMORY = StoreFields.function.offset, StoreFields.memory.offset
OF = ffi.wasmtime_extern_t.of.offset
EXTERN_FUNC = ffi.WASMTIME_EXTERN_FUNC.value
EXTERN_MEMORY = ffi.WASMTIME_EXTERN_MEMORY.value
