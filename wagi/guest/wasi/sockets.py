"""Host calls on sockets: a guest has none, so they only say so, as in wasmtime."""

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
    """Accept a connection."""
    flags(Fdflags, value)
    return _not_a_socket(wasi, fd)


def sock_recv(
    wasi: WasiContext, fd: int, iovecs: int, count: int, value: int, size: int, result: int
) -> int:
    """Receive a message."""
    return EINVAL if value & ~_RECEIVE_FLAGS else _not_a_socket(wasi, fd)


def sock_send(wasi: WasiContext, fd: int, iovecs: int, count: int, value: int, result: int) -> int:
    """Send a message. Its flags, of 16 bits, have no meaning."""
    return EINVAL if value > 0xFFFF else _not_a_socket(wasi, fd)


def sock_shutdown(wasi: WasiContext, fd: int, value: int) -> int:
    """Shut down a connection."""
    return EINVAL if value & ~_SHUTDOWN_FLAGS else _not_a_socket(wasi, fd)


def _not_a_socket(wasi: WasiContext, fd: int) -> int:
    wasi.descriptors.get(fd)
    return ENOTSOCK
