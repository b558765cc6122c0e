"""The outcomes of a guest, and the errors of engines."""

from __future__ import annotations

from dataclasses import dataclass

from wagi.errors import WagiError
from wagi.guest.backtrace import Frame, parse_trap


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
        cause: Why, in one line.
        frames: The functions that were running, the innermost first.
    """

    cause: str
    frames: tuple[Frame, ...] = ()

    @classmethod
    def parse(cls, message: str) -> Trap:
        """Read wasmtime's message for a trap."""
        return cls(*parse_trap(message))

    def __str__(self) -> str:
        return "\n".join((self.cause, *map(str, self.frames)))


Outcome = Returned | Exit | Trap


def outcome_name(outcome: Outcome | None) -> str:
    """Return how a guest ended, in one word.

    Args:
        outcome: The outcome; None if it was cancelled.

    Returns:
        ``completed``, ``exit`` (a status other than 0), ``trap`` or ``cancelled``.
    """
    match outcome:
        case Returned() | Exit(0):
            return "completed"
        case Exit():
            return "exit"
        case Trap():
            return "trap"
        case None:
            return "cancelled"
