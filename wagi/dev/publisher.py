"""The side of a worker in its conversation with the dev page.

Each worker has a stream socket to the process of the page. Both sides write JSON objects, one per
line: the worker its routes, the requests that take long, and the record of each finished request;
the page which request is to be cancelled. The end of the stream is the end of the worker.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import socket
from collections.abc import Iterator
from itertools import count
from typing import Any

from wagi.dev.terminal import plain_text
from wagi.gateway.gateway import RunningRequest
from wagi.gateway.route import Plan, PlannedRoute, PlannedStatic
from wagi.observe.exchange import Exchange, GuestRecord

_POLL_INTERVAL_S = 0.25  # how often running requests are listed; shorter ones never are
_UNSENT_MAX = 8 * 1024 * 1024  # bytes; beyond, records are dropped
_CONNECT_TIMEOUT_S = 5.0


class Publisher:
    """Sends what happens in a worker to the dev page, and carries out what is requested there.

    Args:
        connector: A datagram socket, through which each worker passes its stream to the page.
    """

    def __init__(self, connector: socket.socket) -> None:
        # Of the supervisor
        self._connector = connector
        # Of a worker
        self._stream: socket.socket | None = None
        self._unsent = bytearray()
        self._received = b""
        self._keys: Iterator[str]
        self._running: dict[int, tuple[str, RunningRequest]] = {}  # by the id of the exchange
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_polling = False

    def open(self, plan: Plan, url: str) -> None:
        """Connect this worker to the page, and send its routes.

        Args:
            plan: The routes.
            url: Where the server listens.
        """
        self._keys = map(f"{os.getpid()}-{{}}".format, count(1))
        rows = [_route(route) for route in plan.routes]
        mine, other = socket.socketpair()
        try:
            socket.send_fds(self._connector, [b"\0"], [other.fileno()])
            mine.settimeout(_CONNECT_TIMEOUT_S)
            mine.sendall(_line({"type": "routes", "url": url, "routes": rows}))
            mine.setblocking(False)
            self._stream = mine
        except OSError:  # the page has ended: serve without it
            mine.close()
        finally:
            other.close()

    def begin(self, request: RunningRequest) -> None:
        """List a request on the page while it is being answered."""
        if self._stream is None:
            return
        self._running[id(request.exchange)] = next(self._keys), request
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._stream, self._receive)
        if not self._is_polling:
            self._is_polling = True
            self._loop.call_later(_POLL_INTERVAL_S, self._poll)

    def publish(self, exchange: Exchange) -> None:
        """Send the record of a finished request."""
        if self._stream is None:
            return
        running = self._running.pop(id(exchange), None)
        key = running[0] if running else next(self._keys)  # without a route, it has not begun
        guest = exchange.guest
        self._send(
            {
                "type": "exchange",
                "key": key,
                **_summary(exchange),
                "status": exchange.status,
                "module": exchange.module,
                "ms": exchange.seconds * 1000,
                "cpu_ms": exchange.cpu_seconds * 1000,
                "failure": _failure(exchange),
                "headers": list(exchange.headers.items()),
                "guest": None if guest is None else _guest(guest),
            }
        )

    def _poll(self) -> None:
        """List the running requests, and do it again while there are any."""
        if self._stream is None or self._loop is None:
            return
        rows = [
            {
                "key": key,
                **_summary(request.exchange),
                "is_running": request.is_running,
                "cpu_ms": request.cpu_seconds * 1000,
            }
            for key, request in self._running.values()
        ]
        is_sent = self._send({"type": "running", "requests": rows})
        self._is_polling = bool(rows) or not is_sent
        if self._is_polling:
            self._loop.call_later(_POLL_INTERVAL_S, self._poll)

    def _send(self, record: object) -> bool:
        """Send a record without waiting for the page.

        Returns:
            False if it was dropped because the page does not keep up.
        """
        if len(self._unsent) > _UNSENT_MAX:
            return False
        self._unsent += _line(record)
        self._flush()
        return True

    def _flush(self) -> None:
        assert self._stream is not None
        had_rest = len(self._unsent)
        try:
            del self._unsent[: self._stream.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:  # the page has ended
            self._close()
            return
        if self._loop is None:
            return
        if self._unsent:
            self._loop.add_writer(self._stream, self._flush)
        elif had_rest:
            self._loop.remove_writer(self._stream)

    def _receive(self) -> None:
        """Cancel the requests whose keys the page has sent."""
        assert self._stream is not None
        try:
            data = self._stream.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close()
            return
        *lines, self._received = (self._received + data).split(b"\n")
        keys = {json.loads(line)["cancel"] for line in lines}
        for key, request in list(self._running.values()):
            if key in keys:
                request.cancel("cancelled on the page of wagi --dev")

    def _close(self) -> None:
        stream, self._stream = self._stream, None
        self._unsent.clear()
        self._running.clear()
        if stream is not None:
            if self._loop is not None:
                self._loop.remove_reader(stream)
                self._loop.remove_writer(stream)
            with contextlib.suppress(OSError):
                stream.close()


def _line(record: object) -> bytes:
    return json.dumps(record).encode() + b"\n"


def _route(route: PlannedRoute | PlannedStatic) -> dict[str, Any]:
    row = {"route": route.pattern.text, "module": route.name, "entrypoint": route.entrypoint}
    if isinstance(route, PlannedStatic) or route.snapshot is None:
        return row
    snapshot = route.snapshot
    text = {"used": "snapshot", "missing": "", "failed": f"no snapshot: {snapshot.reason}"}
    return {**row, "entry": route.entry_route, "snapshot": text[snapshot.state]}


def _summary(exchange: Exchange) -> dict[str, Any]:
    return {
        "id": exchange.request_id,
        "method": exchange.method,
        "target": exchange.target,
        "route": exchange.route,
        "received": exchange.received,
    }


def _failure(exchange: Exchange) -> dict[str, Any] | None:
    failure = exchange.failure
    if failure is None:
        return None
    return {
        "cause": failure.cause,
        "details": failure.details,
        "frames": list(map(str, failure.frames)),
        "library_frames": list(map(str, failure.library_frames)),
        "hint": failure.hint,
    }


def _guest(guest: GuestRecord) -> dict[str, Any]:
    return {
        "argv": [_text(word) for word in guest.argv],
        "variables": sorted(_text(item) for item in guest.variables),
        "stdin": _base64(guest.stdin),
        "stdin_size": guest.stdin_size,
        "stdout": _base64(guest.stdout),
        "stdout_size": guest.stdout_size,
        "stderr": plain_text(bytes(guest.stderr)),
        "warnings": list(guest.warnings),
        "end": guest.end,
        "memory": guest.memory,
    }


def _text(data: bytes) -> str:
    return data.decode(errors="backslashreplace")


def _base64(data: bytearray) -> str:
    return base64.b64encode(data).decode()
