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
from typing import TYPE_CHECKING, Any

from wagi.gateway.answering import answer, reject
from wagi.gateway.gateway import Gateway
from wagi.http.options import HttpOptions
from wagi.http.server import HttpServer
from wagi.observe.metrics.families import (
    CONNECTIONS,
    GUEST_MEMORY,
    QUEUE_LENGTH,
    RUNNING_GUESTS,
)
from wagi.observe.metrics.memory import Page
from wagi.server.listeners import BACKLOG
from wagi.server.signals import RETIRE
from wagi.server.tls_gate import TlsGate

if TYPE_CHECKING:
    from wagi.observe.traces.exporter import TraceExporter

_log = logging.getLogger("wagi")
_SO_ATTACH_FILTER = 26
_DROP_SYN = (
    # struct sock_filter {u16 code; u8 jump_if_true; u8 jump_if_false; u32 k} (classic BPF)
    (0x30, 0, 0, 13),  # load the flags, byte 13 of the TCP header
    (0x54, 0, 0, 0x12),  # and SYN | ACK
    (0x15, 0, 1, 0x02),  # unless they equal SYN, skip one instruction
    (0x06, 0, 0, 0),  # keep 0 bytes of the packet: drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # keep all bytes
)
_HANDSHAKE_GRACE_S = 0.02  # for TCP handshakes in progress to complete
_CANCEL_GRACE_S = 0.05  # for cancelled requests to end
_ACCEPT_LOOP_PASSES = 5  # of the event loop, from an accepted socket to its connection
_DRAIN_POLL_INTERVAL_S = 0.02
_EXPORT_TIMEOUT_S = 5.0  # of the spans that are queued at the end
_REPORT_INTERVAL_S = 0.5  # of the gauges and the heartbeat
_ACCEPT_ERROR_INTERVAL_S = 60.0  # at most one report of failed accepts in this time


class Worker:
    """Serves a gateway on a listening socket until it is stopped or retired.

    Args:
        gateway: Answers the requests.
        options: Limits and time-outs of HTTP.
        shutdown_timeout: The grace period of running requests at the end, in seconds.
        metrics: Its page of metrics; None without metrics.
        traces: Exports its spans; None without traces.
        leaves_backlog: Whether pending connections are left in the accept backlog when the worker
            is stopped, because the listening socket outlives it.
    """

    def __init__(
        self,
        gateway: Gateway,
        options: HttpOptions,
        shutdown_timeout: float,
        metrics: Page | None = None,
        traces: TraceExporter | None = None,
        leaves_backlog: bool = False,
    ) -> None:
        self._gateway = gateway
        self._options = options
        self._shutdown_timeout = shutdown_timeout
        self._metrics = metrics
        self._traces = traces
        self._leaves_backlog = leaves_backlog
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()  # stop was called a second time
        self._retiring = False
        self._accept_error_at = -_ACCEPT_ERROR_INTERVAL_S

    async def run(
        self,
        listener: socket.socket,
        tls: ssl.SSLContext | None,
        on_ready: Callable[[], None],
        lifeline: int,
    ) -> None:
        """Start, serve until stopped or retired, then drain.

        Args:
            listener: The listening socket; it is closed at the end.
            tls: The TLS configuration; None for plain HTTP.
            on_ready: Called when connections are accepted.
            lifeline: A pipe that reaches its end when the supervisor dies: the worker then stops.
        """
        http = HttpServer(
            partial(answer, self._gateway), partial(reject, self._gateway), self._options
        )
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_loop_error)
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        loop.add_signal_handler(RETIRE, self.retire)
        loop.add_reader(lifeline, self._on_supervisor_death, lifeline)
        backlog = listener.dup()  # asyncio closes the original
        gate = None if tls is None else TlsGate(http, self._gateway, tls, self._options)
        acceptor = await _accept(gate or http, listener)
        tasks = [asyncio.create_task(http.watch_paused())]
        if self._metrics is not None:
            tasks.append(asyncio.create_task(self._report(self._metrics, http)))
        on_ready()
        try:
            await self._stop.wait()
        finally:
            http.is_draining = True
            # If its server is closed right after an accept, asyncio drops the accepted socket. So
            # stop accepting first, and let the loop turn accepted sockets into connections.
            with contextlib.suppress(OSError, RuntimeError, ValueError):  # uvloop has no reader
                loop.remove_reader(listener)
            await _finish_accepting()
            leaves_backlog = self._retiring or self._leaves_backlog
            pending = [] if leaves_backlog else await _accept_backlog(backlog)
            backlog.close()
            acceptor.close()
            for connection in pending:
                await _serve_accepted(connection, http, gate)
            await _finish_accepting()
            deadline = time.monotonic() + self._shutdown_timeout
            await self._drain(http, gate, deadline)
            await self._export_traces(deadline)
            for task in tasks:
                task.cancel()
            await self._gateway.close()

    def stop(self) -> None:
        """Drain; when called again, cancel the requests that still run."""
        if self._stop.is_set() and not self._retiring:
            self._stop_now.set()
        self._retiring = False
        self._stop.set()

    def retire(self) -> None:
        """Drain, and leave pending connections in the accept backlog to the successor."""
        self._retiring = True
        self._stop.set()

    def _on_supervisor_death(self, lifeline: int) -> None:
        asyncio.get_running_loop().remove_reader(lifeline)
        _log.error("the supervisor has died: shutting down")
        self.stop()

    async def _report(self, page: Page, http: HttpServer) -> None:
        """Publish that the event loop runs, and the gauges. Runs until cancelled."""
        admission = self._gateway.admission
        while True:
            page.beat()
            page.set(RUNNING_GUESTS, admission.running)
            page.set(QUEUE_LENGTH, admission.queued)
            page.set(GUEST_MEMORY, admission.memory)
            page.set(CONNECTIONS, http.connection_count)
            await asyncio.sleep(_REPORT_INTERVAL_S)

    async def _drain(self, http: HttpServer, gate: TlsGate | None, deadline: float) -> None:
        """Answer the requests of accepted connections, within the grace period.

        Args:
            http: The server with the connections.
            gate: The server of connections that have not begun TLS.
            deadline: The end of the grace period, in seconds of ``time.monotonic``.
        """
        if http.running:
            _log.info("shutting down: waiting for %d running requests", http.running)
        has_connections = True
        while has_connections and time.monotonic() < deadline and not self._stop_now.is_set():
            await self._wait_for_next_poll()
            has_connections = http.close_idle() + (gate.close_idle() if gate else 0) > 0
        if http.running:
            _log.warning("shutting down: cancelling %d running requests", http.running)
        await http.shutdown(_CANCEL_GRACE_S)
        if gate is not None:
            await gate.shutdown(_CANCEL_GRACE_S)

    async def _export_traces(self, deadline: float) -> None:
        """Export the spans that are queued, within what is left of the grace period."""
        traces = self._traces
        if traces is None:
            return
        traces.begin_close()
        deadline = min(deadline, time.monotonic() + _EXPORT_TIMEOUT_S)
        while not traces.is_closed and time.monotonic() < deadline and not self._stop_now.is_set():
            await self._wait_for_next_poll()
        traces.release()

    async def _wait_for_next_poll(self) -> None:
        """Wait for an interval; ``stop``, called a second time, ends it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_POLL_INTERVAL_S):
                await self._stop_now.wait()

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Report an error outside of any request. After a failed accept, asyncio pauses for 1 s."""
        error = context.get("exception")
        if "accept" not in str(context.get("message")) or not isinstance(error, OSError):
            loop.default_exception_handler(context)
        elif time.monotonic() - self._accept_error_at >= _ACCEPT_ERROR_INTERVAL_S:
            self._accept_error_at = time.monotonic()
            _log.error("cannot accept connections: %s (see ulimit -n)", error.strerror)


