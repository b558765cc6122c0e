"""The server of the webhook: HTTPS for the API server, and probes for the kubelet.

======= ====================================================================
/mutate answers an AdmissionReview (POST)
/livez  200 while the server runs
/readyz 200 while it has a certificate and does not shut down, otherwise 503
======= ====================================================================
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable

from aiohttp import web

from wagi.errors import WagiError
from wagi.server.tls import Certificate, load_certificate, tls_context
from wagi.webhook.errors import InvalidReview
from wagi.webhook.gateway import GatewayOptions
from wagi.webhook.review import answer

_MAX_SIZE = 4 * 1024**2  # bytes of a review: two pods of at most 1.5 MiB, the limit of etcd
_LARGE = 64 * 1024  # bytes of a review that is larger than usual
_MAX_LARGE = 4  # such reviews that are received at the same time: they take memory
_BODY_TIMEOUT_S = 10.0  # the API server waits for at most 30 s
_DRAIN_TIMEOUT_S = 10.0
_MAX_RETRY_S = 30.0
_FIRST_RETRY_S = 1.0

log = logging.getLogger(__name__)

Refresh = Callable[[], Awaitable[Certificate]]
"""Returns the certificate to use from now on; raises WagiError."""


class WebhookServer:
    """Serves reviews with a certificate that is renewed while it runs.

    Args:
        listener: The listening socket.
        gateway: How gateways run.
        refresh: Returns the certificate.
        refresh_interval: Seconds between two calls of ``refresh``.
        shutdown_delay: Seconds after SIGTERM in which connections are still accepted.
    """

    def __init__(
        self,
        listener: socket.socket,
        gateway: GatewayOptions,
        refresh: Refresh,
        refresh_interval: float,
        shutdown_delay: float,
    ) -> None:
        self._listener = listener
        self._gateway = gateway
        self._refresh = refresh
        self._refresh_interval = refresh_interval
        self._shutdown_delay = shutdown_delay
        self._stopping = asyncio.Event()
        self._large = asyncio.Semaphore(_MAX_LARGE)
        self._certificate: Certificate | None = None
        self._context: ssl.SSLContext | None = None

    async def serve(self, on_ready: Callable[[], None]) -> None:
        """Serve until SIGTERM or SIGINT.

        Args:
            on_ready: Called when the server accepts reviews.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        context = await self._first_certificate()
        if context is None:
            return
        runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=_DRAIN_TIMEOUT_S)
        await runner.setup()
        await web.SockSite(runner, self._listener, ssl_context=context).start()
        on_ready()
        renewal = asyncio.create_task(self._renew())
        await self._stopping.wait()
        log.info("shutting down")
        # Until the endpoints of the service have changed, the API server still connects.
        await asyncio.sleep(self._shutdown_delay)
        renewal.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await renewal
        await runner.cleanup()

    async def _first_certificate(self) -> ssl.SSLContext | None:
        """Wait for a certificate. Returns: None if the server is stopped before."""
        delay = _FIRST_RETRY_S
        while not await self._update():
            if await self._stops_within(delay):
                return None
            delay = min(delay * 2, _MAX_RETRY_S)
        return self._context

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_interval)
            await self._update()

    async def _update(self) -> bool:
        """Use the newest certificate. Returns: False if that fails, which is logged."""
        try:
            certificate = await self._refresh()
            if self._context is None:
                self._context = tls_context(certificate)
            elif certificate != self._certificate:
                load_certificate(self._context, certificate)  # for new connections
        except (WagiError, OSError, ValueError) as error:
            log.error("certificate: %s", error)
            return False
        self._certificate = certificate
        return True

    async def _stops_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return self._stopping.is_set()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=_MAX_SIZE)
        app.on_response_prepare.append(_hide_versions)
        app.router.add_post("/mutate", self._mutate)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        return app

    async def _livez(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        if self._stopping.is_set():
            return web.Response(status=503, text="shutting down\n")
        return web.Response(text="ok\n")

    async def _mutate(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            return _bad_request("expected Content-Type: application/json")
        try:
            async with asyncio.timeout(_BODY_TIMEOUT_S):
                content = await self._read(request)
        except TimeoutError:
            return _bad_request("the review was not received in time")
        try:
            result = answer(content, self._gateway)
        except InvalidReview as error:
            return _bad_request(str(error))
        except Exception as error:
            log.error("cannot answer a review: %s: %s", type(error).__name__, error)
            return web.Response(status=500, text="internal error\n")
        if result.log:
            log.info("%s", result.log)
        return web.json_response(result.review)

    async def _read(self, request: web.Request) -> bytes:
        if request.content_length is not None and request.content_length <= _LARGE:
            return await request.read()
        async with self._large:
            return await request.read()


def _bad_request(message: str) -> web.Response:
    response = web.Response(status=400, text=f"{message}\n")
    response.force_close()  # the rest of its body is not read
    return response


async def _hide_versions(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "wagi"
