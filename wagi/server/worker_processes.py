"""The worker processes of a supervisor, and what each of them occupies of the shared memory."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from pathlib import Path

from wagi.gateway.concurrency import ConcurrencyLimits, WorkerLimits
from wagi.gateway.route import Plan
from wagi.guest.budget import MemoryAccount, MemoryBudget
from wagi.observe.metrics.memory import MetricsMemory
from wagi.server.generations import Generation
from wagi.server.signals import signals_blocked

_fork = multiprocessing.get_context("fork")


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What a worker needs to run.

    Attributes:
        plan: What it serves.
        artefacts: The compiled modules by their keys.
        account: Its part of the memory budget.
        limits: Its part of the limits of entries.
        page: The number of its page of metrics; None without metrics.
        listener: Its listening socket.
        lifeline: A pipe that reaches its end when the supervisor dies.
        on_ready: To be called when the worker accepts connections.
    """

    plan: Plan
    artefacts: dict[str, Path]
    account: MemoryAccount
    limits: WorkerLimits
    page: int | None
    listener: socket.socket
    lifeline: int
    on_ready: Callable[[], None]


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A worker process.

    Attributes:
        process: The process.
        account: Its part of the memory budget.
        limits: Its part of the limits of entries.
        page: The number of its page of metrics; None without metrics.
    """

    process: ForkProcess
    account: MemoryAccount
    limits: WorkerLimits
    page: int | None


class WorkerProcesses:
    """Starts workers, and frees their shared memory when they have ended.

    Args:
        work: Runs a worker and returns its exit status; called in the worker's process.
        budget: The memory of all guests.
        limits: The ``max_concurrency`` of all entries.
        metrics: The counters of all processes; None without an admin listener.

    Attributes:
        ready: A pipe that becomes readable when a worker accepts connections.
    """

    def __init__(
        self,
        work: Callable[[WorkerSpec], int],
        budget: MemoryBudget,
        limits: ConcurrencyLimits,
        metrics: MetricsMemory | None,
    ) -> None:
        self._work = work
        self._budget = budget
        self._limits = limits
        self._metrics = metrics
        self._running: dict[int, WorkerProcess] = {}
        self._lifeline, self._lifeline_end = os.pipe()
        self.ready, self._ready_end = os.pipe()

    def start(
        self,
        number: int,
        generation: Generation,
        listener: socket.socket,
        enter_child: Callable[[], None],
    ) -> bool:
        """Start a worker.

        Args:
            number: Identifies the worker.
            generation: What it serves.
            listener: Its listening socket.
            enter_child: Detaches the process from the supervisor.

        Returns:
            False if too many workers are running, as after many reloads in a short time.
        """
        self._limits.prepare(generation.plan.limited_entries)
        limits = self._limits.open_worker()
        account = self._budget.open_account() if limits is not None else None
        if account is None or limits is None:
            if limits is not None:
                self._limits.close_worker(limits)
            return False
        page = self._metrics.open_page() if self._metrics is not None else None

        def on_ready() -> None:
            os.write(self._ready_end, b"%d\n" % number)

        spec = WorkerSpec(
            generation.plan,
            generation.artefacts,
            account,
            limits,
            page,
            listener,
            self._lifeline,
            on_ready,
        )

        def run() -> None:
            enter_child()
            os._exit(self._work(spec))

        process = _fork.Process(target=run, name="wagi worker")
        with signals_blocked():
            process.start()
        self._running[number] = WorkerProcess(process, account, limits, page)
        return True

    def enter_child(self) -> None:
        """Close, in a forked process, the end of the lifeline that only the supervisor holds."""
        os.close(self._lifeline_end)

    def sentinels(self) -> dict[int, int]:
        """Return the number of each worker by a descriptor that becomes readable at its end."""
        return {item.process.sentinel: number for number, item in self._running.items()}

    def read_ready(self) -> list[int]:
        """Return the numbers of the workers that have become ready."""
        return [int(number) for number in os.read(self.ready, 65536).split()]

    def join(self, number: int) -> WorkerProcess:
        """Wait for the end of a worker, and free its shared memory except its page of metrics."""
        item = self._running.pop(number)
        item.process.join()
        self._budget.close_account(item.account)
        self._limits.close_worker(item.limits)
        return item

    def send(self, number: int, signal_number: signal.Signals) -> None:
        """Send a signal to a worker."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._running[number].process.pid or 0, signal_number)

    def close(self) -> None:
        """Kill workers that are still running, as after an internal error, and free everything."""
        for item in self._running.values():
            item.process.kill()
            item.process.join()
        self._limits.close()
        for descriptor in (self._lifeline, self._lifeline_end, self.ready, self._ready_end):
            os.close(descriptor)
