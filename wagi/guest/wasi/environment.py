"""Host calls for arguments, environment, random numbers, exit and signals."""

from __future__ import annotations

import os
from itertools import accumulate
from struct import pack

from wagi.guest.capi.linker import Linker, Waiting
from wagi.guest.errno import EINVAL, ENOTSUP, GuestExit
from wagi.guest.memory import GuestMemory
from wagi.guest.wasi.abi import PREVIEW1, SIGNALS
from wagi.guest.wasi.context import WasiContext

_RANDOM_CHUNK_SIZE = 64 * 1024  # bytes; takes a quarter of a millisecond


def define(linker: Linker, module: str = PREVIEW1) -> None:
    """Add the functions to a linker."""
    linker.define(module, "args_get", "II", args_get)
    linker.define(module, "args_sizes_get", "II", args_sizes_get)
    linker.define(module, "environ_get", "II", environ_get)
    linker.define(module, "environ_sizes_get", "II", environ_sizes_get)
    linker.define(module, "proc_exit", "I", proc_exit, results="")
    linker.define(module, "proc_raise", "I", proc_raise)
    linker.define_async(module, "random_get", "II", random_get)


def args_sizes_get(wasi: WasiContext, count: int, size: int) -> int:
    """Write the number of arguments and the size of their block, in bytes."""
    return _sizes(wasi.memory, wasi.argv, count, size)


def args_get(wasi: WasiContext, pointers: int, block: int) -> int:
    """Write the arguments and an array of pointers to them."""
    return _strings(wasi.memory, wasi.argv, pointers, block)


def environ_sizes_get(wasi: WasiContext, count: int, size: int) -> int:
    """Write the number of variables and the size of their block, in bytes."""
    return _sizes(wasi.memory, wasi.environment, count, size)


def environ_get(wasi: WasiContext, pointers: int, block: int) -> int:
    """Write the variables and an array of pointers to them."""
    return _strings(wasi.memory, wasi.environment, pointers, block)


def _sizes(memory: GuestMemory, strings: bytes, count: int, size: int) -> int:
    memory.write_u32(size, len(strings))
    memory.write_u32(count, strings.count(0))
    return 0


def _strings(memory: GuestMemory, strings: bytes, pointers: int, block: int) -> int:
    if not strings:
        return 0
    memory.write(block, strings)
    lengths = (len(text) + 1 for text in strings.split(b"\0")[:-1])
    starts = list(accumulate(lengths, initial=block))[:-1]
    memory.write(pointers, pack(f"<{len(starts)}I", *starts))
    return 0


def proc_exit(wasi: WasiContext, status: int) -> int:
    """End the guest. Every status is an exit; wasmtime traps those above 125."""
    raise GuestExit(status - (1 << 32) if status >= 1 << 31 else status)


def proc_raise(wasi: WasiContext, signal: int) -> int:
    """Not supported, as in wasmtime."""
    return ENOTSUP if signal < SIGNALS else EINVAL


def random_get(wasi: WasiContext, buffer: int, length: int) -> Waiting:
    """Fill a buffer with random bytes, in chunks: a guest may request gigabytes."""
    wasi.memory.require(buffer, length)
    end = buffer + length
    while buffer < end:
        chunk = os.urandom(min(end - buffer, _RANDOM_CHUNK_SIZE))
        wasi.memory.write(buffer, chunk)
        buffer += len(chunk)
        if wasi.slice_is_over:
            yield
    return 0
