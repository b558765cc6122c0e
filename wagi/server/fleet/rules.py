"""The rules of the supervisor: each event changes the state and leads to actions."""

from __future__ import annotations

import logging
import signal
from dataclasses import replace

from wagi.errors import WagiError
from wagi.observe.text import paragraph
from wagi.server.fleet.actions import (
    Action,
    Announce,
    CancelLoad,
    CloseListeners,
    Load,
    Log,
    ReportLoad,
    Retire,
    StartAdmin,
    StartWorker,
    Terminate,
    UseFallback,
)
from wagi.server.fleet.events import (
    AdminExited,
    Event,
    FallbackReady,
    LoadFailed,
    LoadSucceeded,
    ReloadRequested,
    StartPostponed,
    StopRequested,
    Tick,
    WorkerExited,
    WorkerReady,
)
from wagi.server.fleet.state import Fleet, Listener, Phase, Worker

HEALTHY_AFTER_S = 10.0
"""A worker that has lived this long was healthy: its death does not count towards the back-off."""
RESTART_DELAY_S = 0.25
"""Doubled with each death in a row; the first restart is immediate."""
RESTART_DELAY_MAX_S = 10.0
ADMIN_RESTART_DELAY_S = 1.0
"""The delay before the process of the admin listener is started again."""
START_RETRY_S = 1.0
"""The delay of a start for which the shared memory had no room."""
RELOAD_RETRY_S = 1.0
"""The delay of the first retry of a reload; doubled with each failure in a row."""
RELOAD_RETRY_MAX_S = 60.0

Decision = tuple[Fleet, list[Action]]


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
    if isinstance(event, AdminExited):
        return _admin_exited(fleet, event, now)
    if fleet.phase is Phase.STOPPING:
        return _decide_while_stopping(fleet, event, now)
    match event:
        case LoadSucceeded():
            return _load_succeeded(fleet, event, now)
        case LoadFailed(error):
            return _load_failed(fleet, error, now)
        case ReloadRequested() if fleet.stop_at is not None:
            return fleet, []
        case FallbackReady():
            return _fallback_ready(fleet, event, now)
        case ReloadRequested():
            fleet, actions = _load(fleet)
            return fleet, [Log(logging.INFO, "reloading"), *actions]
        case StopRequested():
            return _request_stop(fleet, now)
        case WorkerReady(number):
            return _worker_ready(fleet, number, now)
        case WorkerExited():
            return _worker_exited(fleet, event, now)
        case StartPostponed(number):
            return _start_postponed(fleet, number, now)
        case Tick():
            return _tick(fleet, now)


def _decide_while_stopping(fleet: Fleet, event: Event, now: float) -> Decision:
    match event:
        case StopRequested():
            return _stop(fleet)
        case WorkerExited(number) | StartPostponed(number):
            return fleet.without_worker(number), []
        case Tick():
            return _start_admin_when_due(fleet, now)
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
        is_fallback=False,
        listeners=fleet.listeners or (Listener(),) * event.listeners,
        phase=Phase.ROLLING if was_announced else Phase.STARTING,
    )
    fleet, more = _advance(fleet, now)
    fleet, again = _load_ended(fleet)
    return fleet, [*actions, *more, *again]


def _load_failed(fleet: Fleet, error: WagiError, now: float) -> Decision:
    actions: list[Action] = [ReportLoad(error.explain())]
    fallback: list[Action] = []
    if fleet.generation is not None and not fleet.is_fallback:
        fleet, message = _reload_failed(fleet, now)
    elif fleet.waits_for_change:
        message = "cannot start, waiting for a change"
        fallback = [] if fleet.is_fallback else [UseFallback()]
    else:
        fleet, more = _fail(replace(fleet, is_loading=False), error)
        return fleet, [*actions, *more]
    fleet, again = _load_ended(fleet)
    actions.append(Log(logging.ERROR, paragraph(f"{message}:\n{error.explain()}")))
    return fleet, [*actions, *fallback, *again]


def _fallback_ready(fleet: Fleet, event: FallbackReady, now: float) -> Decision:
    fleet = replace(
        fleet,
        generation=event.generation,
        is_fallback=True,
        listeners=(Listener(),) * event.listeners,
    )
    return _advance(fleet, now)


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
    index = fleet.listener_of(number)
    if index is None:
        return fleet, []
    workers = fleet.listeners[index].workers
    retired: list[Action] = [
        Retire(worker.number)
        for worker in workers
        if worker.number < number and not worker.is_leaving
    ]
    workers = tuple(
        replace(
            worker,
            is_ready=worker.is_ready or worker.number == number,
            is_leaving=worker.is_leaving or worker.number < number,
        )
        for worker in workers
    )
    fleet, actions = _advance(fleet.with_listener(index, workers=workers), now)
    return fleet, [*retired, *actions]


