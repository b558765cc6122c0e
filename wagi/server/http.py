"""aiohttp's server, with our answer to requests that are no HTTP."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from aiohttp import web

from wagi.delivery import SERVER

_KEEPALIVE = 75.0  # seconds; nginx's default, and longer than its upstream pools keep one
_log = logging.getLogger("wagi")


class HttpServer(web.Server):
    """Makes a connection for each client; a factory for asyncio's servers."""

    def __init__(self, handler: Any) -> None:
        super().__init__(
            handler,
            # A client that goes away cancels the handler, and with it the guest.
            handler_cancellation=True,
            # The body is the guest's to decode: it gets the bytes that CONTENT_LENGTH counts.
            auto_decompress=False,
            access_log=None,
            keepalive_timeout=_KEEPALIVE,
        )

    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)


class Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; tell a handler that reads when its request's body turns out broken.

        aiohttp queues the error behind the request that it belongs to, whose handler would wait
        for the rest of the body until its time is over.
        """
        super().data_received(data)
        request = self._current_request
        if self._messages and request is not None and not request.content.is_eof():
            request.content.set_exception(web.RequestPayloadError("the body is not valid"))

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The page for what aiohttp's parser refuses: its own would quote and explain."""
        if request.writer.output_size > 0:
            raise ConnectionError("a response has been sent already")
        _log.debug("refused a request that is not HTTP: %s", message or exc)
        answer = HTTPStatus(status)
        response = web.Response(
            status=answer,
            text=f"{answer.value} {answer.phrase}\n\nThe request is not valid HTTP.\n",
            headers={"Server": SERVER},
        )
        response.force_close()
        return response
