"""The state of a supervised service: immutable values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

from wagi.errors import WagiError


class Phase(Enum):
    """What the fleet as a whole is doing."""

    STARTING = auto()  # not all workers of the first plan are ready
    SERVING = auto()  # the service was announced; workers run the current generation
    ROLLING = auto()  # workers of older generations are being replaced
    STOPPING = auto()  # workers drain; none is started any more


class Condition(Enum):
    """What the fleet is doing, as service managers see it."""

    STARTING = auto()
    READY = auto()
    RELOADING = auto()
    STOPPING = auto()


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process.

    Attributes:
        number: Identifies the worker in events and actions.
        generation: The plan that it serves.
        started: When it was started, in seconds of the clock of ``now``.
        is_ready: Whether it accepts connections.
        is_leaving: Whether it was retired or terminated.
    """

    number: int
    generation: int
    started: float
    is_ready: bool = False
    is_leaving: bool = False


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket and the workers that accept from it.

    Attributes:
        workers: Usually one; during a reload also its successor, and predecessors that drain.
        deaths: How many workers in a row have died before they were healthy.
        start_at: When a worker is to be started; None if none is due.
    """

    workers: tuple[Worker, ...] = ()
    deaths: int = 0
    start_at: float | None = None

    def serves(self, generation: int) -> bool:
        """Whether a worker of a generation accepts from it or is starting."""
        return any(worker.generation == generation for worker in self.workers)


@dataclass(frozen=True, slots=True)
class Fleet:
    """The state of a supervised service. A new one is loading its first plan.

    Attributes:
        waits_for_change: Whether a failed first load is not fatal (``--watch``).
        retries_reloads: Whether a failed reload is retried (``--reload-on-change``).
        shutdown_delay: Seconds between the first request to stop and the drain; meanwhile the
            service is not ready, but accepts connections (``--shutdown-delay``).
        phase: What the fleet as a whole is doing.
        listeners: One per worker that is to run; empty before the first plan.
        generation: The number of the current plan; None before the first one.
        is_fallback: Whether the current plan is the fallback, which reports why no plan could be
            loaded (``--watch``). The phase stays STARTING.
        is_loading: Whether a plan is being loaded.
        reload_pending: Whether a reload was requested during the current load.
        failed_reloads: How many reloads in a row have failed.
        reload_at: When a failed reload is to be retried; None if it is not.
        stop_at: When the delayed stop is due; None if no stop was requested.
        admin_start_at: When the process of the admin listener is to be started again; None if it is
            running.
        failure: Why the service ends: an error or an exit status; None if a signal stopped it.
        next_number: The number of the next worker.
    """

    waits_for_change: bool = False
    retries_reloads: bool = False
    shutdown_delay: float = 0.0
    phase: Phase = Phase.STARTING
    listeners: tuple[Listener, ...] = ()
    generation: int | None = None
    is_fallback: bool = False
    is_loading: bool = True
    reload_pending: bool = False
    failed_reloads: int = 0
    reload_at: float | None = None
    stop_at: float | None = None
    admin_start_at: float | None = None
    failure: WagiError | int | None = None
    next_number: int = 1

    @property
    def workers(self) -> list[Worker]:
        """All workers that have not exited."""
        return [worker for listener in self.listeners for worker in listener.workers]

    @property
    def generations(self) -> set[int]:
        """The generations in use: the current one, and those of the workers."""
        current = set() if self.generation is None else {self.generation}
        return current | {worker.generation for worker in self.workers}

    @property
    def ready_workers(self) -> int:
        """How many listeners have a worker that accepts connections."""
        return sum(
            any(worker.is_ready for worker in listener.workers) for listener in self.listeners
        )

    @property
    def condition(self) -> Condition:
        """What the fleet is doing, as service managers see it."""
        if self.phase is Phase.STOPPING or self.stop_at is not None:
            return Condition.STOPPING
        if self.phase is Phase.STARTING:
            return Condition.STARTING
        is_reloading = self.is_loading or self.phase is Phase.ROLLING
        return Condition.RELOADING if is_reloading else Condition.READY

    @property
    def next_due(self) -> float | None:
        """When the next start, retry of a reload or delayed stop is due; None for none of them."""
        if self.phase is Phase.STOPPING:
            return self.admin_start_at
        starts = (listener.start_at for listener in self.listeners)
        times = (self.reload_at, self.stop_at, self.admin_start_at, *starts)
        return min((time for time in times if time is not None), default=None)

    @property
    def is_finished(self) -> bool:
        """Whether the supervisor can end."""
        return self.phase is Phase.STOPPING and not self.workers

    def listener_of(self, worker: int) -> int | None:
        """The index of the listener of a worker; None if the worker has exited."""
        for index, listener in enumerate(self.listeners):
            if any(item.number == worker for item in listener.workers):
                return index
        return None

    def is_current(self, listener: Listener) -> bool:
        """Whether a listener has a worker, or one that is starting, for the current plan."""
        return self.generation is not None and listener.serves(self.generation)

    def with_listener(self, index: int, **changes: object) -> Fleet:
        """Return a fleet in which attributes of a listener are changed."""
        listeners = list(self.listeners)
        listeners[index] = replace(listeners[index], **changes)  # type: ignore[arg-type]
        return replace(self, listeners=tuple(listeners))

    def without_worker(self, worker: int) -> Fleet:
        """Return a fleet without a worker; the same one if the worker has exited."""
        index = self.listener_of(worker)
        if index is None:
            return self
        kept = tuple(item for item in self.listeners[index].workers if item.number != worker)
        return self.with_listener(index, workers=kept)
