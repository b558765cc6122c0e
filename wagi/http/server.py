"""The HTTP server of a worker: accepts connections, limits their number and shuts them down."""

from __future__ import annotations

import asyncio
import logging
import select
import time
from collections.abc import Callable, Coroutine
from typing import Any

from wagi.http.connection import Connection
from wagi.http.errors import HTTPError
from wagi.http.options import HttpOptions
from wagi.http.request import Request

_PAUSED_POLL_INTERVAL_S = 0.5
_REPORT_INTERVAL_S = 60.0
_HANGUP_EVENTS = select.POLLRDHUP | select.POLLHUP | select.POLLERR
_log = logging.getLogger("wagi")


class HttpServer:
    """Creates and tracks connections. It is a protocol factory for asyncio's servers.

    Attributes:
        handle: Coroutine function that answers a request, run by ``tasks.start``.
        reject: Function that answers a request that is not valid HTTP.
        options: Limits and timeouts of connections.
        is_draining: Whether connections close after their current request.
        paused: Connections that do not read from their client at the moment.
    """

    def __init__(
        self,
        handle: Callable[[Request], Coroutine[Any, Any, None]],
        reject: Callable[[Request, HTTPError], None],
        options: HttpOptions,
    ) -> None:
        self.handle = handle
        self.reject = reject
        self.options = options
        self.is_draining = False
        self._ready: list[Request] = []  # received but not started
        self.paused: set[Connection] = set()
        self._connections: set[Connection] = set()
        self._reported_at = -_REPORT_INTERVAL_S

    def enqueue(self, request: Request) -> None:
        """Answer a request after all readable connections have been read.

        Parsing all requests before answering them keeps the code of each stage in the processor's
        caches. This takes a tenth less time than processing each request from end to end.
        """
        self._ready.append(request)
        if len(self._ready) == 1:
            asyncio.get_running_loop().call_soon(self._dispatch_ready)

    def _dispatch_ready(self) -> None:
        requests, self._ready = self._ready, []
        for request in requests:
            request.channel.dispatch(request)

    def __call__(self) -> Connection:
        """Create the protocol of a new connection."""
        return Connection(self, asyncio.get_running_loop())

    def add(self, connection: Connection) -> bool:
        """Track a connection.

        Returns:
            False if the limit is reached; the connection has to be closed.
        """
        if len(self._connections) < self.options.connections:
            self._connections.add(connection)
            return True
        now = time.monotonic()
        if now - self._reported_at >= _REPORT_INTERVAL_S:
            self._reported_at = now
            _log.warning(
                "connection limit reached (%d): closing new connections", self.options.connections
            )
        return False

    def remove(self, connection: Connection) -> None:
        """Stop tracking a connection that has ended."""
        self._connections.discard(connection)
        self.paused.discard(connection)

    @property
    def running(self) -> int:
        """Number of requests that are being answered."""
        return sum(connection.is_answering for connection in self._connections)

    @property
    def connection_count(self) -> int:
        """Number of open connections."""
        return len(self._connections)

    def close_idle(self) -> int:
        """Close connections that are not answering a request.

        Returns:
            The number of connections that are still open, including those that are closing.
        """
        for connection in list(self._connections):
            if connection.is_idle:
                connection.close()
        return len(self._connections)

    async def watch_paused(self) -> None:
        """Abort paused connections whose client has disconnected. Runs until cancelled.

        The event loop detects a disconnect only on connections that it reads from.
        """
        while True:
            await asyncio.sleep(_PAUSED_POLL_INTERVAL_S)
            poller = select.poll()
            watched: dict[int, Connection] = {}
            for connection in self.paused:
                if (descriptor := connection.descriptor) is not None:
                    watched[descriptor] = connection
                    poller.register(descriptor, _HANGUP_EVENTS)
            for descriptor, _ in poller.poll(0):
                watched[descriptor].abort()

    async def shutdown(self, grace_period: float) -> None:
        """Cancel all running requests and abort all connections.

        Args:
            grace_period: Seconds to wait for cancelled requests to end.
        """
        tasks = [task for connection in self._connections if (task := connection.cancel())]
        if tasks:
            await asyncio.wait(tasks, timeout=grace_period)
        for connection in list(self._connections):
            connection.abort()
