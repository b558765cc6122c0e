"""What can happen to a fleet."""

from __future__ import annotations

from dataclasses import dataclass

from wagi.errors import WagiError


@dataclass(frozen=True, slots=True)
class LoadSucceeded:
    """A plan was loaded.

    Attributes:
        generation: Its number.
        listeners: How many listening sockets there are.
        warnings: About the plan.
    """

    generation: int
    listeners: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """A plan could not be loaded, or its address not be used."""

    error: WagiError


@dataclass(frozen=True, slots=True)
class FallbackReady:
    """The fallback can be served.

    Attributes:
        generation: Its number.
        listeners: How many listening sockets there are.
    """

    generation: int
    listeners: int


@dataclass(frozen=True, slots=True)
class ReloadRequested:
    """SIGHUP has arrived."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """SIGTERM or SIGINT has arrived."""


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """A worker accepts connections."""

    worker: int


@dataclass(frozen=True, slots=True)
class WorkerExited:
    """A worker process has ended.

    Attributes:
        worker: Its number.
        pid: Its process ID, for the log.
        status: Its exit status; negative if a signal killed it.
    """

    worker: int
    pid: int
    status: int


@dataclass(frozen=True, slots=True)
class AdminExited:
    """The process of the admin listener has ended.

    Attributes:
        status: Its exit status; negative if a signal killed it.
    """

    status: int


@dataclass(frozen=True, slots=True)
class StartPostponed:
    """A worker could not be started: retired workers still occupy the shared memory."""

    worker: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = (
    LoadSucceeded
    | LoadFailed
    | FallbackReady
    | ReloadRequested
    | StopRequested
    | WorkerReady
    | WorkerExited
    | AdminExited
    | StartPostponed
    | Tick
)
