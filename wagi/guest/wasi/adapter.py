"""Functions that wit-component's adapter for preview 1 adds to WASI for the C library.

The adapter has state, which a C library resets, and descriptors for the use of the library. The
gateway implements preview 1 without an adapter.

https://github.com/bytecodealliance/wasmtime/tree/main/crates/wasi-preview1-component-adapter
"""

from __future__ import annotations

from wagi.guest.capi.linker import Linker
from wagi.guest.errno import ENOTSUP
from wagi.guest.wasi.abi import PREVIEW1
from wagi.guest.wasi.context import WasiContext


def define(linker: Linker) -> None:
    """Add the functions to a linker."""
    linker.define(PREVIEW1, "adapter_close_badfd", "I", _not_supported)
    linker.define(PREVIEW1, "adapter_open_badfd", "I", _not_supported)
    linker.define(PREVIEW1, "reset_adapter_state", "", _reset, results="")


def _not_supported(wasi: WasiContext, fd: int) -> int:
    return ENOTSUP


def _reset(wasi: WasiContext) -> None:
    """Do nothing: there is no such state."""
