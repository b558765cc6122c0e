"""A request as the gateway gets it, and the value that CGI variables are made of."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple, Protocol

from wagi.cgi.environment import DEFAULT_PORTS, BadRequest, RequestHead
from wagi.config.values import HostPort
from wagi.http.body import BodyLimits, BodyReader, BodyStream, too_large
from wagi.http.errors import HTTPError
from wagi.http.forwarded import ClientInfo, plain_address
from wagi.http.parser import Head
from wagi.routing import has_dot_segment

_ABSOLUTE = re.compile(r"(https?)://([^/?#]+)(/[^#]*|\?[^#]*|)", re.IGNORECASE)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The two ends of a connection, the same for all its requests.

    Attributes:
        peer: The IP address of the client, or of the proxy in front; None for a unix socket.
        peer_port: Its port, empty for a unix socket.
        scheme: ``http`` or ``https``.
        address: The local IP address, empty for a unix socket.
        name: The local IP address as the host of a URL, or localhost.
        port: The local port; the default of the scheme for a unix socket.
    """

    peer: str | None
    peer_port: str
    scheme: str
    address: str
    name: str
    port: str

    @classmethod
    def of(cls, transport: asyncio.BaseTransport) -> Endpoint:
        """The ends of a transport."""
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        address = plain_address(own[0]) if isinstance(own, tuple) else ""
        return cls(
            peer[0] if isinstance(peer, tuple) else None,
            str(peer[1]) if isinstance(peer, tuple) else "",
            scheme,
            address,
            f"[{address}]" if ":" in address else address or "localhost",
            str(own[1]) if isinstance(own, tuple) else DEFAULT_PORTS[scheme],
        )


class Channel(Protocol):
    """The connection as requests and responses see it."""

    @property
    def can_write(self) -> bool:
        """Whether the client has read everything so far: a small write does not have to wait."""

    @property
    def is_draining(self) -> bool:
        """Whether the connection ends after this request, because the server stops."""

    def start_answer(self, request: Request) -> None:
        """Answer a request of this connection, as far as that needs no waiting."""

    def write(self, data: bytes) -> None:
        """Send bytes, or keep them until the client reads."""

    async def drain(self) -> None:
        """Wait until the client has read enough. Raises: ConnectionError if it is gone."""

    def close_after_response(self) -> None:
        """End the connection when the response has been sent."""

    def abort_response(self, has_framing: bool) -> None:
        """Break the connection so that the client notices that the response is not whole.

        Args:
            has_framing: Whether the response has a length or chunks.
        """


class Request:
    """A request.

    Attributes:
        head: What the client sent.
        client: What is known of the client.
        endpoint: The ends of its connection.
        body: What has arrived of its body.
        channel: Where the response goes.
    """

    __slots__ = ("body", "channel", "client", "endpoint", "head")

    def __init__(
        self,
        head: Head,
        client: ClientInfo,
        endpoint: Endpoint,
        body: BodyStream,
        channel: Channel,
    ) -> None:
        self.head = head
        self.client = client
        self.endpoint = endpoint
        self.body = body
        self.channel = channel

    def open_body(self, limits: BodyLimits, size_limit: int | None) -> BodyReader:
        """Begin to read the body.

        Args:
            limits: Those of all bodies together.
            size_limit: Bytes of this one; None for no limit.

        Returns:
            The reader. If the head has no ``content_length``, it has to read ahead first.

        Raises:
            HTTPError: 413 for a longer body, 400 for one that should not be there.
        """
        head = self.head
        length = head.content_length
        if length is None:
            if head.protocol == "HTTP/1.0":
                # A proxy in between may see other requests (RFC 9112 §6.1).
                raise HTTPError(
                    HTTPStatus.BAD_REQUEST, "HTTP/1.0 does not support Transfer-Encoding."
                )
        elif size_limit is not None and length > size_limit:
            raise too_large("The request body is too large.")
        return BodyReader(self.body, length or 0, limits, self._continue_sender())

    def _continue_sender(self) -> Callable[[], None] | None:
        head = self.head
        if (
            head.content_length == 0
            or head.protocol == "HTTP/1.0"
            or head.headers.get("Expect", "").strip().lower() != "100-continue"
        ):
            return None
        return lambda: self.channel.write(_CONTINUE)


class Target(NamedTuple):
    """A request target (RFC 9112 §3.2), split: ``authority`` only where the client sent one."""

    path: str
    query: str | None
    authority: str | None = None

    @classmethod
    def parse(cls, method: str, text: str) -> Target:
        """Read the origin form or the absolute form. Raises: BadRequest for anything else."""
        # Most targets are short and come again; long ones would fill the memory.
        return (_parse_cached if len(text) <= _CACHED_SIZE else cls._parse)(method, text)

    @classmethod
    def _parse(cls, method: str, text: str) -> Target:
        if method == "CONNECT":
            raise BadRequest("This server is not a proxy.")
        authority = None
        if not text.startswith("/"):
            match = _ABSOLUTE.match(text)
            if not match:
                raise BadRequest("The request target is not a path.")
            authority = match[2].rpartition("@")[2]
            text = match[3] if match[3].startswith("/") else "/" + match[3]
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:  # the parser keeps other bytes as surrogates
                raise BadRequest("The request target is not UTF-8.") from None
        path, mark, query = text.partition("#")[0].partition("?")
        if has_dot_segment(path):
            raise BadRequest("The request path has a . or .. segment.")
        return cls(path, query if mark else None, authority)


_CACHED_SIZE = 256  # characters
_parse_cached = lru_cache(maxsize=1024)(Target._parse)


def read_head(
    request: Request, target: Target, default: HostPort | None, length: int
) -> RequestHead:
    """Make the value that variables are made of.

    Args:
        request: The request.
        target: Its target.
        default: The configured default host, for a request that names no host or no port.
        length: Bytes of the body.

    Raises:
        BadRequest: The Host header is not a host.
    """
    head, client, endpoint = request.head, request.client, request.endpoint
    # The parser has rejected a second Host header.
    host, port = _split_host(client.host or target.authority or head.headers.get("Host", ""))
    scheme = client.scheme or endpoint.scheme
    if default is not None:
        host, port = host or default.host, default.port if port is None else port
    if not host:
        host, port = endpoint.name, int(endpoint.port) if port is None else port
    return RequestHead(
        head.method,
        target.path,
        target.query,
        head.protocol,
        head.raw_headers,
        length,
        scheme,
        host,
        DEFAULT_PORTS[scheme] if port is None else str(port),
        client.address,
        endpoint.peer_port if client.is_peer else "",
        endpoint.address,
    )


# The same few hosts come again and again; a client that makes some up cannot fill the memory.
@lru_cache(maxsize=1024)
def _split_host(text: str) -> tuple[str, int | None]:
    try:
        parsed = HostPort.parse(text.strip())
    except ValueError:
        raise BadRequest("The Host header is not a valid host.") from None
    return parsed.host, parsed.port
