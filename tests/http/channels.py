"""In-memory channels and transports that record what is written."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from wagi.http.body import BodyStream
from wagi.http.forwarded import ClientInfo
from wagi.http.head import Head
from wagi.http.request import Endpoint, Request

ENDPOINT = Endpoint("192.0.2.1", "50000", "http", "127.0.0.1", "127.0.0.1", "3000")


class MemoryChannel:
    """A response channel that accepts ``capacity`` bytes at a time (None: unlimited)."""

    def __init__(self, capacity: int | None = None) -> None:
        self.written = b""
        self.closes = False
        self.aborted: bool | None = None
        self.is_draining = False
        self.drains = self.writes = 0
        self._capacity = capacity
        self._buffered = 0

    @property
    def can_write(self) -> bool:
        return not self._buffered

    @property
    def descriptor(self) -> int | None:
        return None

    def write(self, data: bytes) -> None:
        assert self.aborted is None
        self.writes += 1
        self.written += data
        if self._capacity is not None and len(data) > self._capacity:
            self._buffered = len(data) - self._capacity

    async def drain(self) -> None:
        self.drains += 1
        self._buffered = 0

    def dispatch(self, request: Request) -> None:
        raise AssertionError("a response must not dispatch requests")

    def cancel(self) -> None:
        raise AssertionError("a response must not cancel its request")

    def close_after_response(self) -> None:
        self.closes = True

    def abort_response(self, has_framing: bool) -> None:
        self.aborted = has_framing


class MemoryTransport(asyncio.Transport):
    """A transport that writes to a buffer."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1), "sockname": ("127.0.0.1", 3000)})
        self.written = b""
        self.closed = False
        self.is_paused = False
        self.has_eof = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.has_eof = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        assert not self.is_paused
        self.is_paused = True

    def resume_reading(self) -> None:
        assert self.is_paused
        self.is_paused = False


def request(
    method: str = "GET",
    protocol: str = "HTTP/1.1",
    keep_alive: bool = True,
    channel: MemoryChannel | None = None,
) -> Request:
    """A request without a body."""
    head = Head(method, "/", protocol, {}, (), keep_alive, 0)
    body = BodyStream(is_complete=True, on_drain=lambda: None)
    return Request(head, ClientInfo("192.0.2.1"), ENDPOINT, body, channel or MemoryChannel())


def without_date(data: bytes) -> bytes:
    """Remove the Date field, which changes every second."""
    return re.sub(rb"\r\nDate: [^\r\n]*", b"", data)
