"""The life of a server process: start, serve, drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
import sys
import time
from array import array
from collections.abc import Callable
from functools import partial
from struct import pack
from typing import Any

from wagi.gateway.cycle import answer, reject
from wagi.gateway.gateway import Gateway
from wagi.http.connection import HttpOptions
from wagi.http.server import HttpServer
from wagi.server.signals import RETIRE
from wagi.server.tls_gate import TlsGate

_log = logging.getLogger("wagi")
_SO_ATTACH_FILTER = 26
_RETURN_NOTHING = 0x06  # struct sock_filter: BPF_RET | BPF_K, with k = 0
_LAST_WORD = 0.05  # seconds for what was cancelled to end
_PASSES = 5  # of the event loop, from an accepted socket to its connection
_LOOK = 0.02  # seconds between two looks at what still runs
_REPORT_EVERY = 60.0  # seconds


class Worker:
    """Serves a gateway on a listening socket until it is told to stop."""

    def __init__(self, gateway: Gateway, options: HttpOptions, shutdown_timeout: float) -> None:
        """Parameters: ``shutdown_timeout`` seconds that running requests may take at the end."""
        self._gateway = gateway
        self._options = options
        self._shutdown_timeout = shutdown_timeout
        self._stop = asyncio.Event()
        self._urged = asyncio.Event()  # asked to stop a second time
        self._retiring = False
        self._reported_at = -_REPORT_EVERY

    async def run(
        self,
        listening: socket.socket,
        tls: ssl.SSLContext | None,
        ready: Callable[[], None],
        lifeline: int,
    ) -> None:
        """Start, say that it is ready, serve until told to stop or to retire, drain.

        Parameters: ``lifeline`` a descriptor whose end means that the supervisor is gone.
        """
        http = HttpServer(
            partial(answer, self._gateway), partial(reject, self._gateway), self._options
        )
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._trouble)
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        loop.add_signal_handler(RETIRE, self.retire)
        loop.add_reader(lifeline, self._orphaned, lifeline)
        doorway = listening.dup()  # asyncio closes the one that it gets
        gate = None if tls is None else TlsGate(http, self._gateway, tls, self._options)
        acceptor = await _listen(gate or http, listening)
        watcher = asyncio.create_task(http.watch_unread())
        ready()
        try:
            await self._stop.wait()
        finally:
            http.is_draining = True
            # asyncio drops what it has accepted if its server is closed in the same moment: first
            # it accepts no more, then it has time to make connections of what it has.
            with contextlib.suppress(
                OSError, RuntimeError, ValueError
            ):  # uvloop has no reader there
                loop.remove_reader(listening)
            await _settle()
            waiting = [] if self._retiring else _all_waiting(doorway)
            doorway.close()
            acceptor.close()
            for connection in waiting:
                await _take(connection, http, gate)
            await _settle()
            await self._drain(http, gate)
            watcher.cancel()
            await self._gateway.close()

    def stop(self) -> None:
        """Ask it to drain; asked again, it cancels what still runs."""
        if self._stop.is_set() and not self._retiring:
            self._urged.set()
        self._retiring = False
        self._stop.set()

    def retire(self) -> None:
        """Ask it to drain, and to leave those who have just connected to its successor."""
        self._retiring = True
        self._stop.set()

    def _orphaned(self, lifeline: int) -> None:
        asyncio.get_running_loop().remove_reader(lifeline)
        _log.error("the supervisor is gone: stopping")
        self.stop()

    async def _drain(self, http: HttpServer, gate: TlsGate | None) -> None:
        """Answer what has been accepted, then end."""
        if http.running:
            _log.info("stopping: %d requests are still running", http.running)
        deadline = time.monotonic() + self._shutdown_timeout
        remaining = True
        while remaining and time.monotonic() < deadline and not self._urged.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self._urged.wait()
            remaining = http.close_idle() + (gate.close_idle() if gate else 0) > 0
        if http.running:
            _log.warning("stopping: %d requests are cancelled", http.running)
        await http.shutdown(_LAST_WORD)
        if gate is not None:
            await gate.shutdown(_LAST_WORD)

    def _trouble(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What goes wrong outside of any request; accepting is tried again after a second."""
        error = context.get("exception")
        if "accept" not in str(context.get("message")) or not isinstance(error, OSError):
            loop.default_exception_handler(context)
        elif time.monotonic() - self._reported_at >= _REPORT_EVERY:
            self._reported_at = time.monotonic()
            _log.error("connections cannot be accepted now: %s (see ulimit -n)", error.strerror)


async def _listen(
    factory: Callable[[], asyncio.Protocol], listening: socket.socket
) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    options: dict[str, Any] = {"sock": listening, "backlog": 1024}
    if listening.family == socket.AF_UNIX:
        if sys.version_info >= (3, 13):
            options["cleanup_socket"] = False  # the other workers still listen on it
        return await loop.create_unix_server(factory, **options)
    return await loop.create_server(factory, **options)


async def _take(connection: socket.socket, http: HttpServer, gate: TlsGate | None) -> None:
    """Serve a connection that was accepted without the event loop."""
    if gate is not None:
        gate.take(connection)
        return
    connection.setblocking(False)
    with contextlib.suppress(OSError):
        await asyncio.get_running_loop().connect_accepted_socket(http, connection)


async def _settle() -> None:
    """Let who has been accepted become a connection, however long the passes of the loop take."""
    for _ in range(_PASSES):
        await asyncio.sleep(0)


def _all_waiting(doorway: socket.socket) -> list[socket.socket]:
    """Everybody who has knocked, just before the door is closed.

    The system accepts connections for us: those that wait in its queue would be reset. One that
    came between the last look and the close would be too: so from now on nobody else gets in.
    """
    waiting: list[socket.socket] = []
    _refuse_more(doorway)
    doorway.setblocking(False)
    with contextlib.suppress(OSError):  # the queue is empty, or descriptors have run out
        while True:
            waiting.append(doorway.accept()[0])
    return waiting


def _refuse_more(doorway: socket.socket) -> None:
    """Have the system drop packets that ask for a connection; who tries again finds nobody (Linux).

    A socket filter of one instruction: return 0, keep nothing.
    """
    program = array("Q", [_RETURN_NOTHING])
    if doorway.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            doorway.setsockopt(
                socket.SOL_SOCKET, _SO_ATTACH_FILTER, pack("@HP", 1, program.buffer_info()[0])
            )
