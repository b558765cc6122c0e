"""Log records as JSON."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wagi.observe.exchange import Exchange
from wagi.observe.json_lines import JsonFormatter, json_line

pytestmark = pytest.mark.fast


class Span:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    span_id = "b7ad6b7169203331"


def formatted(message: str, **extra: Any) -> list[dict[str, Any]]:
    """The objects that a record becomes."""
    record = logging.makeLogRecord(
        {"name": "wagi", "levelname": "WARNING", "msg": message, "created": 1.2345, **extra}
    )
    return [json.loads(line) for line in JsonFormatter().format(record).split("\n")]


def test_a_message() -> None:
    assert formatted("shutting down") == [
        {"time": 1.234, "level": "warning", "logger": "wagi", "message": "shutting down"}
    ]


def test_fields_of_a_record() -> None:
    (line,) = formatted("listening on x", fields={"url": "x"})
    assert line["url"] == "x"


def test_a_request() -> None:
    """The message does not repeat the fields, and unknown figures are missing."""
    exchange = Exchange("id-1", "GET", "/a?b", "HTTP/1.1", "127.0.0.1", {}, "/a", "a.wasm", 503)
    exchange.queue_seconds = 0.25
    (line,) = formatted("[id-1] GET /a: full", summary="full", exchange=exchange)
    assert line == {
        "time": 1.234, "level": "warning", "logger": "wagi", "message": "full", "id": "id-1",
        "client": "127.0.0.1", "method": "GET", "target": "/a?b", "route": "/a",
        "module": "a.wasm", "status": 503, "queue_ms": 250.0,
    }  # fmt: skip
    exchange.outcome, exchange.cpu_seconds, exchange.memory = "trap", 0.5, 65536
    exchange.span = Span()
    (line,) = formatted("", summary="full", exchange=exchange)
    assert (line["outcome"], line["cpu_ms"], line["memory_bytes"]) == ("trap", 500.0, 65536)
    assert (line["trace_id"], line["span_id"]) == (Span.trace_id, Span.span_id)


def test_output_of_a_guest() -> None:
    """Each line is an object of its own; it cannot add fields."""
    lines = formatted(
        "stderr of /a [id]",
        lines=["one", '", "level": "error'],
        fields={"id": "id", "route": "/a", "module": "a.wasm"},
        span=Span(),
    )
    assert [line["message"] for line in lines] == ["one", '", "level": "error']
    assert {line["level"] for line in lines} == {"warning"}
    assert all(line["id"] == "id" and line["trace_id"] == Span.trace_id for line in lines)


def test_an_internal_error() -> None:
    try:
        raise RuntimeError("broken\npipe")
    except RuntimeError as error:
        information = (RuntimeError, error, error.__traceback__)
    (line,) = formatted("internal error", exc_info=information)
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("RuntimeError: broken\npipe")


@given(st.text(st.one_of(st.characters(), st.sampled_from('"\\\n\r\x00\x1b\x7f\x85\u2028\udc80'))))
def test_any_text_is_a_line_of_valid_json(text: str) -> None:
    """Strict parsers accept no lone surrogates; no control character is left."""
    line = json_line({"message": text})
    assert line.isascii()
    assert line.isprintable()
    value = json.loads(line)["message"]
    value.encode()  # it has no surrogates
    if text.isascii() and "\x7f" not in text:
        assert value == text
