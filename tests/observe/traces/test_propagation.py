"""Trace context in header fields."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext, TraceFlags, TraceState, get_current_span

from wagi.observe.traces.propagation import (
    context_of_outbound_request,
    context_of_request,
    format_traceparent,
    replace_context,
    set_context,
)

pytestmark = pytest.mark.fast
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
OTHER_SPAN = "00f067aa0ba902b7"


def identity(flags: int = 1, state: str = "") -> SpanContext:
    return SpanContext(
        int(TRACE, 16),
        int(SPAN, 16),
        is_remote=False,
        trace_flags=TraceFlags(flags),
        trace_state=TraceState.from_header([state]),
    )


def named(context: Context) -> SpanContext:
    return get_current_span(context).get_span_context()


def test_the_parent_of_a_request() -> None:
    fields = ((b"Host", b"a"), (b"TraceParent", TRACEPARENT.encode()), (b"tracestate", b"a=b"))
    parent = named(context_of_request(fields))
    assert format_traceparent(parent) == TRACEPARENT
    assert parent.trace_state.to_header() == "a=b"


def test_several_parents_are_none() -> None:
    field = (b"traceparent", TRACEPARENT.encode())
    assert not named(context_of_request((field, field))).is_valid


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_any_bytes(parent: bytes, state: bytes) -> None:
    """Nothing raises, and what is passed on is printable ASCII."""
    fields = ((b"traceparent", parent), (b"tracestate", state))
    context_of_request(fields)
    fields = ((b"traceparent", TRACEPARENT.encode()), (b"tracestate", state))
    found = named(context_of_request(fields))
    for name, value in replace_context(fields, found):
        assert value.decode("ascii").isprintable(), (name, value)


def test_the_context_of_a_request_is_replaced() -> None:
    fields = ((b"Host", b"a"), (b"TraceParent", b"old"), (b"tracestate", b"old"), (b"X", b"y"))
    kept = ((b"Host", b"a"), (b"X", b"y"))
    parent = (b"traceparent", TRACEPARENT.encode())
    assert replace_context(fields, identity()) == (*kept, parent)
    assert replace_context(fields, identity(state="a=b")) == (
        *kept,
        parent,
        (b"tracestate", b"a=b"),
    )


def test_an_outbound_request_without_context() -> None:
    for value in ("", "nonsense"):
        context = context_of_outbound_request(CIMultiDict(traceparent=value), identity())
        assert context is not None
        assert named(context) == identity()


def test_an_outbound_request_of_a_span_of_the_handler() -> None:
    """Its flags have no effect, and its state replaces that of the request."""
    headers = CIMultiDict(TraceParent=f"00-{TRACE}-{OTHER_SPAN}-01", tracestate="c=d")
    context = context_of_outbound_request(headers, identity(flags=0, state="a=b"))
    assert context is not None
    parent = named(context)
    assert format_traceparent(parent) == f"00-{TRACE}-{OTHER_SPAN}-00"
    assert parent.trace_state.to_header() == "c=d"
    del headers["tracestate"]
    context = context_of_outbound_request(headers, identity(state="a=b"))
    assert context is not None
    assert named(context).trace_state.to_header() == "a=b"


def test_an_outbound_request_of_another_trace() -> None:
    headers = CIMultiDict(traceparent=f"00-{'1' * 32}-{OTHER_SPAN}-01")
    assert context_of_outbound_request(headers, identity()) is None


def test_the_context_of_an_outbound_request_is_replaced() -> None:
    headers = CIMultiDict(
        [("x", "y"), ("TraceParent", "old"), ("tracestate", "a"), ("Tracestate", "b")]
    )
    set_context(headers, identity())
    assert dict(headers) == {"x": "y", "traceparent": TRACEPARENT}
    set_context(headers, identity(state="a=b"))
    assert headers["tracestate"] == "a=b"
