"""The variables that decide whether traces are on."""

from __future__ import annotations

import pytest

from wagi.observe.traces.settings import TracesError, TraceSettings, read_settings

pytestmark = pytest.mark.fast
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
ON = {ENDPOINT: "http://collector:4318"}


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {ENDPOINT: ""},
        {"OTEL_TRACES_EXPORTER": "otlp"},
        {**ON, "OTEL_SDK_DISABLED": "TRUE"},
        {**ON, "OTEL_TRACES_EXPORTER": "none"},
        {ENDPOINT: "nonsense", "OTEL_SDK_DISABLED": "true"},
    ],
)
def test_off(variables: dict[str, str]) -> None:
    assert read_settings(variables) is None


@pytest.mark.parametrize(
    ("variables", "endpoint"),
    [
        (ON, "http://collector:4318/v1/traces"),
        ({ENDPOINT: "https://c/base/"}, "https://c/base/v1/traces"),
        ({TRACES_ENDPOINT: "http://c/spans"}, "http://c/spans"),
        ({**ON, TRACES_ENDPOINT: "http://c/spans"}, "http://c/spans"),
        ({ENDPOINT: "https://user:secret@c:1"}, "https://c:1/v1/traces"),
        ({TRACES_ENDPOINT: "http://c/x?key=secret#y"}, "http://c/x"),
        ({**ON, "OTEL_SDK_DISABLED": "false"}, "http://collector:4318/v1/traces"),
        ({**ON, "OTEL_TRACES_EXPORTER": "console, otlp"}, "http://collector:4318/v1/traces"),
        ({**ON, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "http://collector:4318/v1/traces"),
        (
            {
                **ON,
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            },
            "http://collector:4318/v1/traces",
        ),
    ],
)
def test_the_endpoint(variables: dict[str, str], endpoint: str) -> None:
    assert read_settings(variables) == TraceSettings(endpoint)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {ENDPOINT: "collector:4318"},
            "OTEL_EXPORTER_OTLP_ENDPOINT: expected a URL such as http://localhost:4318",
        ),
        (
            {TRACES_ENDPOINT: "http://c:port/"},
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: expected a URL such as http://localhost:4318",
        ),
        (
            {ENDPOINT: "http://c/\nx"},
            "OTEL_EXPORTER_OTLP_ENDPOINT: expected a URL such as http://localhost:4318",
        ),
        (
            {**ON, "OTEL_TRACES_EXPORTER": "zipkin"},
            "OTEL_TRACES_EXPORTER: expected otlp or none, found 'zipkin'",
        ),
        (
            {**ON, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: expected http/protobuf, found 'grpc'",
        ),
        (
            {**ON, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            "OTEL_EXPORTER_OTLP_PROTOCOL: expected http/protobuf, found 'http/json'",
        ),
    ],
)
def test_what_cannot_be_followed(variables: dict[str, str], message: str) -> None:
    with pytest.raises(TracesError) as caught:
        read_settings(variables)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("propagators", "propagates", "count"),
    [
        ("", True, 0),
        ("tracecontext", True, 0),
        ("tracecontext,baggage", True, 0),
        ("none", False, 0),
        ("b3", False, 1),
        ("b3, tracecontext", True, 1),
    ],
)
def test_propagators(propagators: str, propagates: bool, count: int) -> None:
    settings = read_settings({**ON, "OTEL_PROPAGATORS": propagators})
    assert settings is not None
    assert settings.propagates is propagates
    assert len(settings.warnings) == count
    assert all("found 'b3" in warning for warning in settings.warnings)
