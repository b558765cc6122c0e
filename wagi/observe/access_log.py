"""The access log: one line per request, in the combined format of Apache and nginx, extended.

A terminal gets a shorter line.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from json.encoder import encode_basestring_ascii as json_string
from typing import Any, TextIO

from aiohttp.hdrs import REFERER, USER_AGENT  # their case is folded already

from wagi.observe.exchange import Exchange, SpanIds
from wagi.observe.json_lines import may_be_unsafe, replace_unsafe
from wagi.observe.terminal import is_terminal, supports_color
from wagi.observe.text import one_line
from wagi.observe.writer import Output, Writer, to_descriptor

Entry = tuple[str, float, str, str, str, int, int, str, str, str, float, float, str]
"""The fields of a line: client, time received (seconds since the epoch), method, target, protocol,
status, body bytes sent, Referer, User-Agent, route, seconds, CPU seconds of the guest, request id.

A plain tuple, because one is made for each request."""
Details = tuple[str, str, float, int, SpanIds | None]
"""What only JSON has: module, outcome of the guest, seconds in the queue, bytes of memory, span."""

_LINE_SIZE = 160
"""Size in bytes of a line without the parts that the client chooses. A queued entry takes about
540 bytes of memory: up to 26,000 of them, 14 MB, can be queued."""
_DETAILS_SIZE = 200  # bytes that JSON has in addition
_CLOSE_TIMEOUT_S = 1.0  # for records that are queued at the end
_COLUMNS = 80  # of a line for a terminal
_COLORS = ("", "", "\x1b[32m", "\x1b[36m", "\x1b[33m", "\x1b[31m")  # by the first digit of a status
_RESET = "\x1b[0m"
_FORMATS = ("text", "json", "off")
_PLAIN = re.compile(r"[ !#-\[\]-~]*")
"""Text that needs no escaping in quotes: printable ASCII without quotes and backslashes."""


class AccessLog:
    """Writes a line for each exchange that it is called with."""

    def __init__(self, kind: str, stream: TextIO | None) -> None:
        """Open the log.

        Args:
            kind: ``text``, which is shorter on a terminal, ``json`` or ``off``.
            stream: The output, which must have a file descriptor; None if it is closed.
        """
        assert kind in _FORMATS
        self._writer = Writer()
        self._output: Output[Any] | None = None
        self._has_details = kind == "json"
        # If stdout is closed (1>&-), its descriptor may have been reused for something else.
        if kind != "off" and stream is not None:
            format_line: Callable[[Any], str] = format_json if kind == "json" else format_text
            if kind == "text" and is_terminal(stream):
                format_line = partial(format_short, has_color=supports_color(stream))
            encode = partial(_encode, format_line)
            self._output = Output("the access log", to_descriptor(stream.fileno()), encode)

    def __call__(self, exchange: Exchange) -> None:
        """Queue the line of an exchange that has ended."""
        if self._output is None:
            return
        headers, target = exchange.headers, exchange.target
        referer, user_agent = headers.get(REFERER, ""), headers.get(USER_AGENT, "")
        # Only these fields are queued: the exchange may hold large headers and a guest's output.
        entry = (
            exchange.client,
            exchange.received,
            exchange.method,
            target,
            exchange.protocol,
            exchange.status,
            exchange.sent,
            referer,
            user_agent,
            exchange.route,
            exchange.seconds,
            exchange.cpu_seconds,
            exchange.request_id,
        )
        size = _LINE_SIZE + len(target) + len(referer) + len(user_agent)
        if not self._has_details:
            self._writer.enqueue(self._output, entry, size)
            return
        details = (
            exchange.module,
            exchange.outcome,
            exchange.queue_seconds,
            exchange.memory,
            exchange.span,
        )
        size += _DETAILS_SIZE + len(target)
        self._writer.enqueue(self._output, (entry, details), size)

    def close(self) -> None:
        """Write what is queued, and report dropped records."""
        self._writer.close(_CLOSE_TIMEOUT_S)
        if self._output is not None:
            self._output.report_drops()


def format_text(entry: Entry) -> str:
    """Format a line of text: the combined format, then route, milliseconds and request id."""
    (
        client, received, method, target, protocol, status, sent,
        referer, user_agent, route, seconds, cpu_seconds, request_id,
    ) = entry  # fmt: skip
    request = f"{method} {target} {protocol}"
    if not _PLAIN.fullmatch(f"{request}{referer}{user_agent}{route}"):
        request, route = _quoted(request), _quoted(route)
        referer, user_agent = _quoted(referer), _quoted(user_agent)
    return (
        f"{client or '-'} - - [{_date(int(received))}]"
        f' "{request}" {status} {sent} "{referer or "-"}" "{user_agent or "-"}"'
        f' route="{route}" ms={seconds * 1000:.3f} cpu_ms={cpu_seconds * 1000:.3f}'
        f" id={request_id}\n"
    )


def format_short(entry: Entry, has_color: bool) -> str:
    """Format a line for a terminal: local time, status, method, target and milliseconds.

    It has at most 80 columns if the characters of the target have one each.
    """
    _, received, method, target, _, status, _, _, _, _, seconds, _, _ = entry
    # A tab takes an unknown number of columns.
    method = one_line(method).replace("\t", " ")[:10]
    target = one_line(target).replace("\t", " ")
    code = f"{_COLORS[min(status // 100, 5)]}{status}{_RESET}" if has_color else str(status)
    duration = f"{seconds * 1000:.1f} ms"
    room = max(1, _COLUMNS - len(f"00:00:00 {status} {method}  {duration}"))
    if len(target) > room:
        target = target[: room - 1] + "…"
    clock = time.strftime("%H:%M:%S", time.localtime(received))
    return f"{clock} {code} {method} {target:{room}} {duration}\n"


def format_json(record: tuple[Entry, Details]) -> str:
    """Format a line of JSON. Its names are those of the other logs (``observe.json_lines``)."""
    line = _format_json(*record)
    if not may_be_unsafe(line):
        return line
    entry, (module, *others) = record
    fields = (replace_unsafe(item) if isinstance(item, str) else item for item in entry)
    return _format_json(tuple(fields), (replace_unsafe(module), *others))  # type: ignore[arg-type]


def _format_json(entry: Entry, details: Details) -> str:
    (
        client, received, method, target, protocol, status, sent,
        referer, user_agent, route, seconds, cpu_seconds, request_id,
    ) = entry  # fmt: skip
    module, outcome, queue_seconds, memory, span = details
    line = (
        f'{{"time": {round(received, 3)!r}, "level": "info", "logger": "wagi.access",'
        f' "message": {json_string(f"{method} {target} {status}")},'
        f' "client": {json_string(client)},'
        f' "method": {json_string(method)}, "target": {json_string(target)},'
        f' "protocol": {json_string(protocol)}, "status": {status}, "bytes": {sent},'
        f' "referer": {json_string(referer)}, "user_agent": {json_string(user_agent)},'
        f' "route": {json_string(route)}, "module": {json_string(module)},'
        f' "ms": {round(seconds * 1000, 3)!r}, "cpu_ms": {round(cpu_seconds * 1000, 3)!r},'
        f' "queue_ms": {round(queue_seconds * 1000, 3)!r}, "outcome": {json_string(outcome)},'
        f' "memory_bytes": {memory}, "id": {json_string(request_id)}'
    )
    if span is None:
        return f"{line}}}\n"
    return f'{line}, "trace_id": "{span.trace_id}", "span_id": "{span.span_id}"}}\n'


def _encode(format_line: Callable[[Any], str], entries: Sequence[Any]) -> bytes:
    # Encoding must not raise: that would lose the other entries and end the thread.
    return "".join(map(format_line, entries)).encode("utf-8", "backslashreplace")


@lru_cache(maxsize=16)
def _date(second: int) -> str:
    return time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(second))


def _quoted(text: str) -> str:
    return one_line(text.replace("\\", "\\\\")).replace('"', '\\"')
