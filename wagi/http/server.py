"""The connections of a worker: how many there are, and how they end with it."""

from __future__ import annotations

import asyncio
import logging
import select
import time
from collections.abc import Callable, Coroutine
from typing import Any

from wagi.http.connection import Connection, HttpOptions
from wagi.http.errors import HTTPError
from wagi.http.request import Request

_UNREAD_POLL_INTERVAL_S = 0.5
_REPORT_INTERVAL_S = 60.0
_GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR
_log = logging.getLogger("wagi")


class HttpServer:
    """Makes a connection for each client: a protocol factory for asyncio's servers.

    Attributes:
        handle: Answers a request. It runs as a coroutine for ``tasks.start``.
        reject: Answers at once what is not valid HTTP.
        options: What clients may take and say.
        is_draining: Whether connections end after the request that they are in.
        unread: The connections from which nothing is read at the moment.
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
        self._ready: list[Request] = []  # received and not started
        self.unread: set[Connection] = set()
        self._connections: set[Connection] = set()
        self._reported_at = -_REPORT_INTERVAL_S

    def enqueue(self, request: Request) -> None:
        """Answer a request when all connections that are readable have been read.

        Reading and parsing many requests, then answering them, keeps the code of each stage in the
        processor's caches: that takes a tenth less time than one after the other from end to end.
        """
        self._ready.append(request)
        if len(self._ready) == 1:
            asyncio.get_running_loop().call_soon(self._answer_ready)

    def _answer_ready(self) -> None:
        requests, self._ready = self._ready, []
        for request in requests:
            request.channel.start_answer(request)

    def __call__(self) -> Connection:
        """Make the protocol of a new connection."""
        return Connection(self, asyncio.get_running_loop())

    def add(self, connection: Connection) -> bool:
        """Count a connection. Returns: False if there are too many."""
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
        """Forget a connection that has ended."""
        self._connections.discard(connection)
        self.unread.discard(connection)

    @property
    def running(self) -> int:
        """How many requests are being answered."""
        return sum(connection.is_answering for connection in self._connections)

    def close_idle(self) -> int:
        """Close connections without a request. Returns: how many connections are left."""
        for connection in list(self._connections):
            if connection.is_idle:
                connection.close()
        return len(self._connections)

    async def watch_unread(self) -> None:
        """Notice clients that go away while nothing is read from them. Runs until cancelled.

        The event loop looks at a connection only while it reads from it.
        """
        while True:
            await asyncio.sleep(_UNREAD_POLL_INTERVAL_S)
            poller = select.poll()
            watched: dict[int, Connection] = {}
            for connection in self.unread:
                if (descriptor := connection.descriptor) is not None:
                    watched[descriptor] = connection
                    poller.register(descriptor, _GONE)
            for descriptor, _ in poller.poll(0):
                watched[descriptor].abort()

    async def shutdown(self, patience: float) -> None:
        """Cancel what still runs, and end all connections.

        Args:
            patience: Seconds for what was cancelled to end.
        """
        tasks = [task for connection in self._connections if (task := connection.cancel())]
        if tasks:
            await asyncio.wait(tasks, timeout=patience)
        for connection in list(self._connections):
            connection.abort()
