"""The process above the workers: starts them, replaces those that die, rolls a reload through.

It holds the listening sockets open until the end: a connection that arrives while a worker is
replaced waits in the queue of its socket. It runs no guest and has no engine, so that it can fork;
what has to be compiled is compiled by a process of its own, which ends with its result.

SIGTERM and SIGINT end the service, SIGHUP reloads it. A worker is told to end by SIGTERM, and to
retire, leaving what waits at the socket to its successor, by SIGUSR1.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

from wagi.errors import WagiError
from wagi.gateway.concurrency import ConcurrencyLimits, WorkerLimits
from wagi.gateway.route import Plan
from wagi.guest.budget import MemoryAccount, MemoryBudget
from wagi.observe.text import paragraph
from wagi.server.signals import HANDLED, RETIRE, Signals, has_terminal, signals_blocked

_HEALTHY = 10.0  # seconds after which a worker that dies had been all right
_FIRST_DELAY, _LONGEST_DELAY = 0.25, 10.0  # seconds before a worker is started again
_ACCOUNT_RETRY_S = 1.0  # seconds between two looks for an account of the memory budget
_log = logging.getLogger("wagi")
_fork = multiprocessing.get_context("fork")


@dataclass(frozen=True, slots=True)
class Post:
    """What a worker is given.

    Attributes:
        plan: What it serves.
        artefacts: The compiled modules by their keys.
        account: Its part of the memory budget.
        limits: Its part of the limits of entries.
        listening: Its socket.
        lifeline: A descriptor that ends when the supervisor does.
        ready: To be called when it accepts connections.
    """

    plan: Plan
    artefacts: dict[str, Path]
    account: MemoryAccount
    limits: WorkerLimits
    listening: socket.socket
    lifeline: int
    ready: Callable[[], None]


Load = Callable[[], Plan]
Work = Callable[[Post], int]


class _Generation:
    """A plan with its compiled modules held open: whatever becomes of the files, they stay."""

    def __init__(self, plan: Plan, find: Callable[[str], Path | None]) -> None:
        self.plan = plan
        self._files: dict[str, int] = {}
        try:
            for spec in (route.spec for route in plan.routes):
                for key in spec.artefacts:
                    if key not in self._files:
                        path = find(key)
                        if path is None:
                            raise WagiError(f"the compiled module of {spec.name} is gone")
                        self._files[key] = os.open(path, os.O_RDONLY)
        except (OSError, WagiError) as error:
            self.close()
            if isinstance(error, WagiError):
                raise
            raise WagiError(f"a compiled module cannot be read: {error.strerror}") from None

    @property
    def artefacts(self) -> dict[str, Path]:
        """Paths that lead to the files in this process and in those forked off it."""
        return {key: Path(f"/dev/fd/{number}") for key, number in self._files.items()}

    def close(self) -> None:
        """Let the files go."""
        for number in self._files.values():
            os.close(number)
        self._files.clear()


@dataclass(slots=True, eq=False)
class _Worker:
    process: ForkProcess
    account: MemoryAccount
    limits: WorkerLimits
    generation: _Generation
    started: float
    ready: bool = False
    leaving: bool = False


@dataclass(slots=True)
class _Slot:
    """One listening socket and who accepts from it: a worker, during a reload its successor too."""

    listening: socket.socket
    workers: list[_Worker] = field(default_factory=list)
    deaths: int = 0  # of workers in a row that had not been all right
    start_at: float | None = None


class _Loading:
    """A process that loads, and the end of a pipe from which its result comes."""

    def __init__(self, load: Load, enter: Callable[[], None]) -> None:
        self.receiver, sender = _fork.Pipe(duplex=False)

        def run() -> None:
            enter()
            try:
                sender.send(load())
            except WagiError as error:
                sender.send(error)

        self.process = _fork.Process(target=run, name="wagi loader")
        with signals_blocked():
            self.process.start()
        sender.close()

    def result(self) -> Plan | WagiError:
        """What came of it, once the receiver has something."""
        try:
            result: Plan | WagiError = self.receiver.recv()
        except EOFError:
            result = WagiError("the loading process died")
        self.process.join()
        self.receiver.close()
        return result

    def cancel(self) -> None:
        """End it."""
        self.process.kill()
        self.process.join()
        self.receiver.close()


class Supervisor:
    """Runs a service of several processes until it is told to stop."""

    def __init__(
        self,
        load: Load,
        listen: Callable[[Plan], Sequence[socket.socket]],
        find: Callable[[str], Path | None],
        work: Work,
        announce: Callable[[Plan, socket.socket], None],
        budget: MemoryBudget,
        limits: ConcurrencyLimits,
        trouble: Callable[[str], None] | None = None,
    ) -> None:
        """Prepare a service.

        Args:
            load: Makes a plan, in a process of its own.
            listen: Opens a socket for each worker, once there is a plan.
            find: Leads from the key of a compiled module to its file.
            work: Is a worker's whole life, and returns its exit status.
            announce: Called when all workers are ready.
            budget: The memory of all guests.
            limits: The ``max_concurrency`` of all entries.
            trouble: Called with the reason why a plan cannot be loaded, and with an empty text when
                it can be again: the service waits for that. None: it ends.
        """
        self._slots: list[_Slot] = []
        self._load = load
        self._listen = listen
        self._find = find
        self._work = work
        self._announce = announce
        self._budget = budget
        self._limits = limits
        self._trouble = trouble
        self._generation: _Generation | None = None
        self._older: list[_Generation] = []
        self._loading: _Loading | None = None
        self._reload_again = False
        self._announced = False
        self._rolling = False
        self._stopping = False
        self._failure: WagiError | int | None = None
        self._signals = Signals()
        self._lifeline, self._lifeline_end = os.pipe()
        self._ready, self._ready_end = os.pipe()
        self._had_terminal = has_terminal()

    def run(self) -> int:
        """Load, start, watch, end. Returns: the exit status. Raises: WagiError if it never began.

        The listening sockets are closed.
        """
        self._signals.open()
        try:
            self._begin_loading()
            while not self._stopping or any(slot.workers for slot in self._slots):
                self._wait()
                self._start_due()
        finally:
            self._close()
        if isinstance(self._failure, WagiError):
            raise self._failure
        return self._failure or 0

    # What happens

    def _wait(self) -> None:
        """Wait for the next events, and deal with each."""
        sentinels = {
            worker.process.sentinel: (slot, worker)
            for slot in self._slots
            for worker in slot.workers
        }
        watched: list[Any] = [self._signals.descriptor, self._ready, *sentinels]
        if self._loading is not None:
            watched.append(self._loading.receiver)
        due = [slot.start_at for slot in self._slots if slot.start_at is not None]
        timeout = max(0.0, min(due) - time.monotonic()) if due and not self._stopping else None
        events = connection.wait(watched, timeout)
        if self._ready in events:  # before the sentinels: who is ready may die right after
            self._workers_ready(os.read(self._ready, 65536))
        for event in events:
            if event == self._signals.descriptor:
                for number in self._signals.read():
                    self._signalled(number)
            elif isinstance(event, int) and event in sentinels:
                self._worker_died(*sentinels[event])
            elif self._loading is not None and event is self._loading.receiver:
                self._loaded(self._loading.result())

    def _signalled(self, number: int) -> None:
        if number == signal.SIGHUP and not (self._had_terminal and not has_terminal()):
            _log.info("reloading")
            self._begin_loading()
        elif number in HANDLED:
            self._stop()

    def _loaded(self, result: Plan | WagiError) -> None:
        self._loading = None
        if self._stopping:
            return
        if not isinstance(result, WagiError):
            try:
                generation = _Generation(result, self._find)
                if not self._slots:
                    self._slots = [_Slot(listening) for listening in self._listen(result)]
            except WagiError as error:
                result = error
            else:
                if self._generation is not None:
                    self._older.append(self._generation)
                self._generation = generation
        if self._trouble is not None:
            self._trouble(str(result) if isinstance(result, WagiError) else "")
        if isinstance(result, WagiError):
            if self._generation is not None:
                why = paragraph(f"not reloaded, the old routes are served on:\n{result}")
                _log.error("%s", why)
            elif self._trouble is not None:
                _log.error("%s", paragraph(f"waiting for a change:\n{result}"))
            else:
                self._fail(result)
        else:
            for warning in result.warnings if self._announced else ():
                _log.warning("%s", paragraph(str(warning)))
            self._rolling = self._announced
            self._roll()
        if self._reload_again:
            self._reload_again = False
            self._begin_loading()

    def _workers_ready(self, lines: bytes) -> None:
        pids = set(map(int, lines.split()))
        for slot in self._slots:
            for worker in slot.workers:
                if worker.process.pid in pids:
                    worker.ready = True
                    for other in slot.workers:
                        if other is not worker:
                            self._send(other, RETIRE)
        self._roll()

    def _worker_died(self, slot: _Slot, worker: _Worker) -> None:
        worker.process.join()
        slot.workers.remove(worker)
        self._budget.close_account(worker.account)
        self._limits.close_worker(worker.limits)
        self._forget_unused()
        if self._stopping or worker.leaving:
            return
        status = worker.process.exitcode or 0
        if not worker.ready and not self._announced:
            self._fail(status if status > 0 else WagiError(f"a worker {_how(status)}"))
            return
        if time.monotonic() - worker.started > _HEALTHY:
            slot.deaths = 0
        delay = min(_FIRST_DELAY * 2**slot.deaths, _LONGEST_DELAY) if slot.deaths else 0.0
        slot.deaths += 1
        slot.start_at = time.monotonic() + delay
        _log.error(
            "worker %d %s%s; another one is started%s",
            worker.process.pid,
            _how(status),
            ": its requests have failed" if worker.ready else " before it was ready",
            f" in {delay:g} s" if delay else "",
        )

    # What is done about it

    def _begin_loading(self) -> None:
        if self._loading is None:
            self._loading = _Loading(self._load, self._enter)
        else:
            self._reload_again = True

    def _roll(self) -> None:
        """Start what is missing: at first all workers, in a reload the successors in turn."""
        if self._stopping or self._generation is None:
            return
        old = [slot for slot in self._slots if not self._is_current(slot)]
        if not old and all(worker.ready for slot in self._slots for worker in slot.workers):
            if not self._announced:
                self._announced = True
                self._announce(self._generation.plan, self._slots[0].listening)
            elif self._rolling:
                self._rolling = False
                _log.info("reloaded")
        starting = any(not w.ready for slot in self._slots for w in slot.workers)
        for slot in old if not self._announced else old[: 0 if starting else 1]:
            if slot.start_at is None:
                self._start(slot)

    def _is_current(self, slot: _Slot) -> bool:
        return any(worker.generation is self._generation for worker in slot.workers)

    def _start_due(self) -> None:
        for slot in self._slots:
            if slot.start_at is not None and time.monotonic() >= slot.start_at:
                slot.start_at = None
                if not self._stopping and not self._is_current(slot):
                    self._start(slot)

    def _start(self, slot: _Slot) -> None:
        generation = self._generation
        assert generation is not None
        self._limits.prepare(generation.plan.limited_entries)
        limits = self._limits.open_worker()
        account = self._budget.open_account() if limits is not None else None
        if account is None or limits is None:  # after many reloads in a short time
            if limits is not None:
                self._limits.close_worker(limits)
            _log.warning("a new worker waits until a retired one has answered its last requests")
            slot.start_at = time.monotonic() + _ACCOUNT_RETRY_S
            return

        def ready() -> None:
            os.write(self._ready_end, b"%d\n" % os.getpid())

        post = Post(
            generation.plan,
            generation.artefacts,
            account,
            limits,
            slot.listening,
            self._lifeline,
            ready,
        )

        def run() -> None:
            self._enter()
            for other in self._slots:
                if other.listening is not slot.listening:
                    other.listening.close()
            os._exit(self._work(post))

        process = _fork.Process(target=run, name="wagi worker")
        with signals_blocked():
            process.start()
        slot.workers.append(_Worker(process, account, limits, generation, time.monotonic()))

    def _enter(self) -> None:
        """The first thing in a forked process: leave what is the supervisor's alone."""
        self._signals.close()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # The terminal sends these to all of us; the supervisor decides.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.close(self._lifeline_end)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)

    def _stop(self) -> None:
        """Have everybody end; asked again, at once."""
        self._stopping = True
        # First, so that nobody's connection waits in a queue that no worker looks at.
        for slot in self._slots:
            slot.listening.close()
        if self._loading is not None:
            self._loading.cancel()
            self._loading = None
        for slot in self._slots:
            for worker in slot.workers:
                self._send(worker, signal.SIGTERM)

    def _fail(self, failure: WagiError | int) -> None:
        if self._failure is None:
            self._failure = failure
        self._stop()

    def _send(self, worker: _Worker, number: int) -> None:
        worker.leaving = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.process.pid or 0, number)

    def _forget_unused(self) -> None:
        used = [worker.generation for slot in self._slots for worker in slot.workers]
        for generation in [older for older in self._older if older not in used]:
            self._older.remove(generation)
            generation.close()

    def _close(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
        for slot in self._slots:
            slot.listening.close()
            for worker in slot.workers:  # only after an error of ours
                worker.process.kill()
                worker.process.join()
        for generation in (*self._older, *filter(None, [self._generation])):
            generation.close()
        self._limits.close()
        self._signals.close()
        for number in (self._lifeline, self._lifeline_end, self._ready, self._ready_end):
            os.close(number)


def _how(status: int) -> str:
    if status < 0:
        return f"died of {signal.Signals(-status).name}"
    return f"ended with status {status}"
