"""Signals as events that a loop can wait for, and their dispositions after a fork."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""The signals that the supervisor handles."""
RETIRE = signal.SIGUSR1
"""Makes a worker drain and exit, and leave pending connections to its successor."""


class Signals:
    """Makes signals readable from a file descriptor."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()

    @property
    def descriptor(self) -> int:
        """Becomes readable when a signal has arrived."""
        return self._reader.fileno()

    def open(self) -> None:
        """Start handling the signals of ``HANDLED``."""
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno())
        for number in HANDLED:
            signal.signal(number, lambda *_: None)

    def read(self) -> Iterator[int]:
        """The numbers of the signals that have arrived."""
        with contextlib.suppress(BlockingIOError):
            yield from self._reader.recv(4096)

    def close(self) -> None:
        """Stop reporting signals."""
        signal.set_wakeup_fd(-1)
        self._reader.close()
        self._writer.close()


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Block signals around a fork: the child must not report one as the supervisor's."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)


def reset_signals(
    on_terminate: Callable[[int, FrameType | None], object] | signal.Handlers = signal.SIG_DFL,
) -> None:
    """Set the dispositions of a forked child, and unblock its signals.

    A terminal sends SIGINT and SIGHUP to the whole process group; only the supervisor acts on them.

    Args:
        on_terminate: The handler of SIGTERM.
    """
    signal.signal(signal.SIGTERM, on_terminate)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)


def has_terminal() -> bool:
    """Whether the process has a controlling terminal.

    A terminal that is closed sends SIGHUP, too; after that this is False.
    """
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
