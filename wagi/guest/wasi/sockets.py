"""Host calls on sockets. Guests have no sockets, so all calls fail, as in wasmtime."""

from __future__ import annotations

from wagi.guest.capi.linker import Linker
from wagi.guest.errno import EINVAL, ENOTSOCK
from wagi.guest.wasi.abi import PREVIEW1, Fdflags, flags
from wagi.guest.wasi.context import WasiContext

_RECEIVE_FLAGS, _SHUTDOWN_FLAGS = 3, 3  # the known bits of ``riflags`` and ``sdflags``


def define(linker: Linker, module: str = PREVIEW1) -> None:
    """Add the functions to a linker."""
    linker.define(module, "sock_accept", "III", sock_accept)
    linker.define(module, "sock_recv", "IIIIII", sock_recv)
    linker.define(module, "sock_send", "IIIII", sock_send)
    linker.define(module, "sock_shutdown", "II", sock_shutdown)


def sock_accept(wasi: WasiContext, fd: int, value: int, result: int) -> int:
    """Fail with ENOTSOCK, or EINVAL for unknown flags."""
    flags(Fdflags, value)
    return _not_a_socket(wasi, fd)


def sock_recv(
    wasi: WasiContext, fd: int, iovecs: int, count: int, value: int, size: int, result: int
) -> int:
    """Fail with ENOTSOCK, or EINVAL for unknown flags."""
    return EINVAL if value & ~_RECEIVE_FLAGS else _not_a_socket(wasi, fd)


def sock_send(wasi: WasiContext, fd: int, iovecs: int, count: int, value: int, result: int) -> int:
    """Fail with ENOTSOCK, or EINVAL for flags beyond 16 bits; no flags are defined."""
    return EINVAL if value > 0xFFFF else _not_a_socket(wasi, fd)


def sock_shutdown(wasi: WasiContext, fd: int, value: int) -> int:
    """Fail with ENOTSOCK, or EINVAL for unknown flags."""
    return EINVAL if value & ~_SHUTDOWN_FLAGS else _not_a_socket(wasi, fd)


def _not_a_socket(wasi: WasiContext, fd: int) -> int:
    wasi.descriptors.get(fd)
    return ENOTSOCK
