"""Calls of a guest's own functions from inside its host calls: its allocator, and ``place``.

A host call that returns a string or a list allocates memory in the guest (``realloc`` of the
canonical ABI). The guest runs on a fiber, whose stack has the frames of the host call, so it must
not be suspended meanwhile: when its slice ends, it gets at most ``plan.EXTRA_TICKS`` more, and
yields after the host call. An allocator that takes longer is trapped, as is one that calls the
host. The calls release the GIL, since the ticker needs it.

What an allocator returns is untrusted. It may also grow the memory, and so move it: views of the
memory are invalid after each call.

A call that waits has to allocate before it waits: wasmtime permits calls of the guest only while
its host call runs.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_uint8, c_uint32, c_uint64, c_void_p, cast
from struct import Struct
from typing import Any, Protocol

import wasmtime
from wasmtime import _bindings as c
from wasmtime import _ffi as ffi

from wagi.guest.backtrace import parse_trap
from wagi.guest.capi import api
from wagi.guest.errno import GuestTrap

_OF = ffi.wasmtime_extern_t.of.offset
_EXTERN_FUNC = ffi.WASMTIME_EXTERN_FUNC.value
_PLACE = b"wagi:place"  # see component.host_exports
# wasmtime_val_raw_t, as in linker
_ALLOCATE = Struct("<I12xI12xI12xI12x")
_PLACE_CALL = Struct("<I12xI12xI12x")
_ENTRY = Struct("<II")  # of a table of strings: address, length


class _Memory(ctypes.Structure):
    """Memory that the C API reads and writes in these calls."""

    _fields_ = (
        ("allocator", ffi.wasmtime_extern_t),
        ("place", ffi.wasmtime_extern_t),
        ("trap", c_void_p),
        ("values", c_uint64 * 8),
    )


_VALUES, _TRAP = _Memory.values.offset, _Memory.trap.offset


class GuestStore(Protocol):
    """The store of a guest, as far as its allocator needs it.

    Attributes:
        caller: The instance that makes the current host call; 0 if it has waited.
        memory_is_current: Whether the size of the memory is known.
    """

    caller: int
    memory_is_current: bool

    @property
    def context(self) -> int:
        """The address of the store's context."""

    def memory(self) -> memoryview:
        """Return the whole memory."""

    def mark_allocating(self, allocates: bool) -> None:
        """Note whether a function of the guest is running in a host call."""


class Allocator:
    """The allocator of one guest."""

    def __init__(self, store: GuestStore, export: bytes, has_place: bool) -> None:
        """Look up the functions.

        Args:
            store: The guest's store, in a host call.
            export: The export that allocates memory.
            has_place: Whether the helper ``place`` calls this export.

        Raises:
            GuestTrap: It is not a function.
        """
        self._store = store
        self._memory = _Memory()
        self._at = ctypes.addressof(self._memory)
        if not self._find(export, _Memory.allocator.offset):
            raise GuestTrap(f"its allocator {export.decode()!r} is missing")
        self._has_place = has_place and self._find(_PLACE, _Memory.place.offset)

    def _find(self, name: bytes, offset: int) -> bool:
        at = self._at + offset
        found = api.caller_export(self._store.caller, name, len(name), at)
        return bool(found) and c_uint8.from_address(at).value == _EXTERN_FUNC

    def allocate(self, size: int, alignment: int) -> int:
        """Allocate memory in the guest.

        Args:
            size: Bytes.
            alignment: Bytes; a power of two.

        Returns:
            The address, which is aligned, and whose range is within the memory.

        Raises:
            GuestTrap: The guest's allocator failed, or returned an invalid address.
        """
        api.poke(self._at + _VALUES, _ALLOCATE.pack(0, 0, alignment, size), _ALLOCATE.size)
        self._call(_Memory.allocator.offset, 4)
        pointer = c_uint32.from_address(self._at + _VALUES).value
        if pointer % alignment or pointer + size > len(self._store.memory()):
            raise GuestTrap("its allocator returned an invalid address")
        return pointer

    def place(self, table: int, count: int, stride: int) -> None:
        """Replace each string of a table with a copy that the guest's allocator has made.

        Args:
            table: Address of the first entry: address and length of a string, 4 bytes each.
            count: Number of entries.
            stride: Distance of two entries in bytes.

        Raises:
            GuestTrap: The guest's allocator failed.
        """
        if self._has_place:
            values = _PLACE_CALL.pack(table, count, stride)
            api.poke(self._at + _VALUES, values, _PLACE_CALL.size)
            self._call(_Memory.place.offset, 3)
            return
        for at in range(table, table + count * stride, stride):
            source, length = _ENTRY.unpack_from(self._store.memory(), at)
            copy = self.allocate(length, 1)
            memory = self._store.memory()
            if source + length > len(memory):
                raise GuestTrap("its allocator changed a result")
            memory[copy : copy + length] = memory[source : source + length]
            _ENTRY.pack_into(memory, at, copy, length)

    def _call(self, function: int, count: int) -> None:
        store, at = self._store, self._at
        assert store.caller, "a host call has to allocate before it waits"
        store.mark_allocating(True)
        error = api.call_unchecked(
            store.context, at + function + _OF, at + _VALUES, count, at + _TRAP
        )
        store.mark_allocating(False)
        store.memory_is_current = False
        trap = self._memory.trap
        if error or trap:
            self._memory.trap = None
            raise GuestTrap(f"its allocator failed: {_cause(error, trap)}")


def _cause(error: int | None, trap: int | None) -> str:
    """Free an error and a trap, and return the cause in one line."""
    owned: list[Any] = []
    if trap:
        owned.append(wasmtime.Trap._from_ptr(cast(trap, POINTER(c.wasm_trap_t))))
    if error:
        owned.append(wasmtime.WasmtimeError._from_ptr(cast(error, POINTER(c.wasmtime_error_t))))
    return parse_trap(str(owned[0]))[0]
