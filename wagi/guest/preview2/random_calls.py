"""``wasi:random``. Its insecure functions return secure numbers, too."""

from __future__ import annotations

import os
from struct import pack

from wagi.guest.capi.component_linker import ComponentWaiting, define_call, define_waiting_call
from wagi.guest.capi.linker import Linker
from wagi.guest.errno import GuestTrap
from wagi.guest.preview2.context import ComponentContext
from wagi.guest.preview2.results import write_bytes

RANDOM, INSECURE, SEED = "wasi:random/random", "wasi:random/insecure", "wasi:random/insecure-seed"
_CHUNK_SIZE = 64 * 1024  # bytes; takes a quarter of a millisecond
_ADDRESSES = 1 << 32


def define(linker: Linker) -> None:
    """Add the functions to a linker."""
    for interface, name, parameters, results, call in (
        (RANDOM, "get-random-u64", "", "Q", random_u64),
        (INSECURE, "get-insecure-random-u64", "", "Q", random_u64),
        (SEED, "insecure-seed", "I", "", seed),
    ):
        define_call(linker, interface, name, parameters, results, call)
    for interface, name in (
        (RANDOM, "get-random-bytes"),
        (INSECURE, "get-insecure-random-bytes"),
    ):
        define_waiting_call(linker, interface, name, "QI", "", random_bytes)


def random_bytes(guest: ComponentContext, length: int, out: int) -> ComponentWaiting | None:
    """Write random bytes."""
    if length > _CHUNK_SIZE:
        return _many_random_bytes(guest, length, out)
    write_bytes(guest, out, os.urandom(length))
    return None


def _many_random_bytes(guest: ComponentContext, length: int, out: int) -> ComponentWaiting:
    """Write random bytes in chunks: a guest may request as many as its memory can hold."""
    if length >= _ADDRESSES:
        raise GuestTrap(f"it requested {length} random bytes, more than its memory can hold")
    buffer = guest.allocate(length, 1)
    for at in range(buffer, buffer + length, _CHUNK_SIZE):
        guest.memory.write(at, os.urandom(min(buffer + length - at, _CHUNK_SIZE)))
        if guest.slice_is_over:
            yield
    guest.memory.write(out, pack("<II", buffer, length))
    return None


def random_u64(guest: ComponentContext) -> int:
    """Return a random number."""
    return int.from_bytes(os.urandom(8), "little")


def seed(guest: ComponentContext, out: int) -> None:
    """Write two random numbers of 8 bytes, for hash tables."""
    guest.memory.write(out, os.urandom(16))
