"""Error responses, and the records of a request in the server's log."""

from __future__ import annotations

import logging
from http import HTTPStatus

from wagi.gateway.gateway import Observer
from wagi.http.error_page import error_page
from wagi.http.errors import HTTPError
from wagi.http.request import Request
from wagi.http.response import send_text
from wagi.observe.exchange import Exchange
from wagi.observe.text import one_line, paragraph

_CLIENT_ERRORS = (HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
_log = logging.getLogger("wagi")


def send_error(
    observer: Observer | None, request: Request, exchange: Exchange, error: HTTPError
) -> None:
    """Send an error page, and log the reason.

    Args:
        observer: Explains errors on the page to developers; None in production.
        request: The request, to which no response has been begun.
        exchange: Its record.
        error: The error.

    Raises:
        ConnectionError: The client has disconnected.
    """
    exchange.status = error.status.value
    is_server_error = error.status >= 500 and error.status not in _CLIENT_ERRORS
    level = logging.ERROR if is_server_error else logging.DEBUG
    write_log(exchange, level, f"answered {error.status.value}: {error.reason}")
    details = observer.explain(exchange, error) if observer else None
    page = error_page(error, exchange.request_id, exchange.headers.get("Accept", ""), details)
    headers = (("X-Request-Id", exchange.request_id), *page.headers, *error.headers)
    exchange.sent = send_text(
        request, error.status, page.text, headers, error.closes, page.content_type
    )


def write_log(exchange: Exchange, level: int, message: str) -> None:
    """Write a message about a request to the server's log.

    Args:
        exchange: The record of the request.
        level: The level, as in ``logging``.
        message: The message.
    """
    _log.log(
        level,
        "[%s] %s %s, route %s, module %s: %s",
        exchange.request_id,
        exchange.method,
        one_line(exchange.target),
        exchange.route or "none",
        exchange.module or "none",
        paragraph(message),
        extra={"summary": message, "exchange": exchange},  # for commands and JSON
    )
