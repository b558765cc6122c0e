"""The options of the HTTP server."""

from __future__ import annotations

from dataclasses import dataclass

from wagi.http.forwarded import TrustedProxies


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """Maximum size of a request head.

    Attributes:
        target: Maximum size of the request target in bytes; longer ones are answered with 414.
        fields: Maximum size of all header fields in bytes; larger ones are answered with 431.
    """

    target: int
    fields: int


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Limits and timeouts of connections.

    Attributes:
        head: Maximum size of a request head.
        header_timeout: Maximum time to receive a head, in seconds.
        keep_alive: Time after which an idle connection is closed, in seconds.
        connections: Maximum number of open connections.
        proxies: Proxies whose forwarding headers are trusted.
    """

    head: HeadLimits
    header_timeout: float
    keep_alive: float
    connections: int
    proxies: TrustedProxies
