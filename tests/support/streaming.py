"""Responses that have to arrive while the handler still runs."""

from __future__ import annotations

import socket
import time


def assert_streamed(client: socket.socket) -> None:
    """Read a response to its end: ``one`` has to arrive well before ``two``, which is later."""
    seen, first, last = b"", 0.0, 0.0
    while piece := client.recv(65536):
        seen += piece
        first = first or (time.monotonic() if b"one" in seen else 0.0)
        last = time.monotonic()
    assert b"two" in seen
    assert last - first > 0.25