async def _accept(
    factory: Callable[[], asyncio.Protocol], listener: socket.socket
) -> asyncio.Server:
    """Accept connections in the event loop."""
    loop = asyncio.get_running_loop()
    options: dict[str, Any] = {"sock": listener, "backlog": BACKLOG}
    if listener.family == socket.AF_UNIX:
        if sys.version_info >= (3, 13):
            options["cleanup_socket"] = False  # the other workers still listen on it
        return await loop.create_unix_server(factory, **options)
    return await loop.create_server(factory, **options)


async def _serve_accepted(
    connection: socket.socket, http: HttpServer, gate: TlsGate | None
) -> None:
    """Serve a connection that was not accepted by the event loop."""
    if gate is not None:
        gate.take(connection)
        return
    connection.setblocking(False)
    with contextlib.suppress(OSError):
        await asyncio.get_running_loop().connect_accepted_socket(http, connection)


async def _finish_accepting() -> None:
    """Let the event loop turn accepted sockets into connections, however long a pass takes."""
    for _ in range(_ACCEPT_LOOP_PASSES):
        await asyncio.sleep(0)


async def _accept_backlog(listener: socket.socket) -> list[socket.socket]:
    """Accept all pending connections, just before the listening socket is closed.

    The kernel completes handshakes on its own, and resets the connections in the accept backlog
    when the socket is closed. To get none between the last accept and the close, new connections
    are dropped from now on, and handshakes in progress get a moment to complete.
    """
    pending: list[socket.socket] = []
    if _drop_new_connections(listener):
        await asyncio.sleep(_HANDSHAKE_GRACE_S)
    listener.setblocking(False)
    while True:
        try:
            pending.append(listener.accept()[0])
        except ConnectionAbortedError:
            continue  # this client has disconnected
        except OSError:  # the backlog is empty, or there are no more descriptors
            return pending


def _drop_new_connections(listener: socket.socket) -> bool:
    """Make the kernel drop SYN packets (Linux).

    The client retransmits, and is refused once the socket is closed. Packets that complete a
    handshake pass.

    Returns:
        Whether the listening socket drops them.
    """
    if listener.family == socket.AF_UNIX:
        return False
    program = array("B", b"".join(pack("@HBBI", *instruction) for instruction in _DROP_SYN))
    try:
        listener.setsockopt(
            socket.SOL_SOCKET,
            _SO_ATTACH_FILTER,
            pack("@HP", len(_DROP_SYN), program.buffer_info()[0]),
        )
    except OSError:
        return False
    return True
