"""The state of a service in memory that the supervisor shares with the admin process."""

from __future__ import annotations

import json
import os
import struct
import tempfile
import time
from dataclasses import asdict, dataclass

from wagi.gateway.route import Plan
from wagi.observe.metrics.families import RELOAD_SUCCESSFUL, RELOAD_TIME, WORKER_DEATHS, WORKERS
from wagi.observe.metrics.memory import MetricsMemory
from wagi.server.fleet.state import Fleet

_HEADER = struct.Struct("=QQ")  # sequence number, length of the text in bytes
_READ_INTERVAL_S = 0.001  # between attempts to read while the text changes


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """What a service is doing.

    Attributes:
        condition: ``starting``, ``ready``, ``reloading`` or ``stopping``.
        workers: How many workers are to run.
        ready_workers: How many of them accept connections.
        problem: Why the last load of the route map failed; empty if it succeeded.
    """

    condition: str = "starting"
    workers: int = 0
    ready_workers: int = 0
    problem: str = ""


class StatusBoard:
    """The status and the configuration of a service, written by the supervisor alone."""

    def __init__(self) -> None:
        self._status = _SharedText()
        self._config = _SharedText()
        self._last = ServiceStatus()
        self._status.write(json.dumps(asdict(self._last)))
        self._config.write("{}")

    @property
    def status(self) -> ServiceStatus:
        """The current status."""
        return ServiceStatus(**json.loads(self._status.read()))

    @property
    def config(self) -> str:
        """The routes in force, as JSON."""
        return self._config.read()

    def publish_status(self, status: ServiceStatus) -> None:
        """Publish a status, if it has changed."""
        if status != self._last:
            self._last = status
            self._status.write(json.dumps(asdict(status)))

    def publish_plan(self, plan: Plan) -> None:
        """Publish the routes in force."""
        rows = [route.describe() for route in plan.routes]
        self._config.write(json.dumps({"routes": rows}, indent=2))


class AdminState:
    """What the supervisor publishes for the admin listener.

    Args:
        processes: Maximum number of workers at a time, including those being replaced.

    Attributes:
        metrics: The counters of all processes.
        board: The status and the configuration.
    """

    def __init__(self, processes: int) -> None:
        self.metrics = MetricsMemory(processes)
        self.board = StatusBoard()
        self._problem = ""
        self.metrics.own.add(WORKER_DEATHS, amount=0)

    def record_load(self, problem: str) -> None:
        """Record the end of a load.

        Args:
            problem: Why it failed; empty if it succeeded.
        """
        self._problem = problem
        self.metrics.own.set(RELOAD_SUCCESSFUL, not problem)
        if not problem:
            self.metrics.own.set(RELOAD_TIME, time.time())

    def record_exit(self, page: int | None, has_died: bool) -> None:
        """Record the end of a worker.

        Args:
            page: The number of its page of metrics.
            has_died: Whether it ended without having been stopped.
        """
        if page is not None:
            self.metrics.close_page(page)
        if has_died:
            self.metrics.own.add(WORKER_DEATHS)

    def publish(self, fleet: Fleet) -> None:
        """Publish the state of the workers."""
        self.metrics.own.set(WORKERS, fleet.ready_workers)
        condition = fleet.condition.name.lower()
        status = ServiceStatus(condition, len(fleet.listeners), fleet.ready_workers, self._problem)
        self.board.publish_status(status)

    def publish_plan(self, plan: Plan) -> None:
        """Publish the routes in force."""
        self.board.publish_plan(plan)


class _SharedText:
    """A text that one process writes and others read, by an inherited file in memory.

    The sequence number in its header is odd while the text is written; a reader tries again if it
    was odd or has changed.
    """

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self._file = os.memfd_create("wagi-status", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile() as file:
                self._file = os.dup(file.fileno())
        self._sequence = 0
        self.write("")

    def write(self, text: str) -> None:
        data = text.encode()
        os.pwrite(self._file, _HEADER.pack(self._sequence + 1, 0), 0)
        os.pwrite(self._file, data, _HEADER.size)
        self._sequence += 2
        os.pwrite(self._file, _HEADER.pack(self._sequence, len(data)), 0)

    def read(self) -> str:
        while True:
            before, length = _HEADER.unpack(os.pread(self._file, _HEADER.size, 0))
            data = os.pread(self._file, length, _HEADER.size)
            after, _ = _HEADER.unpack(os.pread(self._file, _HEADER.size, 0))
            if before == after and before % 2 == 0:
                return data.decode()
            time.sleep(_READ_INTERVAL_S)
