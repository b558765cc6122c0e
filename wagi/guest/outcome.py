"""The outcomes of a guest, and the errors of engines."""

from __future__ import annotations

from dataclasses import dataclass

from wagi.errors import WagiError


class EngineError(WagiError):
    """An engine failed, or wasmtime reported an error."""


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
    """The guest trapped.

    Attributes:
        message: The cause and the backtrace.
    """

    message: str


Outcome = Returned | Exit | Trap
