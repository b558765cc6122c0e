"""Data other than TLS on the TLS port: plain HTTP gets an explanation, all are closed."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.nginx import free_port, nginx
from tests.support.server import ONE_WORKER, Response, Server, read_all, serving
from tests.support.tls import certificate_of
from tests.support.wat import HELLO

GET = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"
EXPLANATION = "HTTPS"
MANIFEST = '[[module]]\nroute = "/hello"\nmodule = "hello.wat"\n'
PLAIN = {
    "GET": GET,
    "GET of HTTP/1.0": b"GET /hello HTTP/1.0\r\n\r\n",
    "POST with a body": b"POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    "DELETE": b"DELETE /hello HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS *": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "two requests": GET * 2,
    "empty lines and a request": b"\r\n\r\n" + GET,
    "a large head": b"GET /hello HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 30_000 + b"\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}
GARBAGE = {
    "bytes that are neither": b"\x00\x01\x02\x03" * 100,
    "text that is no request": b"hello hello\n",
    "SSH": b"SSH-2.0-OpenSSH_9.9\r\n",
    "a broken TLS record": b"\x16\x03\x01\x02\x00" + b"\xff" * 600,
    "a TLS record of another type": b"\x17\x03\x03\x00\x05hello",
    "half a TLS handshake": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "one byte": b"\x16",
    "a letter": b"G",
    "half a line": b"GET /hel",
}


@dataclass(frozen=True)
class TlsServer:
    """A server with a certificate, and the client's TLS context."""

    server: Server
    certificate: Path

    def get_hello(self) -> bytes:
        """Request /hello over TLS; return the response."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        connection = http.client.HTTPSConnection(
            "localhost", self.server.port, context=context, timeout=30
        )
        try:
            connection.request("GET", "/hello")
            return connection.getresponse().read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = certificate_of(folder)
    options = ("--tls-cert", str(certificate), "--tls-key", str(key), "--header-timeout", "1")
    with serving(folder, MANIFEST, *options, modules={"hello.wat": HELLO}) as server:
        yield TlsServer(server, certificate)
        assert "Traceback" not in server.log


def response_of(received: bytes) -> Response:
    """Parse the bytes as one response that ends with the connection."""
    head, _, body = received.partition(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    version, status, _ = line.split(" ", 2)
    assert version in ("HTTP/1.1", "HTTP/1.0"), received
    headers = [
        (name, value.strip()) for name, _, value in (field.partition(":") for field in fields)
    ]
    response = Response(int(status), headers, body)
    if (length := response.header("Content-Length")) is not None:
        assert len(body) == int(length), received
    return response


def sent(port: int, *pieces: bytes) -> bytes:
    """Send bytes and read until the connection is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
        return read_all(connection)


@pytest.mark.parametrize("data", PLAIN.values(), ids=PLAIN)
def test_plain_http_gets_an_explanation(tls: TlsServer, data: bytes) -> None:
    response = response_of(sent(tls.server.port, data))
    assert response.status == 400
    assert EXPLANATION in response.text
    content_type = response.header("Content-Type")
    assert content_type is not None
    assert content_type.startswith("text/plain")
    assert response.header("Connection") == (None if b"HTTP/1.0" in data else "close")
    assert tls.get_hello() == b"hello\n"


def test_byte_by_byte(tls: TlsServer) -> None:
    received = sent(tls.server.port, *(bytes((byte,)) for byte in GET))
    assert response_of(received).status == 400
    assert EXPLANATION.encode() in received


def test_a_client_that_keeps_sending_can_read_it(tls: TlsServer) -> None:
    """A reset because of unread bytes would discard the response at the client."""
    head = b"POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n"
    received = sent(tls.server.port, head, b"x" * 500_000)
    assert response_of(received).status == 400


def test_nginx_responds_with_the_same_status(tls: TlsServer, tmp_path: Path) -> None:
    key, tls_port = tls.certificate.with_name("key.pem"), free_port()
    site = (
        f"ssl_certificate {tls.certificate}; ssl_certificate_key {key};"
        f" server {{ listen 80; }} server {{ listen 127.0.0.1:{tls_port} ssl; }}"
    )
    with nginx(tmp_path / "nginx", site):
        received = sent(tls_port, GET)
    assert response_of(received).status == 400
    assert EXPLANATION.encode() in received


def test_a_client_that_sends_nothing(tls: TlsServer) -> None:
    """It is closed silently at --header-timeout: it may have been about to use TLS."""
    assert sent(tls.server.port) == b""


def test_a_client_that_closes_immediately(tls: TlsServer) -> None:
    for _ in range(20):
        tls.server.connect().close()
    assert tls.get_hello() == b"hello\n"


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_garbage_closes_the_connection(tls: TlsServer, data: bytes) -> None:
    """With a TLS alert, a 400 or silently; no handler runs, and other clients are served."""
    received = sent(tls.server.port, data)
    is_alert = received[:1] == b"\x15"
    assert not received or is_alert or response_of(received).status == 400, received
    assert tls.get_hello() == b"hello\n"


def test_tls_that_arrives_in_pieces(tls: TlsServer) -> None:
    """The first byte decides between TLS and plain HTTP, however much arrives with it."""
    context = ssl.create_default_context(cafile=str(tls.certificate))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with tls.server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                client.do_handshake()
            except ssl.SSLWantReadError:
                send_byte_by_byte(connection, outgoing.read())
                incoming.write(connection.recv(65536))
            else:
                break
        client.write(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        send_byte_by_byte(connection, outgoing.read())
        incoming.write(read_all(connection))
    assert client.read(65536).endswith(b"\r\n\r\nhello\n")


def send_byte_by_byte(connection: socket.socket, data: bytes) -> None:
    for byte in data:
        connection.sendall(bytes((byte,)))


def test_connections_in_a_handshake_are_counted(tmp_path: Path) -> None:
    """They count towards --max-connections, like established connections."""
    certificate, key = certificate_of(tmp_path)
    options = [*ONE_WORKER, "--tls-cert", str(certificate), "--tls-key", str(key)]
    options += ["--max-connections", "5", "--header-timeout", "60"]
    with (
        serving(tmp_path, MANIFEST, *options, modules={"hello.wat": HELLO}) as server,
        ExitStack() as stack,
    ):
        for _ in range(5):
            connection = stack.enter_context(server.connect())
            connection.sendall(b"\x16")  # the first byte of a handshake that is never continued
        time.sleep(0.3)
        for _ in range(5):
            connection = stack.enter_context(server.connect())
            connection.settimeout(20)
            assert read_all(connection) == b""
