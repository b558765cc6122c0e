"""The whole gateway in this process, without a port, for tests and ``wagi call``.

Requests are the bytes that a client would send, and pass through the same code as in a server; only
the transport is a pair of buffers.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from wagi import assembly
from wagi.builds.outdated import outdated_warnings
from wagi.config.settings import Settings
from wagi.errors import Problem, WagiError
from wagi.gateway.answering import answer, reject
from wagi.gateway.concurrency import single_worker
from wagi.gateway.gateway import Gateway
from wagi.gateway.route import Plan
from wagi.guest.budget import MemoryBudget
from wagi.http.options import HttpOptions
from wagi.http.request import Request
from wagi.http.server import HttpServer
from wagi.observe.exchange import Exchange
from wagi.observe.module_log import ModuleLogs
from wagi.storage import temporary_folder

_CANCEL_GRACE_S = 0.01  # for requests that still run when the gateway is closed
_PEER, _OWN = ("127.0.0.1", 50000), ("127.0.0.1", 3000)
# Each connection is handled in its own context, so its records do not mix with those of others.
_RECORDS: ContextVar[list[Exchange]] = ContextVar("records")


_FRAMING = ("connection", "transfer-encoding")


class NoResponseError(WagiError):
    """The connection ended without a response."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, and the record of the exchange.

    Attributes:
        status: The status code.
        reason: The reason phrase.
        headers: Without those of the framing.
        body: The body, as far as it was received.
        is_whole: Whether the response is complete: the connection may have broken off.
        exchange: What the access log gets.
    """

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    is_whole: bool
    exchange: Exchange


class LocalGateway:
    """Answers requests. Thread-safe; requests run concurrently.

    Args:
        plan: The routes.
        gateway: Records exchanges with ``record``.
        options: Limits and time-outs of HTTP.
        warnings: Warnings in addition to those of the plan.

    Attributes:
        plan: The routes.
        warnings: What may be wrong with them.
    """

    def __init__(
        self, plan: Plan, gateway: Gateway, options: HttpOptions, warnings: Sequence[Problem] = ()
    ) -> None:
        self.plan = plan
        self.warnings = (*plan.warnings, *warnings)
        self._gateway = gateway
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wagi", daemon=True)
        self._thread.start()
        self._server = cast(HttpServer, self._run(self._make_server(options)).result())

    async def _make_server(self, options: HttpOptions) -> HttpServer:
        return _Server(partial(answer, self._gateway), partial(reject, self._gateway), options)

    def _run(self, work: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def begin(
        self,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> Future[Answer]:
        """Send a request.

        Args:
            method: The method.
            target: Path and query, sent unchanged.
            headers: Names and values. Host, Connection and Content-Length are added.
            body: The body.

        Returns:
            The answer; it fails with NoResponseError if the connection is closed without one.

        Raises:
            ValueError: The method, target or headers contain a character that they must not.
        """
        data = _request_bytes(method, target, headers, body)
        return cast("Future[Answer]", self._run(self._ask(method, data)))

    def ask(
        self,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> Answer:
        """Send a request and wait for the answer; see ``begin``."""
        return self.begin(method, target, headers, body).result()

    async def _ask(self, method: str, data: bytes) -> Answer:
        records: list[Exchange] = []
        _RECORDS.set(records)
        transport = _Buffers(self._loop)
        connection = self._server()
        connection.connection_made(transport)
        connection.data_received(data)
        await transport.closed
        connection.connection_lost(None)
        if not records:
            raise NoResponseError("the gateway closed the connection without a response")
        return _answer(method, bytes(transport.written), records[0])

    def close(self) -> None:
        """Cancel running requests and stop."""
        self._run(self._close()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        await self._server.shutdown(_CANCEL_GRACE_S)
        await self._gateway.close()


def record(exchange: Exchange) -> None:
    """Store the record of an exchange for its request: the access log of a local gateway."""
    _RECORDS.get().append(exchange)


@contextmanager
def local_gateway(
    settings: Settings,
    file: Path | None,
    report: Callable[[str], None] = lambda text: None,
) -> Iterator[LocalGateway]:
    """Load a route map and answer requests until the block ends.

    Args:
        settings: The settings of the server.
        file: The route map; None for the bindle of the settings.
        report: Called with a line of progress.

    Raises:
        WagiError: The route map cannot be loaded.
    """
    with ExitStack() as stack:
        kept = stack.enter_context(assembly.stores(settings))
        log_dir = stack.enter_context(temporary_folder("logs"))
        # Making a snapshot takes longer than many requests without one.
        plan = assembly.load(settings, file, kept, log_dir, report, makes_snapshots=False)
        keys = {key for route in plan.handlers for key in route.spec.artefacts}
        found = {key: kept.artefacts.find(key) for key in keys}
        artefacts = {key: path for key, path in found.items() if path is not None}
        logs = ModuleLogs(log_dir, settings.log_size)
        stack.callback(logs.close)
        account = MemoryBudget(settings.memory_budget_size, workers=1).open_account()
        assert account is not None  # it is the first one
        limits = stack.enter_context(single_worker(plan.limited_entries))
        gateway = assembly.make_gateway(
            settings, plan, artefacts, logs, account, limits, record, records_guests=True
        )
        warnings = outdated_warnings(file)
        local = LocalGateway(plan, gateway, assembly.http_options(settings), warnings)
        stack.callback(local.close)
        yield local


class _Server(HttpServer):
    """A server that answers requests in the caller's context; see ``_RECORDS``."""

    def enqueue(self, request: Request) -> None:
        request.channel.dispatch(request)


