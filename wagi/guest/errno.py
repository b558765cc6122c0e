"""What a host call tells a guest that asked for something it cannot have (WASI preview 1)."""

from __future__ import annotations

EBADF = 8
EFAULT = 21
EINVAL = 28
EMFILE = 33
ENOTSUP = 58


class GuestFault(Exception):
    """What a guest asked for cannot be: the host call returns ``errno`` to it."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = errno


class NoMemoryFault(GuestFault):
    """The guest exports no memory."""

    def __init__(self) -> None:
        super().__init__(EFAULT)


class GuestTrap(Exception):
    """What a guest asked for is a trap: wasmtime's WASI answers bad pointers with it."""
