"""The spans of a request.

It begins when its head has arrived, because handlers see its number in ``HTTP_TRACEPARENT``. The
spans of the queue and of the guest are made when they have ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from multidict import CIMultiDict
from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)

from wagi.observe.exchange import Exchange
from wagi.observe.traces.attributes import (
    Attributes,
    ServerRequest,
    guest_attributes,
    outbound_attributes,
    plain,
    request_attributes,
    response_attributes,
    server_error,
    span_name,
)
from wagi.observe.traces.propagation import (
    Headers,
    context_of_outbound_request,
    context_of_request,
    replace_context,
    set_context,
)

_NS = 1_000_000_000


class RequestTracer:
    """Makes the spans of requests.

    Args:
        tracer: The tracer of the SDK.
        propagates: Whether trace context is read from requests and passed on.
    """

    def __init__(self, tracer: Tracer, propagates: bool) -> None:
        self._tracer = tracer
        self._propagates = propagates

    def begin(self, request: ServerRequest, headers: Headers, received: float) -> RequestSpan:
        """Begin the span of a request.

        Args:
            request: The request.
            headers: Its header fields, which may name the parent.
            received: When its head arrived, in seconds since the epoch.
        """
        start = int(received * _NS)
        parent = context_of_request(headers) if self._propagates else Context()
        span = self._tracer.start_span(
            span_name(request.method, ""),
            parent,
            SpanKind.SERVER,
            request_attributes(request),
            start_time=start,
        )
        return RequestSpan(self._tracer, span, self._propagates, start)

    def recorder(self, record: Callable[[Exchange], None]) -> Callable[[Exchange], None]:
        """A function that ends the span of an exchange, and passes the exchange on."""

        def end_span(exchange: Exchange) -> None:
            if isinstance(exchange.span, RequestSpan):
                exchange.span.end(exchange)
            record(exchange)

        return end_span


class RequestSpan:
    """The span of a request, and those below it. ``end`` is called once, at last.

    Args:
        tracer: Makes spans.
        span: The span.
        propagates: Whether trace context is passed on.
        start: When it began, in nanoseconds since the epoch.
    """

    def __init__(self, tracer: Tracer, span: Span, propagates: bool, start: int) -> None:
        self._tracer = tracer
        self._span: Span | None = span  # None when it has ended: logs keep this object
        self._identity = span.get_span_context()
        self._propagates = propagates
        self._start = start
        self._started = time.perf_counter()

    @property
    def trace_id(self) -> str:
        """The trace it belongs to: 32 hexadecimal digits."""
        return format_trace_id(self._identity.trace_id)

    @property
    def span_id(self) -> str:
        """Its number in the trace: 16 hexadecimal digits."""
        return format_span_id(self._identity.span_id)

    def headers_for_guest(self, headers: Headers) -> Headers:
        """Replace the trace context of a request by that of this span."""
        return replace_context(headers, self._identity) if self._propagates else headers

    def add_queue(self, seconds: float, failure: str) -> None:
        """Add the span of a wait in the queue that ends now.

        Args:
            seconds: How long the request waited.
            failure: Why it got no slot; empty if it got one.
        """
        attributes: Attributes = {"error.type": failure} if failure else {}
        self._add("queue", seconds, attributes, failure)

    def add_guest(self, seconds: float, exchange: Exchange) -> None:
        """Add the span of a guest that ends now.

        Args:
            seconds: How long it ran.
            exchange: The record of the request.
        """
        attributes = guest_attributes(exchange)
        failed = "error.type" in attributes
        reason = exchange.failure.cause if exchange.failure and failed else ""
        self._add("guest", seconds, attributes, reason)

    def _add(self, name: str, seconds: float, attributes: Attributes, failure: str) -> None:
        if self._span is None or not self._span.is_recording():
            return
        end = self._now()
        span = self._tracer.start_span(
            name, self._context, attributes=attributes, start_time=end - int(seconds * _NS)
        )
        if "error.type" in attributes:
            span.set_status(Status(StatusCode.ERROR, plain(failure)))
        span.end(end)

    def begin_outbound(
        self,
        method: str,
        url: str,
        host: str,
        port: int,
        headers: CIMultiDict[str],
        resend: int,
    ) -> OutboundSpan:
        """Begin the span of an outbound request, and add the headers that name it.

        A handler that traces its own work names a span of this trace in ``traceparent``, which
        becomes the parent. One that names another trace keeps it.

        Args:
            method: The method.
            url: The URL.
            host: Its host.
            port: Its port.
            headers: The header fields, which are changed.
            resend: How many redirects were followed before.
        """
        parent = None
        if self._propagates:
            parent = context_of_outbound_request(headers, self._identity)
        attributes = outbound_attributes(method, url, host, port, resend)
        span = self._tracer.start_span(
            span_name(method, ""),
            parent or self._context,
            SpanKind.CLIENT,
            attributes,
            start_time=self._now(),
        )
        if parent is not None:
            set_context(headers, span.get_span_context())
        return OutboundSpan(span, self._now)

    def end(self, exchange: Exchange) -> None:
        """End the span.

        Args:
            exchange: The record of the request.
        """
        span, self._span = self._span, None
        if span is None or not span.is_recording():
            return
        if exchange.route:
            span.update_name(span_name(exchange.method, exchange.route))
        span.set_attributes(response_attributes(exchange))
        if server_error(exchange):
            reason = exchange.failure.cause if exchange.failure else ""
            span.set_status(Status(StatusCode.ERROR, plain(reason)))
        span.end(self._now())

    @property
    def _context(self) -> Context:
        """The context in which this span is the parent."""
        return set_span_in_context(NonRecordingSpan(self._identity), Context())

    def _now(self) -> int:
        """Nanoseconds since the epoch, by the monotonic clock: spans nest even if time is set."""
        return self._start + int((time.perf_counter() - self._started) * _NS)


class OutboundSpan:
    """The span of an outbound request.

    Args:
        span: The span.
        now: Returns nanoseconds since the epoch.
    """

    def __init__(self, span: Span, now: Callable[[], int]) -> None:
        self._span = span
        self._now = now

    def respond(self, status: int) -> None:
        """End it with the status of the response."""
        self._span.set_attribute("http.response.status_code", status)
        if status >= 400:
            self._fail(str(status), "")
        self._span.end(self._now())

    def fail(self, kind: str, reason: str) -> None:
        """End it without a response.

        Args:
            kind: The kind of error, of which there are few.
            reason: The reason.
        """
        self._fail(kind, reason)
        self._span.end(self._now())

    def _fail(self, kind: str, reason: str) -> None:
        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR, plain(reason)))
