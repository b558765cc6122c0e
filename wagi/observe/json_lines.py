"""Logs as JSON: one object per line, with the same names in every log.

========================= ==================================================================
time                      seconds since the epoch, to the millisecond
level, logger, message    of the record; the loggers are in ``docs/operations.md``
id, route, module         of the request, if the record belongs to one
method, target, status    the same
outcome, queue_ms, cpu_ms of the request's guest, as far as they are known
memory_bytes              the same: the largest size of its memory
trace_id, span_id         of the request's span, if traces are on
exception                 the traceback of an internal error
========================= ==================================================================
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from json.encoder import encode_basestring_ascii as json_string

from wagi.observe.exchange import Exchange, SpanIds

Value = str | int | float
_UNSAFE = re.compile(r"[\x7f\ud800-\udfff]")


def replace_unsafe(text: str) -> str:
    """Replace what JSON cannot or should not hold by ``\\xNN``.

    Lone surrogates, which stand for bytes that are not UTF-8, are no characters: strict parsers
    reject the whole line, which would hide a request. DEL is a control character that JSON does not
    escape.
    """
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code:02x}"  # the byte (PEP 383)


def may_be_unsafe(quoted: str) -> bool:
    """Whether JSON may have something for ``replace_unsafe``. It is much faster than that."""
    return "\\ud" in quoted or "\x7f" in quoted


def json_line(fields: Mapping[str, Value]) -> str:
    """Format an object as a line."""
    pairs = (f"{json_string(name)}: {_format(value)}" for name, value in fields.items())
    return f"{{{', '.join(pairs)}}}"


def _format(value: Value) -> str:
    return json_string(replace_unsafe(value)) if isinstance(value, str) else repr(value)


class JsonFormatter(logging.Formatter):
    """Formats log records. These attributes of a record are optional.

    ======== ===================================================================
    exchange the record of the request
    summary  the message without the fields of the request
    fields   further fields
    span     the span that the record belongs to
    lines    output of a guest: each line becomes an object with it as a message
    ======== ===================================================================
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one or more lines, without the last line end."""
        fields: dict[str, Value] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": getattr(record, "summary", None) or record.getMessage(),
        }
        exchange = getattr(record, "exchange", None)
        if exchange is not None:
            fields |= _request_fields(exchange)
        fields |= getattr(record, "fields", {})
        fields |= span_fields(getattr(record, "span", None))
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        lines = getattr(record, "lines", None)
        if lines is None:
            return json_line(fields)
        return "\n".join(json_line({**fields, "message": line}) for line in lines)


def span_fields(span: SpanIds | None) -> dict[str, Value]:
    """The fields that identify a span; none without one."""
    return {} if span is None else {"trace_id": span.trace_id, "span_id": span.span_id}


def _request_fields(exchange: Exchange) -> dict[str, Value]:
    fields: dict[str, Value] = {
        "id": exchange.request_id,
        "client": exchange.client,
        "method": exchange.method,
        "target": exchange.target,
        "route": exchange.route,
        "module": exchange.module,
        "status": exchange.status,
        "queue_ms": round(exchange.queue_seconds * 1000, 3),
    }
    if exchange.outcome:
        fields |= {
            "outcome": exchange.outcome,
            "cpu_ms": round(exchange.cpu_seconds * 1000, 3),
            "memory_bytes": exchange.memory,
        }
    return fields | span_fields(exchange.span)
