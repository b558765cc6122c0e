"""The protocols between a service and systemd: sd_listen_fds(3), sd_notify(3) and the watchdog.

Other supervisors speak them as well, for example systemd-socket-activate, s6 and podman.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time

from wagi.errors import ConfigurationError, Problem

_FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START
_SEND_TIMEOUT_S = 1.0


def activated_socket() -> socket.socket | None:
    """Take over the listening socket that was passed to this process (socket activation).

    Returns:
        The socket; None if none was passed. The variables are removed, so that no child process
        takes it over as well.

    Raises:
        ConfigurationError: Not exactly one listening stream socket was passed.
    """
    pid, count, names = (
        os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
    )
    if pid != str(os.getpid()) or not count.isdecimal() or int(count) == 0:
        return None
    if count != "1":
        raise ConfigurationError(
            Problem(
                f"socket activation: expected one socket, found {count} (LISTEN_FDS"
                f"{f', {names}' if names else ''}): use one ListenStream= in the .socket unit"
            )
        )
    os.set_inheritable(_FIRST_DESCRIPTOR, False)
    try:
        listener = socket.socket(fileno=_FIRST_DESCRIPTOR)
        is_listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    except OSError as error:
        problem = f"descriptor {_FIRST_DESCRIPTOR} is not a socket ({error.strerror})"
        raise ConfigurationError(Problem(f"socket activation: {problem}")) from None
    if not is_listening or listener.type != socket.SOCK_STREAM:
        raise ConfigurationError(
            Problem(
                "socket activation: expected a listening stream socket: use ListenStream= and"
                " Accept=no in the .socket unit"
            )
        )
    return listener


class Notifier:
    """Sends the state of the service to systemd; does nothing without it.

    Attributes:
        interval: Seconds between two messages to the watchdog; None if there is no watchdog.
    """

    def __init__(self) -> None:
        """Take over the variables that systemd sets; they are removed from the environment."""
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):  # in the abstract namespace
            self._address = "\0" + self._address[1:]
        microseconds = os.environ.pop("WATCHDOG_USEC", "")
        pid = os.environ.pop("WATCHDOG_PID", "")
        self.interval: float | None = None
        if microseconds.isdecimal() and int(microseconds) and pid in ("", str(os.getpid())):
            self.interval = int(microseconds) / 1e6 / 2  # as sd_watchdog_enabled(3) recommends
        self._pinged_at = -float("inf")

    def ready(self, status: str) -> None:
        """The service is ready, or the reload has ended.

        Args:
            status: A line for ``systemctl status``.
        """
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """A reload has begun."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}", "STATUS=reloading")

    def stopping(self) -> None:
        """The service shuts down."""
        self._send("STOPPING=1", "STATUS=shutting down")

    def status(self, status: str) -> None:
        """Set the line of ``systemctl status``."""
        self._send(f"STATUS={status}")

    def ping(self) -> None:
        """Reset the watchdog, if it is time to."""
        now = time.monotonic()
        if self.interval is not None and now - self._pinged_at >= self.interval:
            self._pinged_at = now
            self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(_SEND_TIMEOUT_S)
            with contextlib.suppress(OSError):
                sender.connect(self._address)
                sender.send("\n".join(lines).encode())
