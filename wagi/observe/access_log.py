"""One line for each request, in the common fields (as Apache and nginx write them) and ours."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import TextIO

from wagi.observe.exchange import Exchange
from wagi.observe.text import one_line

_log = logging.getLogger("wagi")
Writer = Callable[[Exchange], None]


def access_log(kind: str, stream: TextIO) -> Writer | None:
    """The access log of a kind: ``text``, ``json`` or ``off`` (None)."""
    formats = {"text": format_text, "json": format_json}
    if kind == "off":
        return None
    form = formats[kind]

    lost = False

    def write(exchange: Exchange) -> None:
        nonlocal lost
        try:
            stream.write(form(exchange) + "\n")
            stream.flush()
            lost = False
        except OSError as error:
            # A reader that went away, or a full disk, is no reason to stop serving.
            if not lost:
                _log.error("lines of the access log are lost: %s", error.strerror)
            lost = True

    return write


def format_text(exchange: Exchange) -> str:
    """A line for people: the combined format, then route, milliseconds and request id."""
    when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(exchange.received))
    return (
        f"{exchange.client or '-'} - - [{when}]"
        f' "{_quoted(f"{exchange.method} {exchange.target} {exchange.protocol}")}"'
        f" {exchange.status} {exchange.sent}"
        f' "{_quoted(exchange.referer) or "-"}" "{_quoted(exchange.user_agent) or "-"}"'
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
            "referer": exchange.referer,
            "user_agent": exchange.user_agent,
            "route": exchange.route,
            "ms": round(exchange.seconds * 1000, 3),
            "cpu_ms": round(exchange.cpu_seconds * 1000, 3),
            "id": exchange.request_id,
        }
    )


def _quoted(text: str) -> str:
    return one_line(text.replace("\\", "\\\\")).replace('"', '\\"')
