"""Where aiohttp's request ends: its head becomes a frozen value, its body a stream to read."""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
import time
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import IO, NamedTuple

from aiohttp import HttpVersion10, HttpVersion11, web

from wagi.cgi.environment import BadRequest, RequestHead
from wagi.config.values import HostPort
from wagi.refusal import RETRY_SOON, Refusal
from wagi.routing import has_dot_segment
from wagi.trust import Client

_ABSOLUTE = re.compile(r"(https?)://([^/?#]+)(/[^#]*|\?[^#]*|)", re.IGNORECASE)
_SPOOL_IN_MEMORY = 64 * 1024
_GRACE = 5.0  # seconds of waiting before the floor counts, as in Kestrel
_PIECE = 64 * 1024
_PROTOCOLS = {HttpVersion10: "HTTP/1.0", HttpVersion11: "HTTP/1.1"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a connection says about itself, the same for all its requests.

    Attributes: ``peer`` the IP address of the other end, None for a unix socket; ``scheme`` http or
    https; ``name`` and ``port`` of our own end.
    """

    peer: str | None
    scheme: str
    name: str
    port: str

    @classmethod
    def of(cls, transport: asyncio.BaseTransport) -> Endpoint:
        """Ask the connection."""
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        name, port = (own[0], str(own[1])) if isinstance(own, tuple) else ("localhost", "80")
        return cls(
            peer[0] if isinstance(peer, tuple) else None,
            "https" if transport.get_extra_info("sslcontext") else "http",
            f"[{name}]" if ":" in name else name,
            port,
        )


class Request(web.BaseRequest):
    """A request that knows its connection.

    Attributes: ``endpoint`` of the connection.
    """

    endpoint: Endpoint


class Target(NamedTuple):
    """A request target (RFC 9112 §3.2), split: ``authority`` only where the client sent one."""

    path: str
    query: str | None
    authority: str | None = None

    @classmethod
    def parse(cls, method: str, text: str) -> Target:
        """Read the origin form or the absolute form. Raises: BadRequest for anything else."""
        if method == "CONNECT":
            raise BadRequest("The gateway is no proxy.")
        authority = None
        if not text.startswith("/"):
            match = _ABSOLUTE.match(text)
            if not match:
                raise BadRequest("The request's target is not a path.")
            authority = match[2].rpartition("@")[2]
            text = match[3] if match[3].startswith("/") else "/" + match[3]
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:  # aiohttp keeps other bytes as surrogates
                raise BadRequest("The request's target is not UTF-8.") from None
        path, mark, query = text.partition("#")[0].partition("?")
        if has_dot_segment(path):
            raise BadRequest("The request's path has a segment . or ..")
        return cls(path, query if mark else None, authority)


def read_head(
    request: Request, target: Target, client: Client, default: HostPort, length: int
) -> RequestHead:
    """Turn a request into the value that variables are made of.

    Parameters: ``default`` the host for what the request does not say; ``length`` of the body in
    bytes. Raises: BadRequest.
    """
    endpoint = request.endpoint
    # aiohttp has refused a second Host header.
    host, port = _split_host(client.host or target.authority or request.headers.get("Host", ""))
    if port is None and client.scheme:
        # A trusted proxy told the client's URL: there a missing port is the scheme's.
        port = 443 if client.scheme == "https" else 80
    return RequestHead(
        request.method,
        target.path,
        target.query,
        protocol_of(request),
        request.raw_headers,
        length,
        client.scheme or endpoint.scheme,
        host or default.host or endpoint.name,
        str(port or default.port or endpoint.port),
        client.address,
    )


# The same few hosts come again and again; a client that makes some up cannot fill the memory.
@lru_cache(maxsize=1024)
def _split_host(text: str) -> tuple[str, int | None]:
    try:
        parsed = HostPort.parse(text.strip())
    except ValueError:
        raise BadRequest("The request's Host is not a host.") from None
    return parsed.host, parsed.port


def protocol_of(request: web.BaseRequest) -> str:
    """The protocol as the client spoke it, as SERVER_PROTOCOL has it."""
    return _PROTOCOLS[request.version]


@dataclass(slots=True)
class Intake:
    """How a worker takes request bodies in; one for all of them.

    Attributes: ``spool_limit`` bytes of one body that is read ahead, ``spool_total`` of all of
    them together; ``min_rate`` bytes per second that a client has to send while it is waited for,
    0 for none; ``spooled`` bytes at this moment.
    """

    spool_limit: int
    spool_total: int
    min_rate: int
    spooled: int = 0

    def open_at_once(self, request: web.BaseRequest, limit: int | None) -> Body | None:
        """The body of a request, if its length is known; otherwise it has to be read ahead.

        Parameters: ``limit`` bytes of the body.
        Raises: Refusal 413 for a longer body; BadRequest if it should have no body.
        """
        headers = request.headers
        length = headers.get("Content-Length")
        if "Transfer-Encoding" in headers:
            if request.version < (1, 1):
                # Whoever is between us and the client may see other requests (RFC 9112 §6.1).
                raise BadRequest("HTTP/1.0 has no Transfer-Encoding.")
            if length is None:
                return None
        if length is None:
            return Body(self, request, 0)
        if limit is not None and int(length) > limit:
            raise _too_large("The request body is too large.")
        return Body(self, request, int(length))

    async def read_ahead(
        self, request: web.BaseRequest, limit: int | None, seconds: float | None
    ) -> Body:
        """A body that is sent without its length, read whole.

        CGI has no way to say "unknown": CONTENT_LENGTH is a number (RFC 3875 §4.1.2).

        Parameters: ``limit`` bytes of the body; ``seconds`` for reading.
        Raises: Refusal 413 for a longer body, 408 for a slower one; BadRequest for bad chunks.
        """
        body = Body(self, request, 1)
        try:
            await self._read_ahead(body, limit, seconds)
        except BaseException:
            body.close()
            raise
        return body

    async def _read_ahead(self, body: Body, limit: int | None, seconds: float | None) -> None:
        limit = self.spool_limit if limit is None else min(limit, self.spool_limit)
        body.invite()
        try:
            async with asyncio.timeout(seconds):
                body.length = await body.spool(limit, None)
        except TimeoutError:
            raise _too_slow() from None
        except web.RequestPayloadError:
            raise BadRequest("The request body is not validly chunked.") from None
        if body.length > limit:
            raise _too_large("The request body is too large to be taken without a Content-Length.")


class Body:
    """A request body, read as it arrives: while nobody reads, the client is held back.

    Attributes: ``length`` in bytes.
    """

    def __init__(self, intake: Intake, request: web.BaseRequest, length: int) -> None:
        self.length = length
        self._intake = intake
        self._request = request
        self._content = request.content
        self._invited = not _expects_continue(request)
        self._spool: IO[bytes] | None = None
        self._spool_size = 0
        self._spooled = 0  # bytes in the spool that have not been taken
        self._last_arrival = time.monotonic()
        self._arrived = 0
        self._waited = 0.0  # seconds in which we waited for the client

    @property
    def received(self) -> bool:
        """Whether the client has sent all of it."""
        return self._content.is_eof()

    @property
    def ended(self) -> bool:
        """Whether everything has been taken."""
        return not self._spooled and self._content.at_eof()

    @property
    def quiet_seconds(self) -> float:
        """How long nothing has arrived."""
        return time.monotonic() - self._last_arrival

    def take(self) -> bytes:
        """What can be had without waiting."""
        if self._spooled and self._spool is not None:
            data = self._spool.read(_PIECE)
            self._spooled -= len(data)
            return data
        return b"" if self.ended else self._content.read_nowait()

    async def read(self, patience: float | None) -> bytes | None:
        """Wait for more.

        Parameters: ``patience`` in seconds. Returns: empty at the end; None if nothing came.
        Raises: Refusal 408 for a client that sends more slowly than it has to.
        """
        if self._spooled:
            return self.take()
        allowance = self._allowance()
        too_slow_first = allowance is not None and (patience is None or allowance <= patience)
        began = time.monotonic()
        try:
            async with asyncio.timeout(allowance if too_slow_first else patience):
                data = await self._receive()
        except TimeoutError:
            self._waited += time.monotonic() - began
            if too_slow_first:
                raise _too_slow() from None
            return None
        self._last_arrival = time.monotonic()
        self._waited += self._last_arrival - began
        self._arrived += len(data)
        return data

    async def _receive(self) -> bytes:
        try:
            return await self._content.readany()
        except TimeoutError as error:  # the connection's, not ours
            raise ConnectionResetError("the connection is dead") from error

    def _allowance(self) -> float | None:
        """Seconds that the client may still let us wait."""
        if not self._intake.min_rate:
            return None
        return _GRACE + self._arrived / self._intake.min_rate - self._waited

    def invite(self) -> None:
        """Ask a client that waits for it to send (RFC 9110 §10.1.1). Before any response."""
        if not self._invited and self.length and self._request.transport is not None:
            # The writer of the response does not count this one: it is an interim response.
            self._request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._invited = True

    async def spool(self, limit: int, patience: float | None) -> int:
        """Read on into memory, or a temporary file above 64 KiB, to be taken later. Once.

        Parameters: ``limit`` in bytes, after which it stops; ``patience`` the seconds that it waits
        for the client to go on. Returns: the bytes that were read.
        Raises: Refusal 408 for a client that is too slow, 503 if there is no room.
        """
        assert self._spool is None
        self._spool = tempfile.SpooledTemporaryFile(_SPOOL_IN_MEMORY)  # noqa: SIM115 - see close
        while self._spool_size <= limit:
            data = await self.read(patience)
            if not data:
                break
            self._spool_size += len(data)
            self._intake.spooled += len(data)
            if self._intake.spooled > self._intake.spool_total:
                raise _no_room("--spool-total is used up")
            try:
                self._spool.write(data)
            except OSError as error:
                raise _no_room(f"the temporary folder: {error.strerror}") from None
        self._spool.seek(0)
        self._spooled = self._spool_size
        return self._spool_size

    def close(self) -> None:
        """Free the spool. What the client still sends is aiohttp's to read."""
        self._intake.spooled -= self._spool_size
        self._spool_size = 0
        if self._spool is not None:
            with contextlib.suppress(OSError):  # a full disk says so again
                self._spool.close()


def _too_large(message: str) -> Refusal:
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)


def _too_slow() -> Refusal:
    return Refusal(HTTPStatus.REQUEST_TIMEOUT, "The request body did not arrive in time.")


def _no_room(reason: str) -> Refusal:
    return Refusal(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "There is no room for the request body.",
        f"no room for the request body: {reason}",
        RETRY_SOON,
    )


def _expects_continue(request: web.BaseRequest) -> bool:
    return (
        request.version >= (1, 1)
        and request.headers.get("Expect", "").strip().lower() == "100-continue"
    )
