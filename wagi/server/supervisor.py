"""The process above the workers: starts them, replaces those that die, and rolls out reloads.

The rules in ``fleet/rules.py`` decide what happens when. This module waits for events (signals,
workers that become ready or exit, loaded plans, passed delays) and carries out the actions.

It keeps the listening sockets open until the end: while a worker is being replaced, connections
wait in the accept queue of its socket. It runs no guests and has no engine, so it can fork safely;
modules are compiled in a separate process that exits with its result.

SIGTERM and SIGINT stop the service, SIGHUP reloads it. Workers get SIGTERM to stop, and SIGUSR1 to
retire: they then leave pending connections to their successors.
"""

from __future__ import annotations

import logging
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from multiprocessing import connection
from pathlib import Path
from typing import Any

from wagi.errors import WagiError
from wagi.gateway.concurrency import ConcurrencyLimits
from wagi.gateway.route import Plan
from wagi.guest.budget import MemoryBudget
from wagi.server.admin import AdminProcess
from wagi.server.fleet import actions, events
from wagi.server.fleet.actions import Action
from wagi.server.fleet.events import Event
from wagi.server.fleet.rules import decide
from wagi.server.fleet.state import Condition, Fleet
from wagi.server.generations import Generation, Loader
from wagi.server.signals import HANDLED, RETIRE, Signals, has_terminal, reset_signals
from wagi.server.systemd import Notifier
from wagi.server.worker_processes import WorkerProcesses, WorkerSpec

_log = logging.getLogger("wagi")


