"""Trace context in header fields: which span is the parent, and which one is named (W3C).

https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

from multidict import CIMultiDict
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

Headers = tuple[tuple[bytes, bytes], ...]
_TRACEPARENT, _TRACESTATE = "traceparent", "tracestate"
_FIELDS = (_TRACEPARENT.encode(), _TRACESTATE.encode())
_propagator = TraceContextTextMapPropagator()


def context_of_request(headers: Headers) -> Context:
    """The context in which the span that a request names is the parent."""
    return _propagator.extract(headers, Context(), _RequestFields())


def replace_context(headers: Headers, identity: SpanContext) -> Headers:
    """Replace the trace context of a request.

    Args:
        headers: The header fields of the request.
        identity: The span that they name afterwards.
    """
    kept = tuple(field for field in headers if field[0].lower() not in _FIELDS)
    values = (format_traceparent(identity), identity.trace_state.to_header())
    named = zip(_FIELDS, values, strict=True)
    return (*kept, *((name, value.encode()) for name, value in named if value))


def context_of_outbound_request(headers: CIMultiDict[str], request: SpanContext) -> Context | None:
    """Find the parent of an outbound request.

    A handler that traces its own work names a span of the trace of its request in ``traceparent``,
    which becomes the parent.

    Args:
        headers: The header fields that the handler has set.
        request: The span of the request that the handler answers.

    Returns:
        The context of the parent; None if the handler names another trace, which is left alone.
    """
    context = _propagator.extract(headers, Context(), _OutboundFields())
    named = get_current_span(context).get_span_context()
    if not named.is_valid:
        return set_span_in_context(NonRecordingSpan(request), Context())
    if named.trace_id != request.trace_id:
        return None
    # With the flags of the request: a handler does not decide what is sampled.
    parent = SpanContext(
        named.trace_id,
        named.span_id,
        is_remote=True,
        trace_flags=request.trace_flags,
        trace_state=named.trace_state or request.trace_state,
    )
    return set_span_in_context(NonRecordingSpan(parent), Context())


def set_context(headers: CIMultiDict[str], identity: SpanContext) -> None:
    """Make the header fields of an outbound request name a span."""
    headers.popall(_TRACESTATE, None)
    headers[_TRACEPARENT] = format_traceparent(identity)
    if identity.trace_state:
        headers[_TRACESTATE] = identity.trace_state.to_header()


def format_traceparent(identity: SpanContext) -> str:
    """Format the value of ``traceparent``."""
    return (
        f"00-{format_trace_id(identity.trace_id)}-{format_span_id(identity.span_id)}"
        f"-{identity.trace_flags:02x}"
    )


class _RequestFields(Getter[Headers]):
    """Reads header fields; several ``traceparent`` fields are invalid, like a malformed one."""

    def get(self, carrier: Headers, key: str) -> list[str] | None:
        wanted = key.encode()
        values = [value.decode("latin-1") for name, value in carrier if name.lower() == wanted]
        return None if not values or (len(values) > 1 and key == _TRACEPARENT) else values

    def keys(self, carrier: Headers) -> list[str]:
        return [name.decode("latin-1") for name, _ in carrier]


class _OutboundFields(Getter[CIMultiDict[str]]):
    """The same for the header fields of an outbound request."""

    def get(self, carrier: CIMultiDict[str], key: str) -> list[str] | None:
        values = carrier.getall(key, [])
        return None if not values or (len(values) > 1 and key == _TRACEPARENT) else list(values)

    def keys(self, carrier: CIMultiDict[str]) -> list[str]:
        return list(carrier)
