"""A proxy that simulates faults of networks and servers."""

from __future__ import annotations

import http.client
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from tests.support.registry import background


class Faults:
    """The faults for the next requests whose path contains ``part``; later ones are forwarded.

    A fault is ``cut`` (half of the body, then the end), ``corrupt`` (a changed byte), ``more``
    (bytes beyond the announced length), ``stall`` (half of the body, then a long pause), ``reset``
    (no response), or a status such as ``429``.
    """

    def __init__(self) -> None:
        self.part = ""
        self.planned: deque[str] = deque()
        self.seen: list[tuple[str, str, str]] = []  # method, path, Range
        self.port = 0

    def plan(self, part: str, *faults: str) -> None:
        self.part = part
        self.planned = deque(faults)
        self.seen.clear()


@contextmanager
def faulty_proxy(port: int) -> Iterator[Faults]:
    """Run a proxy in front of a port of loopback."""
    faults = Faults()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            wanted = self.headers.get("Range", "")
            faults.seen.append((self.command, self.path, wanted))
            hit = faults.planned and faults.part in self.path
            fault = faults.planned.popleft() if hit else ""
            if fault == "reset":
                self.close_connection = True
                return
            if fault.isdigit():
                self.send_response(int(fault))
                if fault == "429":
                    self.send_header("Retry-After", "1")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            length = int(self.headers.get("Content-Length", "0"))
            body = self.rfile.read(length)
            connection = http.client.HTTPConnection("127.0.0.1", port)
            headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
            connection.request(self.command, self.path, body or None, headers)
            response = connection.getresponse()
            content = response.read()
            self._answer(response, content, fault)
            connection.close()

        def _answer(self, response: http.client.HTTPResponse, content: bytes, fault: str) -> None:
            if fault == "corrupt":
                content = content[:-1] + bytes([content[-1] ^ 1])
            if fault == "more":
                content += b"x"
            self.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() not in ("content-length", "connection", "date", "server"):
                    self.send_header(name, value)
            length = response.getheader("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if fault in ("cut", "stall"):
                self.wfile.write(content[: len(content) // 2])
                self.wfile.flush()
                time.sleep(60 if fault == "stall" else 0)
                self.close_connection = True
                return
            self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = _forward

        def log_message(self, *_: object) -> None:
            pass

    with background(Handler) as faults.port:
        yield faults