class Supervisor:
    """Runs a service of several processes until a signal stops it.

    Args:
        load: Loads a plan; called in a separate process.
        listen: Opens a listening socket per worker; called with the first plan.
        find: Returns the file of a compiled module by its key.
        work: Runs a worker and returns its exit status; called in the worker's process.
        on_ready: Called when all workers are ready for the first time.
        budget: The memory of all guests.
        limits: The ``max_concurrency`` of all entries.
        notifier: Reports the state of the service to systemd.
        retries_reloads: Whether a failed reload is retried.
        shutdown_delay: Seconds from a request to stop to the drain.
        admin: The process of the admin listener, if there is one.
        fallback: Returns what is served if the first load fails and ``on_load`` is given.
        on_load: Called after each load with its error, or an empty string if it succeeded. With it,
            the service waits if the first load fails; without, it ends.
    """

    def __init__(
        self,
        load: Callable[[], Plan],
        listen: Callable[[Plan], Sequence[socket.socket]],
        find: Callable[[str], Path | None],
        work: Callable[[WorkerSpec], int],
        on_ready: Callable[[Plan, socket.socket], None],
        budget: MemoryBudget,
        limits: ConcurrencyLimits,
        notifier: Notifier,
        fallback: Callable[[], Plan],
        retries_reloads: bool = False,
        shutdown_delay: float = 0.0,
        admin: AdminProcess | None = None,
        on_load: Callable[[str], None] | None = None,
    ) -> None:
        self._load = load
        self._listen = listen
        self._find = find
        self._on_ready = on_ready
        self._fallback = fallback
        self._on_load = on_load
        self._notifier = notifier
        self._notified = Condition.STARTING
        self._admin = admin
        self._fleet = Fleet(on_load is not None, retries_reloads, shutdown_delay)
        # The objects behind the numbers in the fleet.
        metrics = None if admin is None else admin.state.metrics
        self._workers = WorkerProcesses(work, budget, limits, metrics)
        self._listeners: list[socket.socket] = []
        self._generations: dict[int, Generation] = {}
        self._generation_numbers = count(1)
        self._load_problem = ""
        self._loader: Loader | None = None
        # The sources of events.
        self._signals = Signals()
        self._had_terminal = has_terminal()

    def run(self) -> int:
        """Run the service, and close the listening sockets at its end.

        Returns:
            The exit status.

        Raises:
            WagiError: The service could not start.
        """
        self._signals.open()
        try:
            self._notifier.status("loading")
            self._perform(actions.StartAdmin())
            self._perform(actions.Load())
            while not self._fleet.is_finished:
                for event in self._wait():
                    self._handle(event)
                self._handle(events.Tick())
                self._notifier.ping()
        finally:
            self._close()
        failure = self._fleet.failure
        if isinstance(failure, WagiError):
            raise failure
        return failure or 0

    # Events

    def _wait(self) -> Iterator[Event]:
        """Wait until something happens or a start is due, and yield what has happened."""
        exits = self._workers.sentinels()
        sources: list[Any] = [self._signals.descriptor, self._workers.ready, *exits]
        if self._loader is not None:
            sources.append(self._loader.receiver)
        admin_sentinel = None if self._admin is None else self._admin.sentinel
        if admin_sentinel is not None:
            sources.append(admin_sentinel)
        found = connection.wait(sources, self._timeout())
        if self._workers.ready in found:  # first: a worker may die right after it was ready
            yield from map(events.WorkerReady, self._workers.read_ready())
        if self._signals.descriptor in found:
            yield from filter(None, map(self._signal_event, self._signals.read()))
        for sentinel, number in exits.items():
            if sentinel in found:
                yield self._worker_exited(number)
        if self._loader is not None and self._loader.receiver in found:
            yield self._load_result(self._loader)
        if self._admin is not None and admin_sentinel in found:
            yield events.AdminExited(self._admin.join())

    def _timeout(self) -> float | None:
        """Seconds until something is due; None for nothing."""
        due, interval = self._fleet.next_due, self._notifier.interval
        times = [] if due is None else [max(0.0, due - time.monotonic())]
        return min(times if interval is None else [*times, interval], default=None)

    def _signal_event(self, number: int) -> Event | None:
        lost_terminal = self._had_terminal and not has_terminal()
        if number == signal.SIGHUP and not lost_terminal:
            return events.ReloadRequested()
        return events.StopRequested() if number in HANDLED else None

    def _worker_exited(self, number: int) -> Event:
        item = self._workers.join(number)
        if self._admin is not None:
            worker = next(worker for worker in self._fleet.workers if worker.number == number)
            self._admin.state.record_exit(item.page, has_died=not worker.is_leaving)
        return events.WorkerExited(number, item.process.pid or 0, item.process.exitcode or 0)

    def _load_result(self, loader: Loader) -> Event:
        self._loader = None
        try:
            plan = loader.result()
            number = self._add_generation(plan)
        except WagiError as error:
            return events.LoadFailed(error)
        warnings = tuple(map(str, plan.warnings))
        return events.LoadSucceeded(number, len(self._listeners), warnings)

    def _add_generation(self, plan: Plan) -> int:
        """Open what a plan needs to be served.

        Returns:
            The number of the generation.

        Raises:
            WagiError: A compiled module cannot be read, or the address not be used.
        """
        generation = Generation(plan, self._find)
        try:
            self._listeners = self._listeners or list(self._listen(plan))
        except WagiError:
            generation.close()
            raise
        number = next(self._generation_numbers)
        self._generations[number] = generation
        return number

    def _handle(self, event: Event) -> None:
        """Carry out what the rules decide for an event, and for its consequences."""
        pending = [event]
        while pending:
            self._fleet, decided = decide(self._fleet, pending.pop(0), time.monotonic())
            pending += filter(None, [self._perform(action) for action in decided])
        self._notify()
        if self._admin is not None:
            self._admin.state.publish(self._fleet)
        for number in self._generations.keys() - self._fleet.generations:
            self._generations.pop(number).close()

    # Actions

    def _perform(self, action: Action) -> Event | None:
        """Carry out an action; return an event if that was not possible."""
        match action:
            case actions.Load():
                self._loader = Loader(self._load, self._enter_child)
            case actions.UseFallback():
                return self._use_fallback()
            case actions.CancelLoad():
                self._cancel_load()
            case actions.ReportLoad(problem):
                if self._admin is not None:
                    self._admin.state.record_load(problem)
                self._load_problem = problem
                if self._on_load is not None:
                    self._on_load(problem)
            case actions.StartAdmin():
                self._start_admin()
            case actions.StartWorker():
                return self._start_worker(action)
            case actions.Retire(number):
                self._workers.send(number, RETIRE)
            case actions.Terminate(number):
                self._workers.send(number, signal.SIGTERM)
            case actions.CloseListeners():
                self._close_listeners()
            case actions.Announce():
                self._on_ready(self._current.plan, self._listeners[0])
            case actions.Log(level, message):
                _log.log(level, "%s", message)
        return None

    def _notify(self) -> None:
        """Report a changed condition of the fleet to systemd and the admin listener."""
        condition = self._fleet.condition
        if condition is self._notified:
            return
        self._notified = condition
        match condition:
            case Condition.READY:
                status = f"serving {len(self._current.plan.routes)} routes"
                if failures := self._fleet.failed_reloads:
                    status += f", reload failed ({failures} in a row)"
                self._notifier.ready(status)
                if self._admin is not None:
                    self._admin.state.publish_plan(self._current.plan)
            case Condition.RELOADING:
                self._notifier.reloading()
            case Condition.STOPPING:
                self._notifier.stopping()

    @property
    def _current(self) -> Generation:
        assert self._fleet.generation is not None
        return self._generations[self._fleet.generation]

    def _use_fallback(self) -> Event | None:
        try:
            number = self._add_generation(self._fallback())
        except WagiError as error:
            if str(error) != self._load_problem:  # else it has been logged
                _log.error("%s", error)
            return None
        return events.FallbackReady(number, len(self._listeners))

    def _start_admin(self) -> None:
        def enter_child() -> None:
            self._enter_child()
            self._close_listeners()

        if self._admin is not None:
            self._admin.start(enter_child)

    def _start_worker(self, action: actions.StartWorker) -> Event | None:
        listener = self._listeners[action.listener]

        def enter_child() -> None:
            self._enter_child()
            for other in self._listeners:
                if other is not listener:
                    other.close()

        generation = self._generations[action.generation]
        if self._workers.start(action.worker, generation, listener, enter_child):
            return None
        return events.StartPostponed(action.worker)

    def _enter_child(self) -> None:
        """Detach a forked process from the supervisor's signals and pipes."""
        self._signals.close()
        self._workers.enter_child()
        reset_signals()

    def _cancel_load(self) -> None:
        if self._loader is not None:
            self._loader.cancel()
            self._loader = None

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()

    def _close(self) -> None:
        self._cancel_load()
        self._close_listeners()
        self._workers.close()
        if self._admin is not None:
            self._admin.close()
        for generation in self._generations.values():
            generation.close()
        self._signals.close()
