"""The request cycle with spans. Without traces, nothing of this runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from wagi.cgi.environment import BadRequest
from wagi.gateway.cycle import RequestCycle
from wagi.gateway.gateway import Gateway
from wagi.guest.wasi.http_session import OutboundRequest
from wagi.http.errors import HTTPError
from wagi.http.request import Request, Target, split_host
from wagi.observe.traces.attributes import ServerRequest

if TYPE_CHECKING:
    from wagi.observe.traces.tracer import RequestSpan, RequestTracer
    from wagi.outbound.client import OutboundClient, OutboundResponse


_INVALID = "-"  # method and target of a request that is not valid HTTP


class TracedRequestCycle(RequestCycle):
    """One request with its span, and spans of its time in the queue and of its guest.

    The span is part of the exchange, and ends when the exchange is recorded.
    """

    def __init__(self, gateway: Gateway, request: Request, tracer: RequestTracer) -> None:
        super().__init__(gateway, request)
        head, exchange = request.head, self.exchange
        self._span = tracer.begin(describe_request(request), head.raw_headers, exchange.received)
        self._guest_started = 0.0  # by time.perf_counter; 0 if no guest was started
        exchange.span = self._span
        # The environment of the guest is built from these.
        request.head = head._replace(raw_headers=self._span.headers_for_guest(head.raw_headers))

    def close(self) -> None:
        """Release all resources of the request and complete its record."""
        super().close()
        if self._guest_started:
            seconds = time.perf_counter() - self._guest_started
            self._span.add_guest(seconds, self.exchange)

    def _find_route(self) -> bool:
        has_handler = super()._find_route()
        if has_handler and self._route.client is not None:
            self._client = _TracedClient(self._route.client, self._span)
        return has_handler

    async def _admit(self) -> None:
        failure = "cancelled"
        try:
            await super()._admit()
            failure = ""
        except HTTPError as error:
            failure = error.reason
            raise
        finally:
            if self.exchange.queue_seconds:
                self._span.add_queue(self.exchange.queue_seconds, failure)

    def _start_guest(self) -> None:
        started = time.perf_counter()
        super()._start_guest()
        self._guest_started = started


class _TracedClient:
    """The HTTP client of one guest.

    Args:
        client: The client of the entry.
        span: The span of the request that the guest answers.

    Attributes:
        max_open: Maximum number of open responses.
    """

    def __init__(self, client: OutboundClient, span: RequestSpan) -> None:
        self.max_open = client.max_open
        self._client = client
        self._span = span

    async def send(self, request: OutboundRequest) -> OutboundResponse:
        """Send a request in a span of its own."""
        return await self._client.send(request, self._span)


def describe_request(request: Request) -> ServerRequest:
    """Return what the span of a request contains from its beginning."""
    head, client, endpoint = request.head, request.client, request.endpoint
    is_valid = head.target != _INVALID
    try:
        path, query, authority = Target.parse(head.method, head.target)
    except BadRequest:
        path, mark, rest = head.target.partition("?")
        query, authority = (rest if mark else None), None
    try:
        host, port = split_host(client.host or authority or head.headers.get("Host", ""))
    except BadRequest:
        host, port = "", None
    return ServerRequest(
        head.method if is_valid else "",
        path if is_valid else "",
        query,
        client.scheme or endpoint.scheme,
        host,
        port,
        head.protocol,
        head.headers.get("User-Agent", ""),
        client.address,
        endpoint.peer,
        endpoint.peer_port,
    )
