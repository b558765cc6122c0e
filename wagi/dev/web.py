"""The HTTP interface of the dev page.

The page listens on loopback only. Pages of other sites, open in the developer's browser, must not
use it: every request has to name a loopback address in ``Host`` (DNS rebinding), and a request that
does something is a POST whose ``Origin`` is the page itself (CSRF).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from aiohttp import web

from wagi.dev.attempt import Attempt, InvalidAttempt, send
from wagi.dev.history import History
from wagi.dev.saving import SaveError, save_case
from wagi.errors import WagiError

_BODY_MAX = 8 * 1024 * 1024  # bytes
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_SCRIPTS = ("page.js", "requests.js", "running.js", "try.js", "commands.js", "dom.js")
_FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/favicon.ico": ("icon.svg", "image/svg+xml"),
    **{f"/{name}": (name, "text/javascript") for name in _SCRIPTS},
}
_HEADERS = {
    "Server": "wagi",
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self';"
        " img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(history: History, folder: Path, port: int) -> web.Application:
    """Make the application.

    Args:
        history: What the page shows.
        folder: The folder of the project, in which cases are saved.
        port: The port of the page.
    """
    hosts = frozenset(f"{name}:{port}" for name in _LOOPBACK)

    @web.middleware
    async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
        check_origin(request, hosts)
        return await handler(request)

    async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(_HEADERS)

    pages = _Pages(history, folder)
    app = web.Application(middlewares=[guard], client_max_size=_BODY_MAX)
    app.on_response_prepare.append(add_headers)
    for path in _FILES:
        app.router.add_get(path, pages.file)
    app.router.add_get("/events", pages.events)
    for path, action in (
        ("/try", pages.attempt),
        ("/cancel", pages.cancel),
        ("/save", pages.save),
        ("/clear", pages.clear),
    ):
        app.router.add_post(path, action)
    return app


def check_origin(request: web.Request, hosts: frozenset[str]) -> None:
    """Reject requests of other sites.

    Args:
        request: The request.
        hosts: The values of ``Host`` that the page is reached by.

    Raises:
        HTTPForbidden: ``Host`` is not one of them, or an action is not requested by the page.
    """
    host = request.headers.get("Host", "")
    if len(request.headers.getall("Host", [])) != 1 or host not in hosts:
        raise web.HTTPForbidden(text="expected the Host header to be localhost and the port\n")
    is_action = request.method not in ("GET", "HEAD")
    if is_action and request.headers.getall("Origin", []) != [f"http://{host}"]:
        raise web.HTTPForbidden(text="expected a request of the page itself\n")


class _Pages:
    """The request handlers.

    Args:
        history: What the page shows.
        folder: The folder of the project.
    """

    def __init__(self, history: History, folder: Path) -> None:
        self._history = history
        self._folder = folder

    async def file(self, request: web.Request) -> web.Response:
        """A file of the page."""
        name, content_type = _FILES[request.path]
        text = (files("wagi.dev") / "static" / name).read_text(encoding="utf-8")
        return web.Response(text=text, content_type=content_type)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """All events so far, then each new one (server-sent events)."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        async for event in self._history.events():
            await response.write(b"data: " + event.encode() + b"\n\n")
        return response

    async def attempt(self, request: web.Request) -> web.StreamResponse:
        """Send a request to the server, and its response as lines of JSON while it arrives."""
        fields = await _fields(request)
        if not self._history.url:
            return _problem(503, "the server has not started yet")
        try:
            attempt = Attempt.parse(fields)
        except InvalidAttempt as error:
            return _problem(400, str(error))
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        async for event in send(attempt, self._history.url):
            await response.write(json.dumps(event).encode() + b"\n")
        return response

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel a running request."""
        key = str((await _fields(request)).get("key"))
        worker = self._history.worker_of(key)
        if not isinstance(worker, asyncio.StreamWriter):
            return _problem(404, "the request has ended already")
        worker.write(json.dumps({"cancel": key}).encode() + b"\n")
        return web.json_response({})

    async def save(self, request: web.Request) -> web.Response:
        """Save a finished request as a case for ``wagi test``."""
        fields = await _fields(request)
        record = self._history.entry(str(fields.get("key")))
        if record is None:
            return _problem(404, "the request is not listed any more")
        try:
            path = save_case(self._folder, str(fields.get("name", "")), record)
        except (SaveError, WagiError) as error:
            return _problem(400, str(error))
        return web.json_response({"path": str(path)})

    async def clear(self, _: web.Request) -> web.Response:
        """Remove all finished requests."""
        self._history.clear()
        return web.json_response({})


async def _fields(request: web.Request) -> dict[str, Any]:
    """The JSON object in the body of a request."""
    try:
        fields = await request.json()
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise web.HTTPBadRequest(text="expected a JSON object\n")
    return fields


def _problem(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)
