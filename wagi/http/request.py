"""HTTP requests, and their conversion to the value that CGI variables are built from."""

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
from wagi.http.forwarded import ClientInfo, normalize_address
from wagi.http.head import Head
from wagi.routing import has_dot_segment

_ABSOLUTE = re.compile(r"(https?)://([^/?#]+)(/[^#]*|\?[^#]*|)", re.IGNORECASE)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The addresses of a connection, which are the same for all its requests.

    Attributes:
        peer: IP address of the client or the proxy in front of the server; None for a unix socket.
        peer_port: Port of the peer, empty for a unix socket.
        scheme: ``http`` or ``https``.
        address: Local IP address, empty for a unix socket.
        name: Local IP address as the host of a URL, or ``localhost``.
        port: Local port; the default of the scheme for a unix socket.
    """

    peer: str | None
    peer_port: str
    scheme: str
    address: str
    name: str
    port: str

    @classmethod
    def of(cls, transport: asyncio.BaseTransport) -> Endpoint:
        """Return the addresses of a transport."""
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        address = normalize_address(own[0]) if isinstance(own, tuple) else ""
        return cls(
            peer[0] if isinstance(peer, tuple) else None,
            str(peer[1]) if isinstance(peer, tuple) else "",
            scheme,
            address,
            f"[{address}]" if ":" in address else address or "localhost",
            str(own[1]) if isinstance(own, tuple) else DEFAULT_PORTS[scheme],
        )


class Channel(Protocol):
    """The interface of a connection for requests and responses."""

    @property
    def can_write(self) -> bool:
        """Whether the write buffer is empty, so that a small write need not wait."""

    @property
    def is_draining(self) -> bool:
        """Whether the server is draining, so that the connection closes after this request."""

    @property
    def descriptor(self) -> int | None:
        """The file descriptor of the socket; None if it is closed."""

    def dispatch(self, request: Request) -> None:
        """Start to answer a request of this connection."""

    def write(self, data: bytes) -> None:
        """Send bytes, or buffer them until the client reads."""

    async def drain(self) -> None:
        """Wait until the write buffer has room.

        Raises:
            ConnectionError: The client has disconnected.
        """

    def cancel(self) -> object:
        """Cancel the task of the current request, if it has one."""

    def close_after_response(self) -> None:
        """Close the connection after the current response."""

    def abort_response(self, has_framing: bool) -> None:
        """Break the connection so that the client detects the truncated response.

        Args:
            has_framing: Whether the response has a Content-Length or is chunked.
        """


class Request:
    """An HTTP request.

    Attributes:
        head: Request line and header fields.
        client: The client, as determined from trusted proxies.
        endpoint: Addresses of the connection.
        body: The body as it arrives.
        channel: The connection, to which the response is written.
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
        """Open the body for reading.

        Args:
            limits: Limits shared by all bodies.
            size_limit: Maximum size of this body in bytes; None for no limit.

        Returns:
            The reader. If the head has no ``content_length``, call its ``read_ahead`` first.

        Raises:
            HTTPError: 413 if the body is too long, 400 if it is not allowed.
        """
        head = self.head
        length = head.content_length
        if length is None:
            if head.protocol == "HTTP/1.0":
                # A proxy may delimit the requests differently (RFC 9112 §6.1).
                raise HTTPError(
                    HTTPStatus.BAD_REQUEST, "HTTP/1.0 does not support Transfer-Encoding."
                )
        elif size_limit is not None and length > size_limit:
            raise too_large("The request body is too large (body_limit).")
        return BodyReader(self.body, length or 0, limits, self._continue_writer())

    def _continue_writer(self) -> Callable[[], None] | None:
        head = self.head
        if (
            head.content_length == 0
            or head.protocol == "HTTP/1.0"
            or head.headers.get("Expect", "").strip().lower() != "100-continue"
        ):
            return None
        return lambda: self.channel.write(_CONTINUE)


class Target(NamedTuple):
    """A parsed request target (RFC 9112 §3.2).

    Attributes:
        path: Path as sent.
        query: Query as sent; None for a target without ``?``.
        authority: Host and port of a target in absolute form; None otherwise.
    """

    path: str
    query: str | None
    authority: str | None = None

    @classmethod
    def parse(cls, method: str, text: str) -> Target:
        """Parse a target in origin form or absolute form.

        Raises:
            BadRequest: The target has another form, is not UTF-8 or has a dot segment.
        """
        # Most targets are short and recur; caching long ones would use too much memory.
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
            except UnicodeEncodeError:  # the parser decodes invalid bytes as surrogates
                raise BadRequest("The request target is not UTF-8.") from None
        path, mark, query = text.partition("#")[0].partition("?")
        if has_dot_segment(path):
            raise BadRequest("The request path has a . or .. segment.")
        return cls(path, query if mark else None, authority)


_CACHED_SIZE = 256  # characters
_parse_cached = lru_cache(maxsize=1024)(Target._parse)


def make_request_head(
    request: Request, target: Target, default: HostPort | None, length: int
) -> RequestHead:
    """Build the value from which the CGI variables are built.

    Args:
        request: The request.
        target: Its parsed target.
        default: Configured default host for requests that specify no host or no port.
        length: Size of the body in bytes.

    Raises:
        BadRequest: The Host header is not a valid host.
    """
    head, client, endpoint = request.head, request.client, request.endpoint
    # The parser has rejected a second Host header.
    host, port = split_host(client.host or target.authority or head.headers.get("Host", ""))
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


# Few hosts recur. The size bounds the memory that a client can use by inventing hosts.
@lru_cache(maxsize=1024)
def split_host(text: str) -> tuple[str, int | None]:
    """Split the value of a Host header into host and port.

    Raises:
        BadRequest: It is not a valid host.
    """
    try:
        parsed = HostPort.parse(text.strip())
    except ValueError:
        raise BadRequest("The Host header is not a valid host.") from None
    return parsed.host, parsed.port
