"""The life of a server process: start, serve, drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

from aiohttp import web

from wagi.gateway import Gateway
from wagi.server.http import HttpLimits, HttpServer

_log = logging.getLogger("wagi")
_LAST_WORD = 0.05  # seconds for what was cancelled to end
_LOOK = 0.02  # seconds between two looks at what still runs
_REPORT_EVERY = 60.0  # seconds


class Worker:
    """Serves a gateway on a listening socket until it is told to stop."""

    def __init__(self, gateway: Gateway, limits: HttpLimits, shutdown_timeout: float) -> None:
        """Parameters: ``shutdown_timeout`` seconds that running requests may take at the end."""
        self._gateway = gateway
        self._limits = limits
        self._shutdown_timeout = shutdown_timeout
        self._stop = asyncio.Event()
        self._urged = asyncio.Event()  # asked to stop a second time
        self._running = 0
        self._reported_at = -_REPORT_EVERY

    async def run(
        self,
        listening: socket.socket,
        tls: ssl.SSLContext | None,
        announce: Callable[[], None],
    ) -> None:
        """Start, announce, serve until SIGTERM or SIGINT, drain."""
        http = HttpServer(self._handle, self._gateway.refuse, self._limits)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._trouble)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        doorway = listening.dup()  # asyncio closes the one that it gets
        acceptor = await self._listen(http, listening, tls)
        watcher = asyncio.create_task(http.look_after_unread())
        announce()
        try:
            await self._stop.wait()
        finally:
            await self._stop_accepting(http, acceptor, doorway, tls)
            await self._drain(http)
            watcher.cancel()

    async def _listen(
        self, http: HttpServer, listening: socket.socket, tls: ssl.SSLContext | None
    ) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {"sock": listening, "backlog": 1024, "ssl": tls}
        if tls is not None:
            options["ssl_handshake_timeout"] = self._limits.header_timeout
        if listening.family == socket.AF_UNIX:
            return await loop.create_unix_server(http, **options)
        return await loop.create_server(http, **options)

    def stop(self) -> None:
        """Ask it to drain; asked again, it cancels what still runs."""
        if self._stop.is_set():
            self._urged.set()
        self._stop.set()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._running += 1
        try:
            return await self._gateway.handle(request)
        finally:
            self._running -= 1

    async def _stop_accepting(
        self,
        http: HttpServer,
        acceptor: asyncio.Server,
        doorway: socket.socket,
        tls: ssl.SSLContext | None,
    ) -> None:
        """Close the door behind everybody who has knocked.

        The system accepts connections for us: those that wait in its queue would be reset.
        """
        loop = asyncio.get_running_loop()
        http.draining = True
        acceptor.close()
        waiting: list[socket.socket] = []
        doorway.setblocking(False)
        with contextlib.suppress(OSError):  # the queue is empty, or descriptors have run out
            while True:
                waiting.append(doorway.accept()[0])
        doorway.close()
        for connection in waiting:
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                await loop.connect_accepted_socket(http, connection, ssl=tls)

    async def _drain(self, http: HttpServer) -> None:
        """Answer what has been accepted, then end."""
        if self._running:
            _log.info("stopping: %d requests are still running", self._running)
        deadline = time.monotonic() + self._shutdown_timeout
        while http.end_idle() and time.monotonic() < deadline and not self._urged.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self._urged.wait()
        if self._running:
            _log.warning("stopping: %d requests are cancelled", self._running)
        await http.shutdown(timeout=_LAST_WORD)

    def _trouble(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What goes wrong outside of any request; accepting is tried again after a second."""
        error = context.get("exception")
        if "accept" not in str(context.get("message")) or not isinstance(error, OSError):
            loop.default_exception_handler(context)
        elif time.monotonic() - self._reported_at >= _REPORT_EVERY:
            self._reported_at = time.monotonic()
            _log.error("connections cannot be accepted now: %s (see ulimit -n)", error.strerror)
