"""The attributes of spans, by OpenTelemetry's semantic conventions for HTTP. Pure.

https://opentelemetry.io/docs/specs/semconv/http/http-spans/
Clients choose most of these texts. They are cut to a length that no queue of spans suffers from,
and bytes that are not UTF-8 are replaced: one lone surrogate would make a whole batch of spans
fail.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from wagi.observe.exchange import Exchange
from wagi.observe.json_lines import replace_unsafe

Attributes = dict[str, str | int | float]
MAX_LENGTH = 2048
"""Maximum length of a text in characters. A client can send 64 KiB."""
FAILURES = frozenset(("trap", "invalid_output", "timeout", "cpu_timeout"))
"""The outcomes of guests that failed. A status other than 0 still delivers a response."""
_METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY")
)
_OTHER_METHOD = "_OTHER"
_CLIENT_CLOSED_REQUEST = 499  # of the access log; no response was sent
_REDACTED = "REDACTED"
# The parameters that the conventions name: signatures of AWS, Azure and Google.
_SECRET = re.compile(r"(?<![^?&])(AWSAccessKeyId|Signature|sig|X-Goog-Signature)=[^&#]*")


class ServerRequest(NamedTuple):
    """What the span of a request contains from its beginning.

    Attributes:
        method: The method as sent.
        path: The path as sent; empty if the request is not valid HTTP.
        query: The query as sent; None if the target has no query.
        scheme: ``http`` or ``https``.
        host: The host that the client addressed; empty if it is unknown.
        port: The port of that host; None for the default of the scheme.
        protocol: Such as ``HTTP/1.1``.
        user_agent: The header User-Agent; empty if it is missing.
        client: The address of the client; empty if it is unknown.
        peer: The address of the connection's peer; None for a unix socket.
        peer_port: Its port; empty for a unix socket.
    """

    method: str
    path: str
    query: str | None
    scheme: str
    host: str
    port: int | None
    protocol: str
    user_agent: str
    client: str
    peer: str | None
    peer_port: str


def plain(text: str) -> str:
    """Make a text fit for an attribute."""
    return replace_unsafe(text[:MAX_LENGTH])


def redact(query: str) -> str:
    """Hide the values of parameters that are credentials."""
    return _SECRET.sub(rf"\1={_REDACTED}", query)


def span_name(method: str, route: str) -> str:
    """The name of a span: method and route, of which there are few."""
    known = method if method in _METHODS else "HTTP"
    return f"{known} {plain(route)}" if route else known


def request_attributes(request: ServerRequest) -> Attributes:
    """The attributes of a server span that are known at its beginning."""
    attributes: Attributes = {
        **method_attributes(request.method),
        "url.scheme": request.scheme,
        "network.protocol.version": request.protocol.removeprefix("HTTP/"),
    }
    if request.path:
        attributes["url.path"] = plain(request.path)
    if request.query is not None:
        attributes["url.query"] = plain(redact(request.query))
    if request.host:
        attributes["server.address"] = plain(request.host)
        if request.port is not None:
            attributes["server.port"] = request.port
    if request.client:
        attributes["client.address"] = request.client
    if request.peer is not None:
        attributes["network.peer.address"] = request.peer
        if request.peer_port:
            attributes["network.peer.port"] = int(request.peer_port)
    if request.user_agent:
        attributes["user_agent.original"] = plain(request.user_agent)
    return attributes


def method_attributes(method: str) -> Attributes:
    """The attributes of a method: unknown ones share a value."""
    if method in _METHODS:
        return {"http.request.method": method}
    original: Attributes = {"http.request.method_original": plain(method)} if method else {}
    return {"http.request.method": _OTHER_METHOD, **original}


def response_attributes(exchange: Exchange) -> Attributes:
    """The attributes of a server span that are known at its end."""
    attributes: Attributes = {"wagi.request_id": exchange.request_id}
    if exchange.route:
        attributes["http.route"] = plain(exchange.route)
    if exchange.module:
        attributes["wagi.module"] = plain(exchange.module)
    if exchange.status and exchange.status != _CLIENT_CLOSED_REQUEST:
        attributes["http.response.status_code"] = exchange.status
    if error := server_error(exchange):
        attributes["error.type"] = error
    return attributes


def server_error(exchange: Exchange) -> str:
    """The kind of error of a request; empty if the server has not failed.

    A status below 500 is the client's error (semantic conventions), unless the response was broken
    off, or the client has gone before there was one.
    """
    if exchange.status == _CLIENT_CLOSED_REQUEST:
        return "client_closed_request"
    is_broken = exchange.failure is not None and exchange.status < 400
    if exchange.status < 500 and not is_broken:
        return ""
    return exchange.outcome if exchange.outcome in FAILURES else str(exchange.status)


def guest_attributes(exchange: Exchange) -> Attributes:
    """The attributes of the span of a guest."""
    attributes: Attributes = {
        "wagi.module": plain(exchange.module),
        "wagi.guest.outcome": exchange.outcome,
        "wagi.guest.cpu_time": exchange.cpu_seconds,
        "wagi.guest.memory": exchange.memory,
    }
    if exchange.outcome in FAILURES:
        attributes["error.type"] = exchange.outcome
    return attributes


def outbound_attributes(method: str, url: str, host: str, port: int, resend: int) -> Attributes:
    """The attributes of the span of an outbound request.

    Args:
        method: The method.
        url: The URL, with credentials.
        host: Its host.
        port: Its port.
        resend: How many redirects were followed before.
    """
    attributes: Attributes = {
        **method_attributes(method),
        "url.full": plain(_redact_url(url)),
        "server.address": plain(host),
        "server.port": port,
    }
    if resend:
        attributes["http.request.resend_count"] = resend
    return attributes


def _redact_url(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    userinfo, at, host = authority.rpartition("@")
    if at:
        hidden = f"{_REDACTED}:{_REDACTED}" if ":" in userinfo else _REDACTED
        authority = f"{hidden}@{host}"
    return redact(f"{scheme}{separator}{authority}{slash}{path}")
