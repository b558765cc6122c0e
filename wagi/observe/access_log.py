"""One line for each request, in the common fields (as Apache and nginx write them) and ours."""

from __future__ import annotations

import json
import time
from typing import TextIO

from wagi.observe.exchange import Exchange
from wagi.observe.text import one_line
from wagi.observe.writer import Output, Writer, to_descriptor

_LAST_LINES = 1.0  # seconds for what waits to be written at the end
_FORMATS = ("text", "json", "off")


class AccessLog:
    """Writes a line for each exchange that it is called with."""

    def __init__(self, kind: str, stream: TextIO | None) -> None:
        """Parameters: ``kind`` is ``text``, ``json`` or ``off``; ``stream`` with a descriptor."""
        assert kind in _FORMATS
        self._format = format_json if kind == "json" else format_text
        self._writer = Writer()
        self._output: Output | None = None
        # Without a stdout (1>&-) its number may be anybody's.
        if kind != "off" and stream is not None:
            self._output = Output("the access log", to_descriptor(stream.fileno()))

    def __call__(self, exchange: Exchange) -> None:
        if self._output is not None:
            self._writer.put(self._output, (self._format(exchange) + "\n").encode())

    def close(self) -> None:
        """Write what waits, and say what was lost."""
        self._writer.close(_LAST_LINES)
        if self._output is not None:
            self._output.account()


def format_text(exchange: Exchange) -> str:
    """A line for people: the combined format, then route, milliseconds and request id."""
    when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(exchange.received))
    return (
        f"{exchange.client or '-'} - - [{when}]"
        f' "{_quoted(f"{exchange.method} {exchange.target} {exchange.protocol}")}"'
        f" {exchange.status} {exchange.sent}"
        f' "{_quoted(exchange.headers.get("Referer", "")) or "-"}"'
        f' "{_quoted(exchange.headers.get("User-Agent", "")) or "-"}"'
        f' route="{_quoted(exchange.route)}" ms={exchange.seconds * 1000:.3f}'
        f" cpu_ms={exchange.cpu_seconds * 1000:.3f} id={exchange.request_id}"
    )


def format_json(exchange: Exchange) -> str:
    """A line for programs."""
    return json.dumps(
        {
            "time": round(exchange.received, 3),
            "client": exchange.client,
            "method": exchange.method,
            "target": exchange.target,
            "protocol": exchange.protocol,
            "status": exchange.status,
            "bytes": exchange.sent,
            "referer": exchange.headers.get("Referer", ""),
            "user_agent": exchange.headers.get("User-Agent", ""),
            "route": exchange.route,
            "ms": round(exchange.seconds * 1000, 3),
            "cpu_ms": round(exchange.cpu_seconds * 1000, 3),
            "id": exchange.request_id,
        }
    )


def _quoted(text: str) -> str:
    return one_line(text.replace("\\", "\\\\")).replace('"', '\\"')
