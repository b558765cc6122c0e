"""Traces of outbound requests, sent by a handler in C."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.otlp import (
    PARENT,
    Receiver,
    children,
    in_trace,
    one,
    receiver,
    request_span,
    traced,
)
from tests.support.server import Server
from tests.support.toolchains import HANDLERS, compiled
from tests.support.upstream import Upstream, upstream

TRACE = "0af7651916cd43dd8448eb211c80319c"
MANIFEST = """
[[module]]
route = "/any"
module = "outbound.wasm"
allowed_hosts = ["127.0.0.1"]
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture(scope="module")
def backend() -> Iterator[Upstream]:
    with upstream() as running:
        yield running


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, endpoint: Receiver, backend: Upstream
) -> Iterator[Server]:
    modules: dict[str, str | bytes] = {
        "outbound.wasm": compiled(HANDLERS / "outbound.c").read_bytes()
    }
    folder = tmp_path_factory.mktemp("outbound")
    with traced(folder, endpoint.url, manifest=MANIFEST, modules=modules) as running:
        yield running


def ask(server: Server, url: str, client: list[tuple[str, str]], headers: str = "") -> str:
    body = f"GET\n{url}\n{headers}\n".encode()
    answer = server.request("POST", "/any", headers=client, body=body)
    assert answer.status == 200, answer.text
    return answer.text


def sent_headers(text: str) -> dict[str, str]:
    """The headers of the request that the upstream has echoed."""
    echoed = json.loads(text.partition("body\n")[2].partition("\nend ")[0])
    names = [name.lower() for name, _ in echoed["headers"]]
    assert len(names) == len(set(names))
    return {name.lower(): value for name, value in echoed["headers"]}


def test_an_outbound_request(server: Server, endpoint: Receiver, backend: Upstream) -> None:
    """Its span is a client span below that of the request, and is named in its headers."""
    trace, client = in_trace(20)
    client.append(("tracestate", "vendor=one"))
    url = f"http://user:password@127.0.0.1:{backend.port}/echo?sig=secret&a=b"
    headers = sent_headers(ask(server, url, client))
    span = request_span(endpoint, trace, "POST /any")
    outbound = children(endpoint, span)["GET"]
    assert headers["traceparent"] == f"00-{trace}-{outbound.span_id}-01"
    assert headers["tracestate"] == "vendor=one"
    assert "baggage" not in headers
    assert outbound.kind == "client"
    assert not outbound.is_error
    assert outbound.attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.full": f"http://REDACTED:REDACTED@127.0.0.1:{backend.port}/echo?sig=REDACTED&a=b",
        "server.address": "127.0.0.1",
        "server.port": backend.port,
    }
    guest = children(endpoint, span)["guest"]
    assert guest.start <= outbound.start < outbound.end <= guest.end


def test_each_redirect_has_a_span(server: Server, endpoint: Receiver, backend: Upstream) -> None:
    trace, client = in_trace(21)
    headers = sent_headers(
        ask(server, f"http://127.0.0.1:{backend.port}/redirect?to=/echo", client)
    )
    span = request_span(endpoint, trace, "POST /any")
    found = [item for item in endpoint.spans if item.parent_id == span.span_id]
    first, second = (item for item in found if item.kind == "client")
    assert first.attributes["http.response.status_code"] == 302
    assert second.attributes["http.request.resend_count"] == 1
    assert second.span_id in headers["traceparent"]


@pytest.mark.parametrize(("path", "kind"), [("status?code=404", "404"), ("status?code=503", "503")])
def test_an_error_of_the_upstream(
    server: Server, endpoint: Receiver, backend: Upstream, path: str, kind: str
) -> None:
    """It is an error of the client span only."""
    trace, client = in_trace(2200 + int(kind))
    ask(server, f"http://127.0.0.1:{backend.port}/{path}", client)
    span = request_span(endpoint, trace, "POST /any")
    outbound = children(endpoint, span)["GET"]
    assert outbound.is_error
    assert outbound.attributes["error.type"] == kind
    assert not span.is_error


@pytest.mark.parametrize(
    ("url", "kind"),
    [("http://127.0.0.1:1/", "request"), ("http://example.test/", "not_allowed")],
)
def test_an_outbound_request_without_a_response(
    server: Server, endpoint: Receiver, url: str, kind: str
) -> None:
    trace, client = in_trace(2300 + len(url))
    ask(server, url, client)
    span = request_span(endpoint, trace, "POST /any")
    outbound = children(endpoint, span)["GET"]
    assert outbound.is_error
    assert outbound.reason
    assert outbound.attributes["error.type"] == kind


def test_a_handler_with_spans_of_its_own(
    server: Server, endpoint: Receiver, backend: Upstream
) -> None:
    """The span that it names is the parent of ours, whatever flags it has."""
    trace, client = in_trace(24)
    url = f"http://127.0.0.1:{backend.port}/echo"
    headers = sent_headers(ask(server, url, client, f"TraceParent:00-{trace}-{PARENT}-00\n"))
    span = request_span(endpoint, trace, "POST /any")
    outbound = one(endpoint.wait_for(trace_id=trace, name="GET"))
    assert outbound.parent_id == PARENT != span.span_id
    assert headers["traceparent"] == f"00-{trace}-{outbound.span_id}-01"


def test_a_handler_with_a_trace_of_its_own(
    server: Server, endpoint: Receiver, backend: Upstream
) -> None:
    """Its headers are sent as they are; our span stays in the trace of the request."""
    trace, client = in_trace(25)
    own = f"00-{TRACE}-{PARENT}-01"
    url = f"http://127.0.0.1:{backend.port}/echo"
    headers = sent_headers(ask(server, url, client, f"traceparent:{own}\ntracestate:a=b\n"))
    assert (headers["traceparent"], headers["tracestate"]) == (own, "a=b")
    span = request_span(endpoint, trace, "POST /any")
    assert children(endpoint, span)["GET"].kind == "client"


def test_outbound_requests_of_a_trace_that_is_not_sampled(
    server: Server, endpoint: Receiver, backend: Upstream
) -> None:
    """They are marked like that, even if the handler claims otherwise."""
    trace = f"{26:032x}"
    client = [("traceparent", f"00-{trace}-{PARENT}-00")]
    url = f"http://127.0.0.1:{backend.port}/echo"
    for own in ("", f"traceparent:00-{trace}-{PARENT}-01\n"):
        version, seen, span_id, flags = sent_headers(ask(server, url, client, own))[
            "traceparent"
        ].split("-")
        assert (version, seen) == ("00", trace)
        assert span_id != PARENT
        assert not int(flags, 16) & 1
    assert not [span for span in endpoint.spans if span.trace_id == trace]
