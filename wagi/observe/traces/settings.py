"""Whether traces are on: the standard variables of OpenTelemetry.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
The SDK reads most of them itself; these decide whether it is used at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from wagi.observe.text import one_line

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HTTP = "http/protobuf"
_TRACE_CONTEXT = "tracecontext"


class TracesError(ValueError):
    """Traces cannot be exported: what is wrong, and how to fix it."""


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """Where traces go.

    Attributes:
        endpoint: The URL that spans are sent to, without credentials, for messages.
        propagates: Whether trace context is read from requests and passed on.
        warnings: Settings that have no effect.
    """

    endpoint: str
    propagates: bool = True
    warnings: tuple[str, ...] = ()


def read_settings(environment: Mapping[str, str]) -> TraceSettings | None:
    """Read the variables.

    Returns:
        The settings; None if traces are off.

    Raises:
        TracesError: They cannot be followed.
    """
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    variable, url = _endpoint(environment)
    exporters = _words(environment, "OTEL_TRACES_EXPORTER", "otlp")
    if not url or exporters == ["none"]:
        return None
    if "otlp" not in exporters:
        raise TracesError(f"OTEL_TRACES_EXPORTER: expected otlp or none, found {_show(exporters)}")
    for name in _PROTOCOLS:
        protocol = environment.get(name, "").strip()
        if protocol and protocol != _HTTP:
            raise TracesError(f"{name}: expected {_HTTP}, found {one_line(protocol)!r}")
        if protocol:
            break
    shown = _without_secrets(url)
    if not shown:
        raise TracesError(f"{variable}: expected a URL such as http://localhost:4318")
    propagators = _words(environment, "OTEL_PROPAGATORS", f"{_TRACE_CONTEXT},baggage")
    return TraceSettings(shown, _TRACE_CONTEXT in propagators, tuple(_unknown(propagators)))


def _endpoint(environment: Mapping[str, str]) -> tuple[str, str]:
    """The variable with the endpoint, and the URL of traces, empty for none."""
    if url := environment.get(TRACES_ENDPOINT, "").strip():
        return TRACES_ENDPOINT, url
    base = environment.get(ENDPOINT, "").strip()
    return ENDPOINT, f"{base.removesuffix('/')}/v1/traces" if base else ""


def _without_secrets(text: str) -> str:
    """A URL without user name, password and query; empty if it is not valid."""
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError:
        return ""
    if url.scheme not in ("http", "https") or not url.hostname or re.search(r"[\s\x00-\x1f]", text):
        return ""
    return url._replace(netloc=url.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _words(environment: Mapping[str, str], name: str, default: str) -> list[str]:
    text = environment.get(name, "").strip() or default
    return [word.strip().lower() for word in text.split(",") if word.strip()]


def _unknown(propagators: list[str]) -> Iterator[str]:
    known = {_TRACE_CONTEXT, "baggage", "none"}
    if others := [name for name in propagators if name not in known]:
        yield f"OTEL_PROPAGATORS: expected {_TRACE_CONTEXT} or none, found {_show(others)}"


def _show(words: list[str]) -> str:
    return repr(one_line(",".join(words)))
