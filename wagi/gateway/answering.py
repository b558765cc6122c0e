"""Answers a request: runs its cycle, and turns every end of it into a response and a record."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus

from wagi.gateway.cycle import RequestCycle
from wagi.gateway.gateway import Gateway
from wagi.gateway.traced_cycle import TracedRequestCycle
from wagi.http.errors import HTTPError
from wagi.http.request import Request
from wagi.observe.failure import Failure

_CLIENT_CLOSED_REQUEST = 499  # nginx's status 499, for the access log only
_log = logging.getLogger("wagi")


async def answer(gateway: Gateway, request: Request) -> None:
    """Answer a request and log it. Connections run this with ``http.tasks.start``.

    Raises:
        ConnectionError: The response cannot be completed.
    """
    cycle = _make_cycle(gateway, request)
    try:
        try:
            await cycle.run()
        finally:
            cycle.close()
    except HTTPError as error:
        cycle.answer_error(error)
    except (asyncio.CancelledError, ConnectionError) as error:
        if cycle.cancel_reason and isinstance(error, asyncio.CancelledError):
            message = "The request was cancelled."
            unavailable = HTTPStatus.SERVICE_UNAVAILABLE
            cycle.answer_error(HTTPError(unavailable, message, cycle.cancel_reason))
            return
        if not cycle.has_responded:  # clients may close after a complete response
            cycle.exchange.status = _CLIENT_CLOSED_REQUEST
            reason = "the client closed the connection, or the server is stopping"
            cycle.exchange.failure = Failure(reason)
        raise
    except Exception:
        exchange = cycle.exchange
        extra = {"summary": "internal error in the gateway", "exchange": exchange}
        _log.exception("[%s] %s", exchange.request_id, extra["summary"], extra=extra)
        cycle.answer_error(HTTPError(HTTPStatus.INTERNAL_SERVER_ERROR, "The gateway failed."))
    finally:
        if not cycle.is_health_check:  # probes would fill the log
            gateway.access_log(cycle.exchange)


def reject(gateway: Gateway, request: Request, error: HTTPError) -> None:
    """Answer a request that is not valid HTTP, and log it.

    Raises:
        ConnectionError: The client has disconnected.
    """
    cycle = _make_cycle(gateway, request)
    try:
        cycle.answer_error(error)
    finally:
        gateway.access_log(cycle.exchange)


def _make_cycle(gateway: Gateway, request: Request) -> RequestCycle:
    if gateway.tracer is None:
        return RequestCycle(gateway, request)
    return TracedRequestCycle(gateway, request, gateway.tracer)
