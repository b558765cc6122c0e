"""The arguments and the result of the last export that a store calls, in memory of the C API."""

from __future__ import annotations

import ctypes
from ctypes import c_uint32

from wagi.guest.capi.callbacks import VALUE_AT, VALUE_SIZE
from wagi.guest.capi.store_config import Canonical

CallArguments = tuple["int | None", int, "int | None", int]
"""Addresses and numbers of arguments and results, as parameters of a function of the C API."""
_MAX_ARGUMENTS = 2


class CallValues:
    """Values of a call (``wasmtime_val_t``). All are i32."""

    def __init__(self) -> None:
        self._block: ctypes.Array[ctypes.c_char] | None = None

    def prepare(self, canonical: Canonical) -> CallArguments:
        """Return the parameters for a call.

        Args:
            canonical: The arguments, and whether there is a result.
        """
        if not canonical.arguments and not canonical.has_result:
            return None, 0, None, 0
        self._block = ctypes.create_string_buffer((_MAX_ARGUMENTS + 1) * VALUE_SIZE)
        at = ctypes.addressof(self._block)
        result_at = at + _MAX_ARGUMENTS * VALUE_SIZE
        for index, value in enumerate(canonical.arguments):
            c_uint32.from_address(at + index * VALUE_SIZE + VALUE_AT).value = value
        return at, len(canonical.arguments), result_at, int(canonical.has_result)

    @property
    def result(self) -> int:
        """The result; 0 for a function without one."""
        if self._block is None:
            return 0
        return c_uint32.from_buffer(self._block, _MAX_ARGUMENTS * VALUE_SIZE + VALUE_AT).value
