"""Distinguishes TLS from plain HTTP by the first byte of a connection to a TLS port.

The event loop treats a client that speaks plain HTTP as a failed handshake, and closes the
connection without an answer. Like nginx, this server answers it with an error page.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from http import HTTPStatus
from typing import Any

from wagi.gateway.answering import reject
from wagi.gateway.gateway import Gateway
from wagi.http.connection import NEW_CONNECTION_GRACE_S, has_input
from wagi.http.errors import HTTPError
from wagi.http.options import HttpOptions
from wagi.http.request import Request
from wagi.http.server import HttpServer

_HANDSHAKE_RECORD = 0x16  # the record type with which TLS begins (RFC 8446 §5.1)
_SSL2_BIT = 0x80  # set in the first byte of an SSL 2 handshake, which OpenSSL rejects


class TlsGate:
    """Takes accepted connections and passes each to the server of its protocol.

    Args:
        server: For TLS.
        gateway: Answers requests in plain HTTP with an error page.
        context: Certificate and key.
        options: Limits and time-outs of HTTP.
    """

    def __init__(
        self, server: HttpServer, gateway: Gateway, context: ssl.SSLContext, options: HttpOptions
    ) -> None:
        self._server = server
        self._gateway = gateway
        self._context = context
        self._options = options
        self._plain_server = HttpServer(self._answer_plain, self._reject_plain, options)
        self._waiting: dict[socket.socket, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self) -> asyncio.Protocol:
        """Make the protocol of a connection that the event loop has accepted."""
        return _Handover(self)

    def take(self, connection: socket.socket) -> None:
        """Take a connection and wait for its first byte.

        It is closed if the limit of connections is reached; those in a handshake count, too.

        Args:
            connection: An accepted socket.
        """
        if len(self._waiting) + len(self._tasks) >= self._options.connections:
            connection.close()
            return
        loop = asyncio.get_running_loop()
        connection.setblocking(False)
        timer = loop.call_later(self._options.header_timeout, self._drop, connection)
        self._waiting[connection] = timer
        loop.add_reader(connection, self._peek, connection)

    def close_idle(self) -> int:
        """Close connections that have sent nothing.

        Returns:
            The number of connections that are left.
        """
        now = asyncio.get_running_loop().time()
        for connection, timer in list(self._waiting.items()):
            accepted_at = timer.when() - self._options.header_timeout
            is_expected = now - accepted_at < NEW_CONNECTION_GRACE_S
            if not is_expected and not has_input(connection.fileno()):
                self._drop(connection)
        return len(self._waiting) + len(self._tasks) + self._plain_server.close_idle()

    async def shutdown(self, grace_period: float) -> None:
        """Close all connections.

        Args:
            grace_period: Seconds for cancelled requests to end.
        """
        for connection in list(self._waiting):
            self._drop(connection)
        for task in self._tasks:
            task.cancel()
        await self._plain_server.shutdown(grace_period)

    def _peek(self, connection: socket.socket) -> None:
        try:
            first = connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            first = b""
        if not first:
            self._drop(connection)
            return
        self._forget(connection)
        is_tls = first[0] == _HANDSHAKE_RECORD or first[0] & _SSL2_BIT
        task = asyncio.get_running_loop().create_task(self._connect(connection, bool(is_tls)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, connection: socket.socket, is_tls: bool) -> None:
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {}
        if is_tls:
            timeout = self._options.header_timeout
            options = {"ssl": self._context, "ssl_handshake_timeout": timeout}
        server = self._server if is_tls else self._plain_server
        with contextlib.suppress(OSError):  # a failed handshake is not an error of the server
            await loop.connect_accepted_socket(server, connection, **options)

    def _forget(self, connection: socket.socket) -> None:
        self._waiting.pop(connection).cancel()
        asyncio.get_running_loop().remove_reader(connection)

    def _drop(self, connection: socket.socket) -> None:
        self._forget(connection)
        connection.close()

    async def _answer_plain(self, request: Request) -> None:
        self._reject_plain(request, _PLAIN_HTTP)

    def _reject_plain(self, request: Request, error: HTTPError) -> None:
        reject(self._gateway, request, _PLAIN_HTTP)


_PLAIN_HTTP = HTTPError(
    HTTPStatus.BAD_REQUEST,
    "A plain HTTP request was sent to an HTTPS port: use https:// in the URL.",
)


class _Handover(asyncio.Protocol):
    """Takes the socket of a transport before anything is read from it.

    The event loop accepts connections in batches, and resumes after a lack of file descriptors.
    Only the socket is needed, but a transport does not release its own, so it is duplicated.
    """

    def __init__(self, gate: TlsGate) -> None:
        self._gate = gate

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.pause_reading()  # type: ignore[attr-defined]
        try:
            descriptor = os.dup(transport.get_extra_info("socket").fileno())
            self._gate.take(socket.socket(fileno=descriptor))
        finally:
            transport.abort()  # type: ignore[attr-defined]
