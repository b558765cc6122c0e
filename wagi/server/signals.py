"""Signals as events that a loop can wait for, and what a fork has to do about them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""The signals that a supervisor takes."""
RETIRE = signal.SIGUSR1
"""Tells a worker to end and to leave what waits at its socket to its successor."""


class Signals:
    """Signals as events: their numbers can be read from a descriptor."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()

    @property
    def descriptor(self) -> int:
        """Readable when a signal has come."""
        return self._reader.fileno()

    def open(self) -> None:
        """Take the signals."""
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno())
        for number in HANDLED:
            signal.signal(number, lambda *_: None)

    def read(self) -> Iterator[int]:
        """The signals that have come."""
        with contextlib.suppress(BlockingIOError):
            yield from self._reader.recv(4096)

    def close(self) -> None:
        """Let them go."""
        signal.set_wakeup_fd(-1)
        self._reader.close()
        self._writer.close()


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """For a fork: a signal must not come to a child that would report it as the supervisor's."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)


def has_terminal() -> bool:
    """Whether the process has a controlling terminal: one that is closed sends SIGHUP too."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
