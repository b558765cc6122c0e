"""A server for outbound requests of handlers."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit


class Upstream:
    """A running server.

    Attributes:
        port: Its port.
        requests: Method and path of each request.
        gone: Paths of requests whose connection broke.
    """

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[str] = []
        self.gone: list[str] = []


@contextmanager
def upstream(certificate: tuple[Path, Path] | None = None) -> Iterator[Upstream]:
    """Run a server on all loopback addresses, with TLS if there is a certificate with its key."""
    state = Upstream()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            body = b"".join(self._pieces())
            state.requests.append(f"{self.command} {self.path}")
            try:
                getattr(self, parts.path.strip("/").replace("/", "_") or "echo")(query, body)
            except OSError:
                state.gone.append(self.path)
                self.close_connection = True

        def _pieces(self) -> Iterator[bytes]:
            if self.headers.get("Transfer-Encoding") != "chunked":
                yield self.rfile.read(int(self.headers.get("Content-Length", "0")))
                return
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()

        def echo(self, query: dict[str, str], body: bytes) -> None:
            """Return the request as JSON."""
            seen = {
                "method": self.command,
                "path": self.path,
                "address": self.connection.getsockname()[0],
                "headers": self.headers.items(),
                "body": body.decode(),
            }
            self._send(200, json.dumps(seen).encode(), [("X-Twice", "a"), ("X-Twice", "b")])

        def status(self, query: dict[str, str], body: bytes) -> None:
            self._send(int(query["code"]), b"said so")

        def redirect(self, query: dict[str, str], body: bytes) -> None:
            code = int(query.get("code", "302"))
            self._send(code, b"elsewhere", [("Location", unquote(query["to"]))])

        def loop(self, query: dict[str, str], body: bytes) -> None:
            self._send(302, b"round and round", [("Location", "/loop")])

        def slow(self, query: dict[str, str], body: bytes) -> None:
            time.sleep(float(query["s"]))
            self._send(200, b"at last")

        def large(self, query: dict[str, str], body: bytes) -> None:
            self._send(200, b"x" * int(query["n"]))

        def trickle(self, query: dict[str, str], body: bytes) -> None:
            """Send a byte every tenth of a second, for a minute."""
            self.send_response(200)
            self.send_header("Content-Length", "600")
            self.end_headers()
            for _ in range(600):
                self.wfile.write(b".")
                self.wfile.flush()
                time.sleep(0.1)

        def cut(self, query: dict[str, str], body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"half")
            self.close_connection = True

        def nonsense(self, query: dict[str, str], body: bytes) -> None:
            self.wfile.write(b"nonsense\r\n\r\n")
            self.close_connection = True

        def _send(
            self, status: int, body: bytes, headers: list[tuple[str, str]] | None = None
        ) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers or []:
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _any

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 128

        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("0.0.0.0", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    state.port = server.server_port
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
