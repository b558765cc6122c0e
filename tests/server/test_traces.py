"""Traces: a real server, handlers, and an endpoint that speaks OTLP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

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
from tests.support.toolchains import EXAMPLES
from tests.support.wat import HELLO, SPIN, TEXT_HEAD, Program

TRACE = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = f"00-{TRACE}-{PARENT}-01"
MODULES: dict[str, str | bytes] = {
    "hello.wat": HELLO,
    "environment.wat": (EXAMPLES / "wat/environment.wat").read_text(),
    "stderr.wat": Program().write("note\n", fd=2).write(TEXT_HEAD).wat(),
    "trap.wat": Program().code("unreachable").wat(),
    "late.wat": Program().write(TEXT_HEAD + "x").sleep(300).code("unreachable").wat(),
    "bad.wat": Program().write("Status: 99\n\n").wat(),
    "exit.wat": Program().write(TEXT_HEAD).exit(3).wat(),
    "spin.wat": Program().code(SPIN).wat(),
    "sleep.wat": Program().sleep(700).write(TEXT_HEAD).wat(),
}
LIMITS = {
    "spin": "cpu_timeout = 0.1",
    "queued": "max_concurrency = 1\nqueue_timeout = 10",
    "full": "max_concurrency = 1\nqueue_timeout = 0.2",
    "slow": "timeout = 0.2",
}


def _entry(route: str, module: str) -> str:
    return f'[[module]]\nroute = "/{route}"\nmodule = "{module}"\n{LIMITS.get(route, "")}\n'


MANIFEST = "".join(
    (
        *(_entry(name.removesuffix(".wat"), name) for name in MODULES),
        *(_entry(name, "sleep.wat") for name in ("queued", "full", "slow")),
        _entry("tree/...", "environment.wat"),
    )
)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, endpoint: Receiver) -> Iterator[Server]:
    folder, options = tmp_path_factory.mktemp("traces"), ("--log-format", "json")
    with traced(folder, endpoint.url, *options, manifest=MANIFEST, modules=MODULES) as running:
        yield running


def record(log: list[str], **fields: object) -> dict[str, Any]:
    """The record of a log in JSON with some fields."""
    found: list[dict[str, Any]] = [
        line for line in map(json.loads, log) if fields.items() <= line.items()
    ]
    assert len(found) == 1, (fields, log)
    return found[0]


def test_a_request(server: Server, endpoint: Receiver) -> None:
    """Name and attributes follow the semantic conventions; the guest is a child."""
    trace, headers = in_trace(1)
    headers += [("User-Agent", "test/1.0"), ("Host", "example.test:8080")]
    answer = server.get("/hello?a=b&sig=secret", headers=headers)
    assert answer.status == 200
    span = request_span(endpoint, trace, "GET /hello")
    assert span.parent_id == PARENT
    assert not span.is_error
    request_id = span.attributes.pop("wagi.request_id")
    port = span.attributes.pop("network.peer.port")
    assert 0 < port < 65536
    assert span.attributes == {
        "http.request.method": "GET",
        "http.route": "/hello",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": "/hello",
        "url.query": "a=b&sig=REDACTED",
        "server.address": "example.test",
        "server.port": 8080,
        "client.address": "127.0.0.1",
        "network.peer.address": "127.0.0.1",
        "network.protocol.version": "1.1",
        "user_agent.original": "test/1.0",
        "wagi.module": "hello.wat",
    }
    assert span.resource["service.name"] == "wagi"
    assert span.resource["service.version"]
    assert span.resource["telemetry.sdk.language"] == "python"
    guest = children(endpoint, span)["guest"]
    assert guest.kind == "internal"
    assert guest.attributes["wagi.guest.outcome"] == "completed"
    assert guest.attributes["wagi.guest.memory"] > 0
    assert guest.attributes["wagi.guest.cpu_time"] > 0
    assert span.start <= guest.start < guest.end <= span.end
    access = record(server.wait_for_access(request_id).splitlines(), id=request_id)
    assert (access["trace_id"], access["span_id"]) == (trace, span.span_id)


def test_the_handler_sees_the_span(server: Server, endpoint: Receiver) -> None:
    """In HTTP_TRACEPARENT, in place of that of the client; tracestate is preserved."""
    trace, headers = in_trace(2)
    headers += [("TraceState", "vendor=one"), ("tracestate", "other=two"), ("baggage", "a=b")]
    variables = server.get("/tree/below", headers=headers).variables
    span = request_span(endpoint, trace, "GET /tree/...")
    assert variables["HTTP_TRACEPARENT"] == f"00-{trace}-{span.span_id}-01"
    assert variables["HTTP_TRACESTATE"] == span.state == "vendor=one,other=two"
    assert variables["HTTP_BAGGAGE"] == "a=b"
    assert not [name for name in variables if name.startswith("OTEL")]


def test_a_new_trace(server: Server, endpoint: Receiver) -> None:
    variables = server.get("/environment").variables
    version, trace, span_id, flags = variables["HTTP_TRACEPARENT"].split("-")
    assert version == "00"
    assert int(flags, 16) & 1
    assert "HTTP_TRACESTATE" not in variables
    span = request_span(endpoint, trace, "GET /environment")
    assert (span.span_id, span.parent_id) == (span_id, "")


@pytest.mark.parametrize(
    "value",
    [
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        "x" * 60_000,
        "é\x80",
        "",
    ],
)
def test_an_invalid_parent(server: Server, endpoint: Receiver, value: str) -> None:
    """It and its tracestate are replaced; nothing of them reaches the handler or the log."""
    headers = [("traceparent", value), ("tracestate", "vendor=evil")]
    variables = server.get("/environment", headers=headers).variables
    trace = variables["HTTP_TRACEPARENT"].split("-")[1]
    assert trace != TRACE
    assert "HTTP_TRACESTATE" not in variables
    assert request_span(endpoint, trace, "GET /environment").parent_id == ""
    assert "evil" not in server.log
    assert "maximum length" not in server.log


def test_two_parents_are_invalid(server: Server) -> None:
    headers = [("traceparent", SAMPLED), ("Traceparent", SAMPLED)]
    variables = server.get("/environment", headers=headers).variables
    assert variables["HTTP_TRACEPARENT"].count("-") == 3
    assert TRACE not in variables["HTTP_TRACEPARENT"]


@pytest.mark.parametrize("state", ["=,;\x01", "a=" + "b" * 60_000, ",".join(["a=1"] * 3000)])
def test_an_invalid_state_is_dropped(server: Server, endpoint: Receiver, state: str) -> None:
    trace, headers = in_trace(100 + len(state))
    answer = server.get("/environment", headers=[*headers, ("tracestate", state)])
    if answer.status == 400:  # a control character
        return
    assert "HTTP_TRACESTATE" not in answer.variables
    assert request_span(endpoint, trace, "GET /environment").state == ""


def test_a_parent_that_is_not_sampled(server: Server, endpoint: Receiver) -> None:
    """No span is exported, and the handler sees that."""
    trace = f"{3:032x}"
    headers = [("traceparent", f"00-{trace}-{PARENT}-00")]
    variables = server.get("/environment", headers=headers).variables
    version, seen, span_id, flags = variables["HTTP_TRACEPARENT"].split("-")
    assert (version, seen) == ("00", trace)
    assert span_id != PARENT
    assert not int(flags, 16) & 1
    other, headers = in_trace(4)
    server.get("/hello", headers=headers)
    request_span(endpoint, other, "GET /hello")  # exported later than the first would be
    assert not [span for span in endpoint.spans if span.trace_id == trace]


@pytest.mark.parametrize(
    ("route", "status", "kind", "outcome"),
    [
        ("trap", 500, "trap", "trap"),
        ("bad", 502, "invalid_output", "invalid_output"),
        ("spin", 504, "cpu_timeout", "cpu_timeout"),
        ("slow", 504, "timeout", "timeout"),
    ],
)
def test_a_handler_that_fails(
    server: Server, endpoint: Receiver, route: str, status: int, kind: str, outcome: str
) -> None:
    """The spans of request and guest have the kind of error, the log has their numbers."""
    trace, headers = in_trace(status * 1000 + len(route))
    assert server.get(f"/{route}", headers=headers).status == status
    span = request_span(endpoint, trace, f"GET /{route}")
    assert span.is_error
    assert span.reason
    assert span.attributes["error.type"] == kind
    assert span.attributes["http.response.status_code"] == status
    guest = children(endpoint, span)["guest"]
    assert guest.is_error
    assert guest.attributes["wagi.guest.outcome"] == outcome
    server.wait_for_log(span.span_id)
    logged = record(server.log.splitlines(), span_id=span.span_id)
    assert (logged["trace_id"], logged["status"]) == (trace, status)
    assert logged["outcome"] == outcome


def test_a_response_that_breaks_off(server: Server, endpoint: Receiver) -> None:
    """It is an error, although the status that was sent is 200."""
    trace, headers = in_trace(6)
    with pytest.raises(Exception, match=r".*"):
        server.get("/late", headers=headers)
    span = request_span(endpoint, trace, "GET /late")
    assert span.is_error
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["error.type"] == "trap"


@pytest.mark.parametrize(
    ("method", "path", "status", "name"),
    [
        ("GET", "/missing", 404, "GET"),
        ("PROPFIND", "/hello", 200, "HTTP /hello"),
        ("GET", "/exit", 200, "GET /exit"),
        ("GET", "/a/../b", 400, "GET"),
    ],
)
def test_what_is_no_error_of_the_server(
    server: Server, endpoint: Receiver, method: str, path: str, status: int, name: str
) -> None:
    trace, headers = in_trace(7000 + status + len(path))
    assert server.request(method, path, headers=headers).status == status
    span = request_span(endpoint, trace, name)
    assert not span.is_error
    assert "error.type" not in span.attributes
    assert span.attributes["http.response.status_code"] == status
    if method == "PROPFIND":
        assert span.attributes["http.request.method"] == "_OTHER"
        assert span.attributes["http.request.method_original"] == "PROPFIND"


def test_bytes_that_are_not_utf_8(server: Server, endpoint: Receiver) -> None:
    """They must not make the export of other spans fail."""
    trace = f"{8:032x}"
    head = f"GET /hello HTTP/1.1\r\nHost: a\r\nUser-Agent: \xff{'x' * 9000}\r\n"
    head += f"traceparent: 00-{trace}-{PARENT}-01\r\nConnection: close\r\n\r\n"
    assert server.raw(head.encode("latin-1")).startswith(b"HTTP/1.1 200")
    span = request_span(endpoint, trace, "GET /hello")
    assert span.attributes["user_agent.original"].startswith("\\xffxxx")
    assert len(span.attributes["user_agent.original"]) < 3000


def test_a_client_that_goes_away(server: Server, endpoint: Receiver) -> None:
    trace, _ = in_trace(9)
    with server.connect() as connection:
        head = f"GET /sleep HTTP/1.1\r\nHost: a\r\ntraceparent: 00-{trace}-{PARENT}-01\r\n\r\n"
        connection.sendall(head.encode())
        time.sleep(0.2)
    span = request_span(endpoint, trace, "GET /sleep")
    assert span.is_error
    assert span.attributes["error.type"] == "client_closed_request"
    assert "http.response.status_code" not in span.attributes
    assert children(endpoint, span)["guest"].attributes["wagi.guest.outcome"] == "cancelled"


def test_probes_have_no_spans(server: Server, endpoint: Receiver) -> None:
    trace, headers = in_trace(10)
    assert server.get("/healthz", headers=headers).status == 200
    other, headers = in_trace(11)
    server.get("/hello", headers=headers)
    request_span(endpoint, other, "GET /hello")
    assert not [span for span in endpoint.spans if span.trace_id == trace]


def test_time_in_the_queue(server: Server, endpoint: Receiver) -> None:
    """It is a child of the request that waited."""
    traces = [in_trace(number) for number in (12, 13)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda item: server.get("/queued", headers=item[1]), traces))
    spans = [request_span(endpoint, trace, "GET /queued") for trace, _ in traces]
    queues = [children(endpoint, span).get("queue") for span in spans]
    (queue,) = (item for item in queues if item is not None)
    assert queue.end - queue.start > 200_000_000
    assert not queue.is_error
    waited = one([span for span in spans if span.span_id == queue.parent_id])
    guest = children(endpoint, waited)["guest"]
    assert waited.start <= queue.start < queue.end <= guest.start < guest.end <= waited.end


def test_a_full_queue(server: Server, endpoint: Receiver) -> None:
    traces = [in_trace(number) for number in (14, 15)]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda item: server.get("/full", headers=item[1]), traces))
    assert sorted(answer.status for answer in answers) == [200, 503]
    rejected = [
        trace for (trace, _), answer in zip(traces, answers, strict=True) if answer.status == 503
    ]
    span = request_span(endpoint, rejected[0], "GET /full")
    assert span.is_error
    assert span.attributes["error.type"] == "503"
    below = children(endpoint, span)
    assert list(below) == ["queue"]
    assert below["queue"].is_error
    assert "queue_timeout" in below["queue"].reason


def test_stderr_of_a_handler_names_the_span(server: Server, endpoint: Receiver) -> None:
    trace, headers = in_trace(16)
    server.get("/stderr", headers=headers)
    span = request_span(endpoint, trace, "GET /stderr")
    server.wait_for_log(span.span_id)
    line = record(server.log.splitlines(), span_id=span.span_id)
    assert (line["trace_id"], line["message"]) == (trace, "note")