def _worker_exited(fleet: Fleet, event: WorkerExited, now: float) -> Decision:
    index = fleet.listener_of(event.worker)
    if index is None:
        return fleet, []
    listener = fleet.listeners[index]
    worker = next(worker for worker in listener.workers if worker.number == event.worker)
    fleet = fleet.without_worker(event.worker)
    if worker.is_leaving:
        return fleet, []
    how = _describe_exit(event.status)
    if not worker.is_ready and fleet.phase is Phase.STARTING:
        return _fail(fleet, event.status if event.status > 0 else WagiError(f"a worker {how}"))
    deaths = 0 if now - worker.started > HEALTHY_AFTER_S else listener.deaths
    delay = _back_off(RESTART_DELAY_S, deaths, RESTART_DELAY_MAX_S) if deaths else 0.0
    fleet = fleet.with_listener(index, deaths=deaths + 1, start_at=now + delay)
    message = (
        f"worker {event.pid} {how}"
        f"{', its requests failed' if worker.is_ready else ' before it was ready'}"
        f"; starting another{f' in {delay:g} s' if delay else ''}"
    )
    return fleet, [Log(logging.ERROR, message)]


def _admin_exited(fleet: Fleet, event: AdminExited, now: float) -> Decision:
    how = _describe_exit(event.status)
    message = (
        f"the process of --admin-listen {how}; starting another in {ADMIN_RESTART_DELAY_S:g} s"
    )
    fleet = replace(fleet, admin_start_at=now + ADMIN_RESTART_DELAY_S)
    return fleet, [Log(logging.ERROR, message)]


def _start_admin_when_due(fleet: Fleet, now: float) -> Decision:
    if fleet.admin_start_at is None or now < fleet.admin_start_at:
        return fleet, []
    return replace(fleet, admin_start_at=None), [StartAdmin()]


def _start_postponed(fleet: Fleet, number: int, now: float) -> Decision:
    index = fleet.listener_of(number)
    assert index is not None
    fleet = fleet.without_worker(number).with_listener(index, start_at=now + START_RETRY_S)
    message = "postponing a new worker until a retired one has answered its last requests"
    return fleet, [Log(logging.WARNING, message)]


def _tick(fleet: Fleet, now: float) -> Decision:
    if fleet.stop_at is not None and now >= fleet.stop_at:
        return _stop(fleet)
    fleet, actions = _start_admin_when_due(fleet, now)
    fleet, more = _start_due(fleet, now)
    actions += more
    if fleet.reload_at is not None and now >= fleet.reload_at:
        fleet, more = _load(fleet)
        actions += more
    return fleet, actions


def _start_due(fleet: Fleet, now: float) -> Decision:
    """Start the workers whose delay has passed, unless a successor has been started meanwhile."""
    actions: list[Action] = []
    for index, listener in enumerate(fleet.listeners):
        if listener.start_at is not None and now >= listener.start_at:
            fleet = fleet.with_listener(index, start_at=None)
            if not fleet.is_current(listener):
                fleet, action = _start(fleet, index, now)
                actions.append(action)
    return fleet, actions


def _advance(fleet: Fleet, now: float) -> Decision:
    """Start missing workers: all at first, in a reload one after the other. Complete the phase."""
    actions: list[Action] = []
    outdated = [i for i, item in enumerate(fleet.listeners) if not fleet.is_current(item)]
    is_starting = any(not (item.is_ready or item.is_leaving) for item in fleet.workers)
    if fleet.phase is not Phase.STARTING:
        outdated = [] if is_starting else outdated[:1]
    for index in outdated:
        if fleet.listeners[index].start_at is None:
            fleet, action = _start(fleet, index, now)
            actions.append(action)
    if not outdated and not is_starting and not fleet.is_fallback:
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
    fleet = fleet.with_listener(index, workers=(*fleet.listeners[index].workers, worker))
    return replace(fleet, next_number=number + 1), StartWorker(number, index, generation)


def _request_stop(fleet: Fleet, now: float) -> Decision:
    """Stop after the delay, if there is one; a second request, or one during the start, at once."""
    if not fleet.shutdown_delay or fleet.stop_at is not None or fleet.phase is Phase.STARTING:
        return _stop(fleet)
    message = f"shutting down in {fleet.shutdown_delay:g} s"
    stop_at = now + fleet.shutdown_delay
    return replace(fleet, stop_at=stop_at, reload_at=None), [Log(logging.INFO, message)]


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


def _back_off(first: float, failures: int, longest: float) -> float:
    """A delay in seconds that doubles with each failure in a row, from ``first`` for none."""
    return float(min(first * 2 ** min(failures, 32), longest))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _describe_exit(status: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"exited with status {status}"
