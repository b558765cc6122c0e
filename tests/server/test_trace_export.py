"""Traces: variables, the endpoint, and processes."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.nginx import free_port
from tests.support.otlp import PARENT, one, receiver, traced
from tests.support.server import ROOT, Server
from tests.support.toolchains import EXAMPLES
from tests.support.wat import HELLO

TRACE = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = f"00-{TRACE}-{PARENT}-01"
MODULES: dict[str, str | bytes] = {
    "hello.wat": HELLO,
    "environment.wat": (EXAMPLES / "wat/environment.wat").read_text(),
}
MANIFEST = "".join(
    f'[[module]]\nroute = "/{name.removesuffix(".wat")}"\nmodule = "{name}"\n' for name in MODULES
)


@contextmanager
def exporting(
    folder: Path, endpoint: str, *options: str, variables: Mapping[str, str] | None = None
) -> Iterator[Server]:
    with traced(
        folder, endpoint, *options, manifest=MANIFEST, modules=MODULES, variables=variables
    ) as server:
        yield server


def test_standard_variables(tmp_path: Path) -> None:
    """Of the resource, the sampler and the exporter."""
    variables = {
        "OTEL_EXPORTER_OTLP_HEADERS": "x-token=secret",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0",
    }
    with receiver() as endpoint:
        variables["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = f"{endpoint.url}/v1/traces"
        with exporting(tmp_path, "http://127.0.0.1:1", variables=variables) as server:
            server.get("/hello")
            server.get("/hello", headers=[("traceparent", SAMPLED)])
            span = one(endpoint.wait_for(kind="server"))
            assert span.trace_id == TRACE
            assert span.resource["service.name"] == "shop"
            assert span.resource["deployment.environment.name"] == "test"
            assert endpoint.headers[0]["x-token"] == "secret"
            assert "secret" not in server.log
            assert f"exporting traces to {endpoint.url}/v1/traces" in server.log


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
    ],
)
def test_traces_that_are_off(tmp_path: Path, variables: dict[str, str]) -> None:
    """Then headers pass through, and nothing is logged."""
    with exporting(tmp_path, "http://127.0.0.1:1", variables=variables) as server:
        seen = server.get("/environment", headers=[("traceparent", SAMPLED)]).variables
        server.stop()
    assert seen["HTTP_TRACEPARENT"] == SAMPLED
    assert "traces" not in server.log


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "traces are off: OTEL_EXPORTER_OTLP_PROTOCOL: expected http/protobuf, found 'grpc'",
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"},
            "traces are off: OTEL_EXPORTER_OTLP_ENDPOINT: expected a URL such as"
            " http://localhost:4318",
        ),
        ({"OTEL_TRACES_SAMPLER": "often"}, "traces: Couldn't recognize sampler often."),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "0"}, "traces are off: max_queue_size must be"),
    ],
)
def test_invalid_variables(tmp_path: Path, variables: dict[str, str], message: str) -> None:
    """One warning of the supervisor; the server serves."""
    options = ("--workers", "2")
    with exporting(tmp_path, "http://127.0.0.1:1", *options, variables=variables) as server:
        assert server.get("/hello").status == 200
        server.stop()
    assert server.log.count(message) == 1
    assert server.log.count("WARNING") == 1
    assert "Traceback" not in server.log


def test_a_missing_extra(tmp_path: Path) -> None:
    """A module that cannot be imported takes the place of OpenTelemetry."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "opentelemetry.py").write_text(
        "raise ModuleNotFoundError('no', name='opentelemetry')"
    )
    options, variables = ("--workers", "2"), {"PYTHONPATH": f"{hidden}:{ROOT}"}
    with exporting(tmp_path, "http://127.0.0.1:1", *options, variables=variables) as server:
        assert server.get("/hello").status == 200
        server.stop()
    assert server.log.count("traces are off") == 1
    assert "opentelemetry is not installed: pip install 'wagi[otel]'" in server.log


def test_an_unreachable_endpoint(tmp_path: Path) -> None:
    """Requests are answered, the log reports it once, and the shutdown is not delayed."""
    port = free_port()
    with exporting(tmp_path, f"http://127.0.0.1:{port}", "--workers", "2") as server:
        for _ in range(20):
            assert server.get("/hello").status == 200
            time.sleep(0.05)
        log = server.wait_for_log("cannot export traces", 30)
        assert f"to http://127.0.0.1:{port}/v1/traces: Connection refused; spans are lost" in log
        with receiver(port) as endpoint:  # it starts at last
            deadline = time.monotonic() + 30
            while "exported again" not in server.log:
                server.get("/hello")
                assert time.monotonic() < deadline, server.log
                time.sleep(0.1)
            assert endpoint.spans
            assert server.log.count("cannot export traces") == 1
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 10
    assert server.log.count("cannot export traces") <= 2  # the endpoint has stopped, too
    assert "Traceback" not in server.log
    assert "opentelemetry" not in server.log


def test_an_endpoint_that_does_not_answer(tmp_path: Path) -> None:
    """The shutdown does not wait for it longer than for requests."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        port = silent.getsockname()[1]
        options = ("--shutdown-timeout", "1")
        with exporting(tmp_path, f"http://127.0.0.1:{port}", *options) as server:
            assert server.get("/hello").status == 200
            time.sleep(0.3)  # an export has begun
            assert server.get("/hello").status == 200
            started = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - started < 6


@pytest.mark.parametrize(("status", "message"), [(401, "401 Unauthorized"), (404, "404 Not Found")])
def test_an_endpoint_that_rejects_spans(tmp_path: Path, status: int, message: str) -> None:
    with receiver() as endpoint, exporting(tmp_path, endpoint.url) as server:
        endpoint.status = status
        server.get("/hello")
        server.wait_for_log(rf"cannot export traces to \S+: {message};")


def test_spans_are_exported_at_the_end(tmp_path: Path) -> None:
    """Those that are queued when the server stops."""
    variables = {"OTEL_BSP_SCHEDULE_DELAY": "60000"}
    with receiver() as endpoint, exporting(tmp_path, endpoint.url, variables=variables) as server:
        server.get("/hello")
        assert endpoint.spans == []
        assert server.stop() == 0
        assert one(endpoint.wait_for(kind="server")).name == "GET /hello"


def test_workers_and_reloads(tmp_path: Path) -> None:
    """Each worker exports its own spans, with numbers of its own, before and after a reload."""
    with receiver() as endpoint, exporting(tmp_path, endpoint.url, "--workers", "3") as server:
        for _ in range(30):
            server.get("/hello")
        endpoint.wait_for(30, kind="server")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("reloaded")
        for _ in range(30):
            server.get("/hello")
        spans = endpoint.wait_for(60, kind="server")
        assert server.stop() == 0
    assert len({span.trace_id for span in spans}) == 60
    assert len({span.span_id for span in spans}) == 60
    assert server.log.count("exporting traces") == 1


def test_watch(tmp_path: Path) -> None:
    with receiver() as endpoint, exporting(tmp_path, endpoint.url, "--watch") as server:
        server.get("/hello", headers=[("traceparent", SAMPLED)])
        endpoint.wait_for(trace_id=TRACE, name="GET /hello")
