"""What the rules of a fleet can have the supervisor do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """Start to load a plan."""


@dataclass(frozen=True, slots=True)
class CancelLoad:
    """Stop loading."""


@dataclass(frozen=True, slots=True)
class ReportLoad:
    """Report the result of a load: its error, empty if it succeeded."""

    problem: str


@dataclass(frozen=True, slots=True)
class UseFallback:
    """Prepare the fallback; ``FallbackReady`` follows if that is possible."""


@dataclass(frozen=True, slots=True)
class StartAdmin:
    """Start the process of the admin listener, if there is one."""


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start a worker.

    Attributes:
        worker: Its number.
        listener: The index of its listening socket.
        generation: The plan that it serves.
    """

    worker: int
    listener: int
    generation: int


@dataclass(frozen=True, slots=True)
class Retire:
    """Make a worker drain and exit; its successor accepts the pending connections."""

    worker: int


@dataclass(frozen=True, slots=True)
class Terminate:
    """Make a worker accept the pending connections, drain and exit; sent twice, exit at once."""

    worker: int


@dataclass(frozen=True, slots=True)
class CloseListeners:
    """Close the listening sockets."""


@dataclass(frozen=True, slots=True)
class Announce:
    """Report that the service is ready."""


@dataclass(frozen=True, slots=True)
class Log:
    """Log a message at a level of ``logging``."""

    level: int
    message: str


Action = (
    Load
    | CancelLoad
    | ReportLoad
    | UseFallback
    | StartAdmin
    | StartWorker
    | Retire
    | Terminate
    | CloseListeners
    | Announce
    | Log
)
