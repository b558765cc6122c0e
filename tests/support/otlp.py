"""An OTLP endpoint: a server that keeps the spans it receives."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.support.server import Server, serving

PARENT = "b7ad6b7169203331"
"""The span of a client."""


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as it was received."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    state: str
    is_error: bool
    reason: str
    start: int
    end: int
    attributes: dict[str, Any]
    resource: dict[str, Any]


@dataclass
class Receiver:
    """A running endpoint.

    Attributes:
        url: Its URL.
        spans: The spans, in the order of their ends.
        headers: The header fields of each export.
        status: Status of its responses.
        delay: Seconds before each response.
    """

    url: str = ""
    spans: list[ReceivedSpan] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    status: int = 200
    delay: float = 0.0

    def wait_for(self, count: int = 1, seconds: float = 20.0, **match: Any) -> list[ReceivedSpan]:
        """Wait until there are some spans with these values; return them."""
        deadline = time.monotonic() + seconds
        while True:
            found = [
                span
                for span in list(self.spans)
                if all(getattr(span, name) == value for name, value in match.items())
            ]
            if len(found) >= count:
                return found
            assert time.monotonic() < deadline, (match, [span.name for span in self.spans])
            time.sleep(0.02)

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = _attributes(resource.resource.attributes)
            for scope in resource.scope_spans:
                self.spans += [_received(span, about) for span in scope.spans]


@contextmanager
def receiver(port: int = 0) -> Iterator[Receiver]:
    """Run an endpoint on loopback."""
    state = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.headers.append({k.lower(): v for k, v in self.headers.items()})
            time.sleep(state.delay)
            if state.status == 200 and self.path == "/v1/traces":
                is_zipped = self.headers.get("Content-Encoding") == "gzip"
                state.take(gzip.decompress(body) if is_zipped else body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(state.status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def traced(
    folder: Path,
    endpoint: str,
    *options: str,
    manifest: str,
    modules: Mapping[str, str | bytes],
    variables: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Serve with traces, which are exported soon."""
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        **(variables or {}),
    }
    with serving(folder, manifest, *options, modules=modules, environment=environment) as server:
        yield server


def one(found: list[ReceivedSpan]) -> ReceivedSpan:
    (span,) = found
    return span


def children(endpoint: Receiver, parent: ReceivedSpan) -> dict[str, ReceivedSpan]:
    """The spans below a span, by name; they are exported with it or before."""
    return {span.name: span for span in list(endpoint.spans) if span.parent_id == parent.span_id}


def request_span(endpoint: Receiver, trace: str, name: str) -> ReceivedSpan:
    return one(endpoint.wait_for(trace_id=trace, name=name, kind="server"))


def in_trace(number: int) -> tuple[str, list[tuple[str, str]]]:
    """A trace, and the header of a client that is part of it."""
    trace = f"{number:032x}"
    return trace, [("traceparent", f"00-{trace}-{PARENT}-01")]


def _received(span: Any, resource: dict[str, Any]) -> ReceivedSpan:
    return ReceivedSpan(
        name=span.name,
        kind=span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        state=span.trace_state,
        is_error=span.status.code == 2,
        reason=span.status.message,
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        attributes=_attributes(span.attributes),
        resource=resource,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
