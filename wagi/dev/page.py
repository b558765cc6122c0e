"""``--dev``: a page on loopback that shows live what handlers receive and do.

A separate process serves the page, so that it survives reloads and collects the exchanges of all
workers; each worker sends a datagram per exchange. The page listens on loopback only and checks the
``Host`` header: a page of another site, open in the developer's browser, can neither read from it
nor send to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any

from wagi.config.values import HostPort
from wagi.errors import ConfigurationError, Problem
from wagi.gateway.route import Plan
from wagi.observe.exchange import Exchange
from wagi.server import listeners
from wagi.server.signals import HANDLED, reset_signals

_EXCHANGES_MAX = 200  # on the page, and queued for a browser
_TEXT_MAX = 16 * 1024  # characters of each text: a datagram holds about 200 KiB
_POLL_INTERVAL_S = 0.5  # how often the parent and the last reload's error are checked
_TRY_TIMEOUT_S = 120.0
_fork = multiprocessing.get_context("fork")


class Publisher:
    """Sends what happens in a worker to the dev page.

    Args:
        sender: A non-blocking datagram socket.
    """

    def __init__(self, sender: socket.socket) -> None:
        self._sender = sender

    def publish_routes(self, plan: Plan, url: str) -> None:
        """Send the routes.

        Args:
            plan: The routes.
            url: Where the server listens.
        """
        rows = [
            {
                "route": route.pattern.text,
                "module": route.name,
                "entrypoint": route.entrypoint,
            }
            for route in plan.routes
        ]
        self._send({"type": "routes", "url": url, "routes": rows})

    def publish(self, exchange: Exchange) -> None:
        """Send the record of a finished request."""
        guest = exchange.guest
        record: dict[str, Any] = {
            "type": "exchange",
            "id": exchange.request_id,
            "method": exchange.method,
            "target": exchange.target[:_TEXT_MAX],
            "status": exchange.status,
            "route": exchange.route,
            "module": exchange.module,
            "ms": exchange.seconds * 1000,
            "cpu_ms": exchange.cpu_seconds * 1000,
            "headers": [(name, value[:_TEXT_MAX]) for name, value in exchange.headers.items()],
            "guest": None,
        }
        if guest is not None:
            record["guest"] = {
                "argv": [_text(word) for word in guest.argv],
                "variables": sorted(_text(item) for item in guest.variables),
                "stdout": _text(bytes(guest.stdout)),
                "stderr": _text(bytes(guest.stderr)),
                "end": guest.end,
                "trap": (guest.trap or "")[:_TEXT_MAX],
                "memory": guest.memory,
            }
        self._send(record)

    def _send(self, record: object) -> None:
        # Never wait for the page: a record that does not fit, or that comes too fast, is dropped.
        with contextlib.suppress(OSError):
            self._sender.send(json.dumps(record).encode())


def _text(data: bytes) -> str:
    return data[:_TEXT_MAX].decode(errors="backslashreplace")


@contextlib.contextmanager
def dev_page(address: HostPort, problem: Callable[[], str]) -> Iterator[tuple[Publisher, str]]:
    """Serve the page while the block runs.

    Args:
        address: On loopback; see ``check_loopback``.
        problem: Returns the error of the last reload; an empty string if it succeeded.

    Yields:
        The publisher for the workers, and the URL of the page.

    Raises:
        WagiError: The address cannot be used.
    """
    parent = os.getpid()
    receiver, sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in (receiver, sender):
        end.setblocking(False)
    with listeners.listen(address, 1, "--dev-listen") as (listener,):
        url = listeners.url(listener, tls=False)
        page = _Page(receiver, listener, problem, parent)
        process = _fork.Process(target=page.run, name="wagi dev", daemon=True)
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)  # until the supervisor handles them
        process.start()
        try:
            yield Publisher(sender), url
        finally:
            process.terminate()
            process.join()
            receiver.close()
            sender.close()


class _Page:
    """The process that serves the page.

    Args:
        receiver: The datagrams of the workers come from it.
        listener: The listening socket of the page.
        problem: Returns the error of the last reload; empty if it succeeded.
        parent: The process ID of the supervisor; the page ends with it.
    """

    def __init__(
        self,
        receiver: socket.socket,
        listener: socket.socket,
        problem: Callable[[], str],
        parent: int,
    ) -> None:
        self._receiver = receiver
        self._listener = listener
        self._problem = problem
        self._parent = parent
        self._records: deque[bytes] = deque(maxlen=_EXCHANGES_MAX)
        self._routes = b""
        self._url = ""
        self._last_problem = b""
        self._browsers: set[asyncio.Queue[bytes]] = set()

    def run(self) -> None:
        """Serve until the parent terminates this process or dies."""
        reset_signals()
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        from aiohttp import web

        @web.middleware
        async def guard(request: web.Request, handler: Any) -> Any:
            return await self._guard(request, handler)

        app = web.Application(middlewares=[guard])
        app.router.add_get("/", self._page)
        app.router.add_get("/events", self._events)
        app.router.add_post("/try", self._try)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.SockSite(runner, self._listener).start()
        asyncio.get_running_loop().add_reader(self._receiver, self._receive)
        while os.getppid() == self._parent:
            await asyncio.sleep(_POLL_INTERVAL_S)
            problem = json.dumps({"type": "problem", "text": self._problem()}).encode()
            if problem != self._last_problem:
                self._last_problem = problem
                self._broadcast(problem)

    def _receive(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := self._receiver.recv(1024 * 1024):
                if data.startswith(b'{"type": "routes"'):
                    self._routes = data
                    self._url = json.loads(data)["url"]
                else:
                    self._records.append(data)
                self._broadcast(data)

    def _broadcast(self, data: bytes) -> None:
        for browser in self._browsers:
            with contextlib.suppress(asyncio.QueueFull):
                browser.put_nowait(data)

    async def _guard(self, request: Any, handler: Any) -> Any:
        """Reject requests whose Host is not a loopback name (DNS rebinding)."""
        from aiohttp import web

        port = self._listener.getsockname()[1]
        hosts = {f"{name}:{port}" for name in ("localhost", "127.0.0.1", "[::1]")}
        if request.headers.get("Host") not in hosts:
            raise web.HTTPForbidden(text="expected localhost\n")
        response = await handler(request)
        if not response.prepared:
            response.headers["Content-Security-Policy"] = (
                "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
                " connect-src 'self'; frame-ancestors 'none'"
            )
        return response

    async def _page(self, _: Any) -> Any:
        from aiohttp import web

        text = (files("wagi.dev") / "page.html").read_text(encoding="utf-8")
        return web.Response(text=text, content_type="text/html")

    async def _events(self, request: Any) -> Any:
        """Send all events so far, then each new one (server-sent events)."""
        from aiohttp import web

        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        await response.prepare(request)
        queue: asyncio.Queue[bytes] = asyncio.Queue(maxsize=_EXCHANGES_MAX)
        self._browsers.add(queue)
        try:
            for data in filter(None, (self._routes, self._last_problem, *self._records)):
                await response.write(b"data: " + data + b"\n\n")
            while True:
                await response.write(b"data: " + await queue.get() + b"\n\n")
        finally:
            self._browsers.discard(queue)

    async def _try(self, request: Any) -> Any:
        """Send the request of the page's form to the server."""
        import aiohttp
        from aiohttp import web

        if request.headers.get("X-Wagi-Dev") != "1":  # other sites would need a CORS preflight
            raise web.HTTPForbidden(text="expected the page's own script\n")
        fields = await request.json()
        pairs = (line.partition(":") for line in fields["headers"].splitlines() if line.strip())
        headers = [(name.strip(), value.strip()) for name, _, value in pairs]
        timeout = aiohttp.ClientTimeout(total=_TRY_TIMEOUT_S)
        path = fields["path"] if fields["path"].startswith("/") else "/" + fields["path"]
        connector, url = _connector(self._url)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, connector=connector) as session,
                session.request(
                    fields["method"],
                    url + path,
                    headers=headers,
                    data=fields["body"].encode() or None,
                    allow_redirects=False,
                    ssl=False,
                ) as answer,
            ):
                head = [f"HTTP/1.1 {answer.status} {answer.reason}"]
                head += [f"{name}: {value}" for name, value in answer.headers.items()]
                body = (await answer.read())[: 4 * _TEXT_MAX].decode(errors="replace")
                return web.Response(text="\n".join([*head, "", body]))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            return web.Response(text=f"no answer: {error}", status=502)


def _connector(url: str) -> tuple[Any, str]:
    """The connector and base URL for the server, which may listen on a Unix socket."""
    import aiohttp

    if url.startswith("unix:"):
        return aiohttp.UnixConnector(url.removeprefix("unix:")), "http://localhost"
    return None, url


def check_loopback(address: HostPort) -> None:
    """Check an address for the dev page.

    Raises:
        ConfigurationError: It is not on loopback, or has no port.
    """
    if address.host not in ("127.0.0.1", "localhost", "[::1]") or address.port is None:
        found = f"{address.host or 'all addresses'}:{address.port}"
        raise ConfigurationError(
            Problem(
                "--dev-listen: expected a port of 127.0.0.1, localhost or [::1], because the page"
                f" shows everything; found {found}"
            )
        )
