"""``--watch`` and ``--dev``: make snapshots in the background while the modules themselves serve.

A process waits for loads of the supervisor. After each, it starts a process that makes the
snapshots that are not in the cache; then it sends SIGHUP to the supervisor, which finds them there.
A further load ends a process that is still at work: a file may have changed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from wagi.config.settings import Settings
from wagi.errors import WagiError
from wagi.observe.server_log import server_log
from wagi.routemap.reader import read_route_map
from wagi.server.signals import HANDLED, reset_signals

_FILE = "snapshots.json"
_POLL_INTERVAL_S = 0.5  # how often the parent and the process at work are checked
_DELAY_S = 1.0  # before the work begins: changes of files often follow one another
_TERMINATION_S = 2.0  # for ending a tool; compiled code is not interrupted
_NICENESS = 10  # requests and builds are more urgent
_MADE = 3  # exit status
_BEING_MADE = "snapshot being made"
_fork = multiprocessing.get_context("fork")
_log = logging.getLogger("wagi")


class SnapshotStates:
    """What the background work on each snapshot has come to: a file that all processes read.

    Args:
        folder: A directory for the file.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE

    def read(self) -> dict[str, str]:
        """The texts to show, by the routes of entries."""
        try:
            states: dict[str, str] = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return states

    def write(self, states: Mapping[str, str]) -> None:
        """Replace all texts."""
        partial = self._path.with_suffix(".partial")
        with contextlib.suppress(OSError):
            partial.write_text(json.dumps(states), "utf-8")
            partial.replace(self._path)


class SnapshotTrigger:
    """Starts the background work. The supervisor has it."""

    def __init__(self, sender: Connection) -> None:
        self._sender = sender

    def start(self) -> None:
        """Make the snapshots that are missing."""
        with contextlib.suppress(OSError):  # the process has ended: serve without it
            self._sender.send_bytes(b"\n")


@contextlib.contextmanager
def making_snapshots(
    settings: Settings, file: Path, states: SnapshotStates
) -> Iterator[SnapshotTrigger]:
    """Make snapshots in the background while the block runs.

    Args:
        settings: The settings of the server.
        file: The route map.
        states: Where the states are stored.
    """
    receiver, sender = _fork.Pipe(duplex=False)
    with receiver, sender:
        loop = _Loop(settings, file, states, receiver, os.getpid())
        process = _fork.Process(target=loop.run, name="wagi snapshots")
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)  # until the supervisor handles them
        process.start()
        try:
            yield SnapshotTrigger(sender)
        finally:
            process.terminate()
            process.join()


class _Loop:
    """The process that waits for loads. It runs until its parent is gone."""

    def __init__(
        self,
        settings: Settings,
        file: Path,
        states: SnapshotStates,
        receiver: Connection,
        parent: int,
    ) -> None:
        self._settings = settings
        self._file = file
        self._states = states
        self._receiver = receiver
        self._parent = parent

    def run(self) -> None:
        """Start the work after each load, and send SIGHUP to the parent when it has a result."""
        reset_signals(on_terminate=lambda number, _: sys.exit(128 + number))
        worker: BaseProcess | None = None
        try:
            while os.getppid() == self._parent:
                if self._is_triggered():
                    _end(worker)
                    worker = _fork.Process(target=self._work, name="wagi snapshots")
                    worker.start()
                elif worker is not None and worker.exitcode is not None:
                    if worker.exitcode == _MADE:
                        os.kill(self._parent, signal.SIGHUP)
                    worker = None
        finally:
            _end(worker)

    def _is_triggered(self) -> bool:
        """Wait a moment for a load, and take all that have ended."""
        if not self._receiver.poll(_POLL_INTERVAL_S):
            return False
        while self._receiver.poll():
            self._receiver.recv_bytes()
        return True

    def _work(self) -> None:
        """Make the snapshots that are missing; exits with ``_MADE`` if one was made."""
        reset_signals(on_terminate=lambda number, _: sys.exit(128 + number))
        with server_log(self._settings.log_format), contextlib.suppress(WagiError):
            sys.exit(_MADE if self._make() else 0)

    def _make(self) -> bool:
        """Make the snapshots that are missing.

        Returns:
            Whether one was made.

        Raises:
            WagiError: The route map is invalid; the supervisor reports it.
        """
        before = self._states.read()
        route_map = read_route_map(self._file)
        if not any(entry.snapshot for entry in route_map.modules):
            self._states.write({})
            return False

        from wagi.assembly import make_snapshots, stores

        with stores(self._settings) as kept:
            found = make_snapshots(self._settings, route_map, kept, makes=False)
            missing = [route for route, state in found.items() if state.state == "missing"]
            if not missing:
                self._states.write({})
                return False
            self._states.write(dict.fromkeys(missing, _BEING_MADE))
            time.sleep(_DELAY_S)
            os.nice(_NICENESS)
            found = make_snapshots(self._settings, route_map, kept)
        failed = {
            route: f"no snapshot: {state.reason}"
            for route, state in found.items()
            if route in missing and state.state == "failed"
        }
        self._states.write({**dict.fromkeys(missing, _BEING_MADE), **failed})
        for route, text in failed.items():
            if before.get(route) != text:  # once, not after each change
                _log.warning("%s: %s", route, text)
        return len(failed) < len(missing)


def _end(process: BaseProcess | None) -> None:
    if process is None:
        return
    process.terminate()
    process.join(_TERMINATION_S)
    process.kill()
    process.join()
