"""Clients that read slowly, and clients that do not read."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.tls import certificate_of
from wagi.http.errors import HTTPError
from wagi.http.forwarded import TrustedProxies
from wagi.http.options import HeadLimits, HttpOptions
from wagi.http.request import Request, Target
from wagi.http.server import HttpServer
from wagi.observe.exchange import Exchange
from wagi.static import transfer
from wagi.static.entity_tags import EntityTags
from wagi.static.responder import StaticResponder
from wagi.static.site import Site

SIZE = 24 * 1024**2  # more than the kernel buffers
OPTIONS = HttpOptions(HeadLimits(8192, 65536), 10, 10, 100, TrustedProxies(()))
REQUEST = b"GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@asynccontextmanager
async def serving(
    folder: Path, exchanges: list[Exchange], tls: ssl.SSLContext | None
) -> AsyncIterator[int]:
    """Serve a directory in this process; the port."""
    responder = StaticResponder(Site(folder, "public"), EntityTags())

    async def answer(request: Request) -> None:
        head = request.head
        target = Target.parse(head.method, head.target)
        exchange = Exchange("1", head.method, head.target, head.protocol, "", head.headers)
        exchanges.append(exchange)
        await responder.answer(request, target, target.path, exchange)

    def reject(request: Request, error: HTTPError) -> None:
        raise AssertionError(error)

    http = HttpServer(answer, reject, OPTIONS)
    server = await asyncio.get_running_loop().create_server(http, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        await http.shutdown(1)
        server.close()
        await responder.close()


@pytest.fixture(params=["http", "https"])
def tls(request: pytest.FixtureRequest, tmp_path: Path) -> ssl.SSLContext | None:
    if request.param == "http":
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate_of(tmp_path))
    return context


@pytest.fixture
def public(tmp_path: Path) -> Path:
    folder = tmp_path / "public"
    folder.mkdir()
    with (folder / "big").open("wb") as file:
        file.truncate(SIZE)
    return folder


async def connect(
    port: int, tls: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    client = None
    if tls is not None:
        client = ssl.create_default_context()
        client.check_hostname = False
        client.verify_mode = ssl.CERT_NONE
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    name = "localhost" if tls else None
    return await asyncio.open_connection(sock=sock, ssl=client, server_hostname=name, limit=1024)


def test_a_client_that_does_not_read_is_disconnected(
    public: Path, tls: ssl.SSLContext | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "STALL_TIMEOUT_S", 0.3)
    exchanges: list[Exchange] = []

    async def stall() -> bytes:
        async with serving(public, exchanges, tls) as port:
            reader, writer = await connect(port, tls)
            writer.write(REQUEST)
            received = await reader.readexactly(100)
            async with asyncio.timeout(20):
                while asyncio.all_tasks() - {asyncio.current_task()}:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                    received += await reader.readexactly(SIZE)
            writer.close()
            return received

    asyncio.run(stall())
    assert 0 < exchanges[0].sent < SIZE


def test_a_client_that_reads_slowly_gets_everything(
    public: Path, tls: ssl.SSLContext | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each pause is much shorter than the time-out, all of them together are longer."""
    monkeypatch.setattr(transfer, "STALL_TIMEOUT_S", 1.0)
    exchanges: list[Exchange] = []

    async def read() -> int:
        async with serving(public, exchanges, tls) as port:
            reader, writer = await connect(port, tls)
            writer.write(REQUEST)
            await reader.readuntil(b"\r\n\r\n")
            received = 0
            for _ in range(30):
                received += len(await reader.read(200_000))
                await asyncio.sleep(0.05)
            while data := await reader.read(1_000_000):
                received += len(data)
            writer.close()
            return received

    assert asyncio.run(read()) == SIZE
    assert exchanges[0].sent == SIZE


def test_a_file_system_without_sendfile(public: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(transfer, "_sendfile", unsupported)

    async def read() -> int:
        async with serving(public, [], None) as port:
            reader, writer = await connect(port, None)
            writer.write(REQUEST)
            await reader.readuntil(b"\r\n\r\n")
            received = len(await reader.read())
            writer.close()
            return received

    assert asyncio.run(read()) == SIZE
