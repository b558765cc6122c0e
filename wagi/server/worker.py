"""The life of a server process: start, serve, drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
from collections.abc import Callable

from aiohttp import web

from wagi.gateway import Gateway
from wagi.server.http import HttpServer

_log = logging.getLogger("wagi")
_LAST_WORD = 0.05  # seconds for what was cancelled to end


class Worker:
    """Serves a gateway on a listening socket until it is told to stop."""

    def __init__(self, gateway: Gateway, shutdown_timeout: float) -> None:
        """Parameters: ``shutdown_timeout`` seconds that running requests may take at the end."""
        self._gateway = gateway
        self._shutdown_timeout = shutdown_timeout
        self._stop = asyncio.Event()
        self._idle_or_urged = asyncio.Event()  # nothing runs any more, or somebody insists
        self._running = 0

    async def run(
        self,
        listening: socket.socket,
        tls: ssl.SSLContext | None,
        announce: Callable[[], None],
    ) -> None:
        """Start, announce, serve until SIGTERM or SIGINT, drain."""
        http = HttpServer(self._handle)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        if listening.family == socket.AF_UNIX:
            acceptor = await loop.create_unix_server(http, sock=listening, ssl=tls)
        else:
            acceptor = await loop.create_server(http, sock=listening, ssl=tls, backlog=1024)
        announce()
        try:
            await self._stop.wait()
        finally:
            acceptor.close()
            await self._drain(http)

    def stop(self) -> None:
        """Ask it to drain; asked again, it cancels what still runs."""
        if self._stop.is_set() or not self._running:
            self._idle_or_urged.set()
        self._stop.set()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._running += 1
        try:
            response = await self._gateway.handle(request)
            if self._stop.is_set():
                response.force_close()
            return response
        finally:
            self._running -= 1
            if self._stop.is_set() and not self._running:
                self._idle_or_urged.set()

    async def _drain(self, http: web.Server) -> None:
        if self._running:
            _log.info("stopping: %d requests are still running", self._running)
        # Idle connections end now, the others after their request.
        http.pre_shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._shutdown_timeout):
                await self._idle_or_urged.wait()
        if self._running:
            _log.warning("stopping: %d requests are cancelled", self._running)
        await http.shutdown(timeout=_LAST_WORD)
