"""Check that the installed wasmtime has the C API that this version of wagi relies on.

A new major version may change the C API. Calls would then read and write the wrong bytes instead of
failing. So the version, the layouts of structures and the functions are checked before anything
else. ``guest.selftest`` then checks their behaviour.
"""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.metadata import version
from typing import Any

from wasmtime import _bindings as bindings

from wagi.guest.outcome import EngineError

LOWEST_MAJOR = 48
"""The oldest supported version: a long-term support release, with security fixes."""
NEWEST_TESTED_MAJOR = 50
"""The newest version that wagi is tested with. Newer ones are used if they pass all checks."""

_LAYOUTS: dict[str, tuple[int, dict[str, int]]] = {
    "wasmtime_extern_t": (32, {"kind": 0, "of": 8}),
    "wasmtime_extern_union_t": (24, {"func": 0, "memory": 0}),
    "wasmtime_val_t": (32, {"kind": 0, "of": 8}),
    "wasmtime_valunion_t": (24, {"i32": 0, "i64": 0}),
    "wasmtime_val_raw_t": (16, {"i32": 0, "i64": 0}),
    "wasmtime_async_continuation_t": (24, {"callback": 0, "env": 8, "finalizer": 16}),
    "wasmtime_instance_t": (16, {"store_id": 0}),
}
"""The structures that wagi reads and writes: size in bytes, and offsets of fields."""

_FUNCTIONS = {
    "wasi_config_new": 0,
    "wasm_trap_delete": 1,
    "wasmtime_call_future_delete": 1,
    "wasmtime_call_future_poll": 1,
    "wasmtime_caller_context": 1,
    "wasmtime_caller_export_get": 4,
    "wasmtime_config_async_stack_size_set": 2,
    "wasmtime_config_host_memory_creator_set": 2,
    "wasmtime_config_host_stack_creator_set": 2,
    "wasmtime_config_memory_init_cow_set": 2,
    "wasmtime_context_epoch_deadline_async_yield_and_update": 2,
    "wasmtime_context_get_data": 1,
    "wasmtime_context_set_epoch_deadline": 2,
    "wasmtime_context_set_wasi": 2,
    "wasmtime_engine_increment_epoch": 1,
    "wasmtime_error_delete": 1,
    "wasmtime_error_new": 1,
    "wasmtime_func_call_async": 8,
    "wasmtime_func_call_unchecked": 5,
    "wasmtime_instance_export_get": 5,
    "wasmtime_instance_pre_instantiate_async": 5,
    "wasmtime_linker_define_async_func": 9,
    "wasmtime_linker_define_func_unchecked": 9,
    "wasmtime_linker_get": 7,
    "wasmtime_memory_data": 2,
    "wasmtime_memory_data_size": 2,
    "wasmtime_pooling_allocation_config_decommit_batch_size_set": 2,
    "wasmtime_pooling_allocation_config_delete": 1,
    "wasmtime_pooling_allocation_config_linear_memory_keep_resident_set": 2,
    "wasmtime_pooling_allocation_config_max_core_instance_size_set": 2,
    "wasmtime_pooling_allocation_config_max_memory_size_set": 2,
    "wasmtime_pooling_allocation_config_new": 0,
    "wasmtime_pooling_allocation_config_table_elements_set": 2,
    "wasmtime_pooling_allocation_config_table_keep_resident_set": 2,
    "wasmtime_pooling_allocation_config_total_core_instances_set": 2,
    "wasmtime_pooling_allocation_config_total_memories_set": 2,
    "wasmtime_pooling_allocation_config_total_stacks_set": 2,
    "wasmtime_pooling_allocation_config_total_tables_set": 2,
    "wasmtime_pooling_allocation_strategy_set": 2,
    "wasmtime_store_context": 1,
    "wasmtime_store_delete": 1,
    "wasmtime_store_epoch_deadline_callback": 4,
    "wasmtime_store_limiter": 6,
    "wasmtime_store_new": 3,
    "wasmtime_trap_new": 2,
}
"""The functions that ``guest.capi`` and the core call, with their number of parameters."""


@cache  # reading the metadata takes longer than loading a compiled module
def installed_version() -> str:
    """Return the installed version of wasmtime."""
    return version("wasmtime")


def is_newer_than_tested() -> bool:
    """Return whether the installed version is newer than those that wagi is tested with."""
    return _major() > NEWEST_TESTED_MAJOR


def check() -> None:
    """Check the installed wasmtime.

    Raises:
        EngineError: It is too old or incompatible.
    """
    if _major() < LOWEST_MAJOR:
        raise unsupported("it is too old")
    for name, (size, offsets) in _LAYOUTS.items():
        structure = getattr(bindings, name, None)
        if structure is None:
            raise unsupported(f"it has no {name}")
        if ctypes.sizeof(structure) != size or offsets != _offsets(structure, offsets):
            raise unsupported(f"its {name} has a different layout")
    for name, parameters in _FUNCTIONS.items():
        function = getattr(bindings, f"_{name}", None)
        if function is None:
            raise unsupported(f"it has no {name}")
        if len(function.argtypes) != parameters:
            raise unsupported(f"its {name} has different parameters")


def unsupported(reason: str) -> EngineError:
    """Create the error for an incompatible wasmtime.

    Args:
        reason: The incompatibility.
    """
    return EngineError(
        f"wasmtime {installed_version()} cannot be used: {reason}; this version of wagi supports"
        f" wasmtime {LOWEST_MAJOR} to {NEWEST_TESTED_MAJOR}:"
        f" pip install 'wasmtime>={LOWEST_MAJOR},<{NEWEST_TESTED_MAJOR + 1}'"
    )


def _major() -> int:
    major = installed_version().split(".")[0]
    return int(major) if major.isdigit() else 0


def _offsets(structure: Any, fields: dict[str, int]) -> dict[str, int]:
    return {name: getattr(structure, name).offset for name in fields if hasattr(structure, name)}
