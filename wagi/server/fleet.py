"""The rules of the supervisor, as a pure function: ``decide(fleet, event, now)``.

A fleet is a set of listeners and the worker processes that accept from them. ``decide`` takes the
state of the fleet and an event, and returns the new state and the actions to carry out. It performs
no I/O and reads no clock; ``supervisor.py`` waits for events and carries out actions.

Phases::

    STARTING ──all workers are ready──▶ SERVING ──a new plan is loaded──▶ ROLLING
        │                                  │  ◀──all workers are replaced────┤
        └──────────────────────────────────┴──── stop or failure ────────────┴──▶ STOPPING

==================  ====================  =====================  =====================  ============
event               STARTING              SERVING                ROLLING                STOPPING
==================  ====================  =====================  =====================  ============
LoadSucceeded       start all workers     start the first        go on with the newer   –
                                          successor → ROLLING    plan
LoadFailed          fail; with --watch    log; keep serving;     log; keep rolling;     –
                    log and wait          maybe retry later      maybe retry later
ReloadRequested     load; if a load is running, load again after it                     –
WorkerReady         retire its            retire its             retire its             –
                    predecessors; if all  predecessors           predecessors; start
                    are ready, announce                          the next successor, or
                    → SERVING                                    log → SERVING
WorkerExited        before it was ready:  restart it             restart it             all exited:
                    fail; after that:                                                   finished
                    restart it
StartPostponed      start it after START_RETRY_S                                        forget it
StopRequested       close listeners, cancel the load, terminate workers → STOPPING      terminate
                                                                                        them again
Tick                start the workers whose delay has passed; retry a failed reload     –
==================  ====================  =====================  =====================  ============

*fail* is StopRequested with an exit status or an error. A worker that was retired or terminated is
not restarted.

A *successor* is started beside the worker that it replaces, which retires once the successor is
ready: the listener always has a worker. In ROLLING one successor starts at a time.

Restarts back off. The first one is immediate. If workers of a listener keep dying within
HEALTHY_AFTER_S of their start, the delay is 0.5 s, 1 s, 2 s, … up to RESTART_DELAY_MAX_S.

With ``--reload-on-change``, a failed reload is retried after 1 s, 2 s, 4 s, … up to
RELOAD_RETRY_MAX_S: what it lacks may appear without a change of the files that are watched, such as
an image in a registry.
"""

from __future__ import annotations

import logging
import signal
from dataclasses import dataclass, replace
from enum import Enum, auto

from wagi.errors import WagiError
from wagi.observe.text import paragraph

HEALTHY_AFTER_S = 10.0
"""A worker that has lived this long was healthy: its death does not count towards the back-off."""
RESTART_DELAY_S = 0.25
"""Doubled with each death in a row; the first restart is immediate."""
RESTART_DELAY_MAX_S = 10.0
START_RETRY_S = 1.0
"""The delay of a start for which the shared memory had no room."""
RELOAD_RETRY_S = 1.0
"""The delay of the first retry of a reload; doubled with each failure in a row."""
RELOAD_RETRY_MAX_S = 60.0


