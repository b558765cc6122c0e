"""Counts requests and their guests in the metrics of a worker."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from http import HTTPStatus

from wagi.observe.exchange import Exchange
from wagi.observe.metrics.families import (
    DURATION,
    GUEST_CPU,
    GUESTS,
    QUEUE_WAIT,
    REJECTIONS,
    REQUEST_BYTES,
    REQUESTS,
    RESPONSE_BYTES,
)
from wagi.observe.metrics.memory import Page

_METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY")
)
_CODES = frozenset((*(status.value for status in HTTPStatus), 499))
_NO_ROUTE = "none"  # routes begin with a slash
_BOUNDS = DURATION.bounds
_SUM = len(_BOUNDS) + 1  # the cell after the bucket for infinity
_REJECTIONS = {
    HTTPStatus.NOT_FOUND: "no_route",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_TIMEOUT: "request_timeout",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "body_too_large",
    HTTPStatus.REQUEST_URI_TOO_LONG: "target_too_long",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "headers_too_large",
    HTTPStatus.SERVICE_UNAVAILABLE: "overloaded",
}


class RequestMetrics:
    """Counts exchanges, then passes them on. Not thread-safe.

    Args:
        page: Where to count.
        record: Called with each exchange, too.
    """

    def __init__(self, page: Page, record: Callable[[Exchange], None]) -> None:
        self._page = page
        self._cells = page.cells
        self._record = record
        self._requests: dict[tuple[str, str, int], int] = {}
        self._routes: dict[str, tuple[int, int, int, int]] = {}
        self._guests: dict[tuple[str, str], int] = {}
        self._queue_wait = page.place(QUEUE_WAIT)

    def __call__(self, exchange: Exchange) -> None:
        """Count an exchange."""
        cells, route = self._cells, exchange.route or _NO_ROUTE
        method = exchange.method if exchange.method in _METHODS else "other"
        key = route, method, exchange.status
        place = self._requests.get(key)
        if place is None:
            place = self._requests[key] = self._place_requests(*key)
        cells[place] += 1
        places = self._routes.get(route)
        if places is None:
            places = self._routes[route] = self._place_route(route)
        duration, request_bytes, response_bytes, cpu = places
        seconds = exchange.seconds
        cells[duration + bisect_left(_BOUNDS, seconds)] += 1
        cells[duration + _SUM] += seconds
        cells[response_bytes] += exchange.sent
        if exchange.body_size:
            cells[request_bytes] += exchange.body_size
        if exchange.queue_seconds:
            waited = exchange.queue_seconds
            cells[self._queue_wait + bisect_left(_BOUNDS, waited)] += 1
            cells[self._queue_wait + _SUM] += waited
        if exchange.outcome:
            cells[cpu] += exchange.cpu_seconds
            guest = route, exchange.outcome
            place = self._guests.get(guest)
            if place is None:
                place = self._guests[guest] = self._page.place(GUESTS, *guest)
            cells[place] += 1
        elif exchange.failure is not None:
            self._page.add(REJECTIONS, _rejection(exchange.status))
        self._record(exchange)

    def _place_requests(self, route: str, method: str, status: int) -> int:
        code = str(status) if status in _CODES else f"{status // 100}xx"
        return self._page.place(REQUESTS, route, method, code)

    def _place_route(self, route: str) -> tuple[int, int, int, int]:
        place = self._page.place
        return (
            place(DURATION, route),
            place(REQUEST_BYTES, route),
            place(RESPONSE_BYTES, route),
            place(GUEST_CPU, route),
        )


def _rejection(status: int) -> str:
    known = _REJECTIONS.get(status)  # type: ignore[call-overload]
    if known is not None:
        return str(known)
    return "bad_request" if status < 500 else "error"
