"""``--dev``: a page on loopback that shows what handlers see and do, live.

A process of its own serves it, so that it outlives reloads and has what all workers tell: each
sends a datagram for every exchange. It listens on loopback only, and answers only to a browser that
asked for loopback: a page of somebody else that a developer looks at must not read along, nor send.
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
from wagi.server import listening
from wagi.server.signals import HANDLED

_KEPT = 200  # exchanges
_TEXT = 16 * 1024  # characters of each text: a datagram has room for about 200 KiB
_LOOK = 0.5  # seconds between two looks at the parent and at what a reload said
_TRY_TIMEOUT = 120.0  # seconds
_fork = multiprocessing.get_context("fork")


class Teller:
    """Tells the page what happens in a worker."""

    def __init__(self, sender: socket.socket) -> None:
        self._sender = sender

    def tell_routes(self, plan: Plan, url: str) -> None:
        """What is served, and where."""
        rows = [
            {
                "route": route.pattern.text,
                "module": route.spec.name,
                "entrypoint": route.spec.calls[-1].decode(),
            }
            for route in plan.routes
        ]
        self._send({"type": "routes", "url": url, "routes": rows})

    def tell(self, exchange: Exchange) -> None:
        """What a request has become."""
        guest = exchange.guest
        record: dict[str, Any] = {
            "type": "exchange",
            "id": exchange.request_id,
            "method": exchange.method,
            "target": exchange.target[:_TEXT],
            "status": exchange.status,
            "route": exchange.route,
            "module": exchange.module,
            "ms": exchange.seconds * 1000,
            "cpu_ms": exchange.cpu_seconds * 1000,
            "headers": [(name, value[:_TEXT]) for name, value in exchange.headers.items()],
            "guest": None,
        }
        if guest is not None:
            record["guest"] = {
                "argv": [_text(word) for word in guest.argv],
                "variables": sorted(_text(item) for item in guest.variables),
                "stdout": _text(bytes(guest.stdout)),
                "stderr": _text(bytes(guest.stderr)),
                "end": guest.end,
                "trap": guest.trap[:_TEXT],
                "memory": guest.memory,
            }
        self._send(record)

    def _send(self, record: object) -> None:
        # A page that does not keep up, or a record that is too large, is no reason to wait.
        with contextlib.suppress(OSError):
            self._sender.send(json.dumps(record).encode())


def _text(data: bytes) -> str:
    return data[:_TEXT].decode(errors="backslashreplace")


@contextlib.contextmanager
def dev_page(where: HostPort, problem: Callable[[], str]) -> Iterator[tuple[Teller, str]]:
    """Serve the page while the block runs.

    Parameters: ``where`` on loopback; ``problem`` what is wrong with the last reload.
    Returns: the teller for workers, and the page's URL. Raises: WagiError.
    """
    parent = os.getpid()
    receiver, sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in (receiver, sender):
        end.setblocking(False)
    with listening.listen(where, 1) as (door,):
        url = listening.url(door, tls=False)
        page = _Page(receiver, door, problem, parent)
        process = _fork.Process(target=page.run, name="wagi dev", daemon=True)
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)  # until the supervisor takes them
        process.start()
        try:
            yield Teller(sender), url
        finally:
            process.terminate()
            process.join()
            receiver.close()
            sender.close()


class _Page:
    """The process that serves the page."""

    def __init__(
        self,
        receiver: socket.socket,
        door: socket.socket,
        problem: Callable[[], str],
        parent: int,
    ) -> None:
        self._receiver = receiver
        self._door = door
        self._problem = problem
        self._parent = parent
        self._records: deque[bytes] = deque(maxlen=_KEPT)
        self._routes = b""
        self._url = ""
        self._told = b""
        self._watchers: set[asyncio.Queue[bytes]] = set()

    def run(self) -> None:
        """Serve until the parent ends it, or is gone."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
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
        await web.SockSite(runner, self._door).start()
        asyncio.get_running_loop().add_reader(self._receiver, self._receive)
        while os.getppid() == self._parent:
            await asyncio.sleep(_LOOK)
            problem = json.dumps({"type": "problem", "text": self._problem()}).encode()
            if problem != self._told:
                self._told = problem
                self._pass_on(problem)

    def _receive(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := self._receiver.recv(1024 * 1024):
                if data.startswith(b'{"type": "routes"'):
                    self._routes = data
                    self._url = json.loads(data)["url"]
                else:
                    self._records.append(data)
                self._pass_on(data)

    def _pass_on(self, data: bytes) -> None:
        for watcher in self._watchers:
            with contextlib.suppress(asyncio.QueueFull):
                watcher.put_nowait(data)

    async def _guard(self, request: Any, handler: Any) -> Any:
        """Answer only who asked for loopback by name: another name may have been led here."""
        from aiohttp import web

        port = self._door.getsockname()[1]
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

        text = (files("wagi.server") / "dev.html").read_text(encoding="utf-8")
        return web.Response(text=text, content_type="text/html")

    async def _events(self, request: Any) -> Any:
        """What there is, then what comes (server-sent events)."""
        from aiohttp import web

        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        await response.prepare(request)
        queue: asyncio.Queue[bytes] = asyncio.Queue(maxsize=_KEPT)
        self._watchers.add(queue)
        try:
            for data in filter(None, (self._routes, self._told, *self._records)):
                await response.write(b"data: " + data + b"\n\n")
            while True:
                await response.write(b"data: " + await queue.get() + b"\n\n")
        finally:
            self._watchers.discard(queue)

    async def _try(self, request: Any) -> Any:
        """Send a request to the server, as the page's form says."""
        import aiohttp
        from aiohttp import web

        if request.headers.get("X-Wagi-Dev") != "1":  # no other site's page can send this
            raise web.HTTPForbidden(text="expected the page's own script\n")
        fields = await request.json()
        pairs = (line.partition(":") for line in fields["headers"].splitlines() if line.strip())
        headers = [(name.strip(), value.strip()) for name, _, value in pairs]
        timeout = aiohttp.ClientTimeout(total=_TRY_TIMEOUT)
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
                body = (await answer.read())[: 4 * _TEXT].decode(errors="replace")
                return web.Response(text="\n".join([*head, "", body]))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            return web.Response(text=f"no answer: {error}", status=502)


def _connector(url: str) -> tuple[Any, str]:
    """How to reach the server, which may listen on a unix socket."""
    import aiohttp

    if url.startswith("unix:"):
        return aiohttp.UnixConnector(url.removeprefix("unix:")), "http://localhost"
    return None, url


def check_loopback(where: HostPort) -> None:
    """Raises: ConfigurationError unless an address is on loopback."""
    if where.host not in ("127.0.0.1", "localhost", "[::1]") or where.port is None:
        found = f"{where.host or 'all addresses'}:{where.port}"
        raise ConfigurationError(
            Problem(
                "--dev-listen: expected a port of 127.0.0.1, localhost or [::1], for the page shows"
                f" everything; found {found}"
            )
        )