# State


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
        phase: What the fleet as a whole is doing.
        listeners: One per worker that is to run; empty before the first plan.
        generation: The number of the current plan; None before the first one.
        is_loading: Whether a plan is being loaded.
        reload_pending: Whether a reload was requested during the current load.
        failed_reloads: How many reloads in a row have failed.
        reload_at: When a failed reload is to be retried; None if it is not.
        failure: Why the service ends: an error or an exit status; None if a signal stopped it.
        next_number: The number of the next worker.
    """

    waits_for_change: bool = False
    retries_reloads: bool = False
    phase: Phase = Phase.STARTING
    listeners: tuple[Listener, ...] = ()
    generation: int | None = None
    is_loading: bool = True
    reload_pending: bool = False
    failed_reloads: int = 0
    reload_at: float | None = None
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
    def condition(self) -> Condition:
        """What the fleet is doing, as service managers see it."""
        if self.phase is Phase.STOPPING:
            return Condition.STOPPING
        if self.phase is Phase.STARTING:
            return Condition.STARTING
        is_reloading = self.is_loading or self.phase is Phase.ROLLING
        return Condition.RELOADING if is_reloading else Condition.READY

    @property
    def next_due(self) -> float | None:
        """When the next worker is due to start, or a reload to be retried; None for neither."""
        if self.phase is Phase.STOPPING:
            return None
        times = (self.reload_at, *(listener.start_at for listener in self.listeners))
        return min((time for time in times if time is not None), default=None)

    @property
    def is_finished(self) -> bool:
        """Whether the supervisor can end."""
        return self.phase is Phase.STOPPING and not self.workers


# Events


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
class StartPostponed:
    """A worker could not be started: retired workers still occupy the shared memory."""

    worker: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = (
    LoadSucceeded
    | LoadFailed
    | ReloadRequested
    | StopRequested
    | WorkerReady
    | WorkerExited
    | StartPostponed
    | Tick
)


# Actions


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
    | StartWorker
    | Retire
    | Terminate
    | CloseListeners
    | Announce
    | Log
)
Decision = tuple[Fleet, list[Action]]


# Rules


def decide(fleet: Fleet, event: Event, now: float) -> Decision:
    """Apply the rule for an event.

    Args:
        fleet: The state before the event.
        event: What has happened.
        now: The time in seconds of a monotonic clock.

    Returns:
        The state after the event, and the actions to carry out in this order. The new state already
        includes the workers of ``StartWorker``.
    """
    if fleet.phase is Phase.STOPPING:
        return _decide_while_stopping(fleet, event)
    match event:
        case LoadSucceeded():
            return _load_succeeded(fleet, event, now)
        case LoadFailed(error):
            return _load_failed(fleet, error, now)
        case ReloadRequested():
            fleet, actions = _load(fleet)
            return fleet, [Log(logging.INFO, "reloading"), *actions]
        case StopRequested():
            return _stop(fleet)
        case WorkerReady(number):
            return _worker_ready(fleet, number, now)
        case WorkerExited():
            return _worker_exited(fleet, event, now)
        case StartPostponed(number):
            return _start_postponed(fleet, number, now)
        case Tick():
            return _tick(fleet, now)


def _decide_while_stopping(fleet: Fleet, event: Event) -> Decision:
    match event:
        case StopRequested():
            return _stop(fleet)
        case WorkerExited(number) | StartPostponed(number):
            return _without(fleet, number), []
        case _:
            return fleet, []


def _load(fleet: Fleet) -> Decision:
    """Load a plan, or load again when the current load has ended."""
    if fleet.is_loading:
        return replace(fleet, reload_pending=True), []
    return replace(fleet, is_loading=True, reload_at=None), [Load()]


def _load_succeeded(fleet: Fleet, event: LoadSucceeded, now: float) -> Decision:
    was_announced = fleet.phase is not Phase.STARTING
    actions: list[Action] = [ReportLoad("")]
    if was_announced:  # before that, the announcement includes them
        actions += [Log(logging.WARNING, paragraph(text)) for text in event.warnings]
    if fleet.failed_reloads:
        failures = _times(fleet.failed_reloads)
        actions.append(Log(logging.INFO, f"the reload succeeded after it had failed {failures}"))
    fleet = replace(
        fleet,
        failed_reloads=0,
        generation=event.generation,
        listeners=fleet.listeners or (Listener(),) * event.listeners,
        phase=Phase.ROLLING if was_announced else Phase.STARTING,
    )
    fleet, more = _advance(fleet, now)
    fleet, again = _load_ended(fleet)
    return fleet, [*actions, *more, *again]


def _load_failed(fleet: Fleet, error: WagiError, now: float) -> Decision:
    actions: list[Action] = [ReportLoad(str(error))]
    if fleet.generation is not None:
        fleet, message = _reload_failed(fleet, now)
    elif fleet.waits_for_change:
        message = "cannot start, waiting for a change"
    else:
        fleet, more = _fail(replace(fleet, is_loading=False), error)
        return fleet, [*actions, *more]
    fleet, again = _load_ended(fleet)
    return fleet, [*actions, Log(logging.ERROR, paragraph(f"{message}:\n{error}")), *again]


def _reload_failed(fleet: Fleet, now: float) -> tuple[Fleet, str]:
    """Count a failed reload, and plan the next one if it is to be retried."""
    failures = fleet.failed_reloads + 1
    retry = ""
    reload_at = None
    if fleet.retries_reloads:
        delay = _back_off(RELOAD_RETRY_S, failures - 1, RELOAD_RETRY_MAX_S)
        retry = f"; retrying in {delay:g} s"
        reload_at = now + delay
    counted = "" if failures == 1 else f" {_times(failures)} in a row"
    fleet = replace(fleet, failed_reloads=failures, reload_at=reload_at)
    return fleet, f"reload failed{counted}, the previous configuration stays in effect{retry}"


def _load_ended(fleet: Fleet) -> Decision:
    reload_pending = fleet.reload_pending
    fleet = replace(fleet, is_loading=False, reload_pending=False)
    return _load(fleet) if reload_pending else (fleet, [])


def _worker_ready(fleet: Fleet, number: int, now: float) -> Decision:
    index = _index_of(fleet, number)
    if index is None:
        return fleet, []
    workers = fleet.listeners[index].workers
    retired: list[Action] = [
        Retire(worker.number)
        for worker in workers
        if worker.number != number and not worker.is_leaving
    ]
    workers = tuple(
        replace(worker, is_ready=True)
        if worker.number == number
        else replace(worker, is_leaving=True)
        for worker in workers
    )
    fleet, actions = _advance(_with_listener(fleet, index, workers=workers), now)
    return fleet, [*retired, *actions]


def _worker_exited(fleet: Fleet, event: WorkerExited, now: float) -> Decision:
    index = _index_of(fleet, event.worker)
    if index is None:
        return fleet, []
    listener = fleet.listeners[index]
    worker = next(worker for worker in listener.workers if worker.number == event.worker)
    fleet = _without(fleet, event.worker)
    if worker.is_leaving:
        return fleet, []
    how = _describe_exit(event.status)
    if not worker.is_ready and fleet.phase is Phase.STARTING:
        return _fail(fleet, event.status if event.status > 0 else WagiError(f"a worker {how}"))
    deaths = 0 if now - worker.started > HEALTHY_AFTER_S else listener.deaths
    delay = _back_off(RESTART_DELAY_S, deaths, RESTART_DELAY_MAX_S) if deaths else 0.0
    fleet = _with_listener(fleet, index, deaths=deaths + 1, start_at=now + delay)
    message = (
        f"worker {event.pid} {how}"
        f"{', its requests failed' if worker.is_ready else ' before it was ready'}"
        f"; starting another{f' in {delay:g} s' if delay else ''}"
    )
    return fleet, [Log(logging.ERROR, message)]


def _start_postponed(fleet: Fleet, number: int, now: float) -> Decision:
    index = _index_of(fleet, number)
    assert index is not None
    fleet = _with_listener(_without(fleet, number), index, start_at=now + START_RETRY_S)
    message = "postponing a new worker until a retired one has answered its last requests"
    return fleet, [Log(logging.WARNING, message)]


def _tick(fleet: Fleet, now: float) -> Decision:
    fleet, actions = _start_due(fleet, now)
    if fleet.reload_at is not None and now >= fleet.reload_at:
        fleet, more = _load(fleet)
        actions += more
    return fleet, actions


def _start_due(fleet: Fleet, now: float) -> Decision:
    """Start the workers whose delay has passed, unless a successor has been started meanwhile."""
    actions: list[Action] = []
    for index, listener in enumerate(fleet.listeners):
        if listener.start_at is not None and now >= listener.start_at:
            fleet = _with_listener(fleet, index, start_at=None)
            if not _is_current(fleet, listener):
                fleet, action = _start(fleet, index, now)
                actions.append(action)
    return fleet, actions


def _advance(fleet: Fleet, now: float) -> Decision:
    """Start missing workers: all at first, in a reload one after the other. Complete the phase."""
    actions: list[Action] = []
    outdated = [i for i, item in enumerate(fleet.listeners) if not _is_current(fleet, item)]
    is_starting = any(not (item.is_ready or item.is_leaving) for item in fleet.workers)
    if fleet.phase is not Phase.STARTING:
        outdated = [] if is_starting else outdated[:1]
    for index in outdated:
        if fleet.listeners[index].start_at is None:
            fleet, action = _start(fleet, index, now)
            actions.append(action)
    if not outdated and not is_starting:
        if fleet.phase is Phase.STARTING:
            actions.append(Announce())
        elif fleet.phase is Phase.ROLLING:
            actions.append(Log(logging.INFO, "reloaded"))
        fleet = replace(fleet, phase=Phase.SERVING)
    return fleet, actions


def _start(fleet: Fleet, index: int, now: float) -> tuple[Fleet, Action]:
    generation, number = fleet.generation, fleet.next_number
    assert generation is not None
    worker = Worker(number, generation, started=now)
    fleet = _with_listener(fleet, index, workers=(*fleet.listeners[index].workers, worker))
    return replace(fleet, next_number=number + 1), StartWorker(number, index, generation)


def _stop(fleet: Fleet) -> Decision:
    """Terminate all workers; if that was done before, they exit at once."""
    # Listeners first: a connection must not wait in the accept queue of one without workers.
    actions: list[Action] = [CloseListeners()]
    if fleet.is_loading:
        actions.append(CancelLoad())
    actions += [Terminate(worker.number) for worker in fleet.workers]
    listeners = tuple(
        replace(item, workers=tuple(replace(worker, is_leaving=True) for worker in item.workers))
        for item in fleet.listeners
    )
    fleet = replace(fleet, phase=Phase.STOPPING, listeners=listeners)
    return replace(fleet, is_loading=False, reload_pending=False), actions


def _fail(fleet: Fleet, failure: WagiError | int) -> Decision:
    return _stop(replace(fleet, failure=failure))


# Values


def _index_of(fleet: Fleet, number: int) -> int | None:
    """The index of the listener of a worker; None if the worker has exited."""
    for index, listener in enumerate(fleet.listeners):
        if any(worker.number == number for worker in listener.workers):
            return index
    return None


def _is_current(fleet: Fleet, listener: Listener) -> bool:
    return fleet.generation is not None and listener.serves(fleet.generation)


def _with_listener(fleet: Fleet, index: int, **changes: object) -> Fleet:
    listeners = list(fleet.listeners)
    listeners[index] = replace(listeners[index], **changes)  # type: ignore[arg-type]
    return replace(fleet, listeners=tuple(listeners))


def _without(fleet: Fleet, number: int) -> Fleet:
    """The fleet without a worker."""
    index = _index_of(fleet, number)
    if index is None:
        return fleet
    kept = tuple(item for item in fleet.listeners[index].workers if item.number != number)
    return _with_listener(fleet, index, workers=kept)


def _back_off(first: float, failures: int, longest: float) -> float:
    """A delay in seconds that doubles with each failure in a row, from ``first`` for none."""
    return float(min(first * 2 ** min(failures, 32), longest))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _describe_exit(status: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"exited with status {status}"