class _Buffers(asyncio.Transport):
    """A connection whose other end is a buffer.

    Attributes:
        written: What the server has sent.
        closed: Done when the server has closed the connection.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__({"peername": _PEER, "sockname": _OWN})
        self.written = bytearray()
        self.closed: asyncio.Future[None] = loop.create_future()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def close(self) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    abort = close

    def is_closing(self) -> bool:
        return self.closed.done()

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: the buffer is unlimited."""

    def pause_reading(self) -> None:
        """Do nothing: the whole request was passed at once."""

    def resume_reading(self) -> None:
        """Do nothing: the whole request was passed at once."""

    def can_write_eof(self) -> bool:
        return False


def _request_bytes(
    method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes
) -> bytes:
    names = {name.lower() for name, _ in headers}
    fields = [*headers, ("Connection", "close")]
    if "host" not in names:
        fields.insert(0, ("Host", "localhost:3000"))
    if (body or method in ("POST", "PUT", "PATCH")) and "content-length" not in names:
        fields.append(("Content-Length", str(len(body))))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    if any(letter in line for line in lines for letter in "\r\n\0"):
        raise ValueError("a request's method, target and headers must not contain line ends or NUL")
    try:
        return "\r\n".join([*lines, "", ""]).encode() + body
    except UnicodeEncodeError:  # surrogates, from command-line arguments that are not UTF-8
        raise ValueError("expected a method, a path and headers that are UTF-8") from None


class _Written:
    """The part of a socket that ``http.client`` needs to read a response."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._data)


def _answer(method: str, data: bytes, exchange: Exchange) -> Answer:
    response = http.client.HTTPResponse(cast(Any, _Written(data)), method=method)
    try:
        response.begin()
    except (http.client.HTTPException, ConnectionError) as error:
        raise NoResponseError(f"no response: {error}") from None
    is_whole = True
    try:
        body = response.read()
    except http.client.IncompleteRead as cut:
        body, is_whole = cut.partial, False
    # The framing and the end of the connection do not come from the handler.
    headers = tuple(item for item in response.getheaders() if item[0].lower() not in _FRAMING)
    return Answer(response.status, response.reason, headers, body, is_whole, exchange)
