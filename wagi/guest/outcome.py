"""How a call into a guest ends, and how an engine fails."""

from __future__ import annotations

from dataclasses import dataclass

from wagi.errors import WagiError


class EngineError(WagiError):
    """wasmtime refused something: the message is wasmtime's."""


@dataclass(frozen=True, slots=True)
class Returned:
    """The exported function returned."""


@dataclass(frozen=True, slots=True)
class Exit:
    """The guest called ``proc_exit``.

    Attributes:
        status: The status as the guest passed it, read as a signed 32-bit number.
    """

    status: int


@dataclass(frozen=True, slots=True)
class Trap:
    """The guest was ended by a trap; the message has the cause and the backtrace."""

    message: str


Outcome = Returned | Exit | Trap
