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
from typing import IO

from aiohttp import web

from wagi.cgi.environment import BadRequest, RequestHead
from wagi.config.values import HostPort
from wagi.refusal import Refusal
from wagi.routing import has_dot_segment
from wagi.trust import Client

_ABSOLUTE = re.compile(r"(https?)://([^/?#]*)(/[^#]*|\?[^#]*|)", re.IGNORECASE)
_SPOOL_IN_MEMORY = 1024 * 1024
_PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """A request target (RFC 9112 §3.2), split: ``authority`` only where the client sent one."""

    path: str
    query: str | None
    authority: str | None = None

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read the origin form or the absolute form. Raises: BadRequest for anything else."""
        authority = None
        if not text.startswith("/"):
            match = _ABSOLUTE.match(text)
            if not match:
                raise BadRequest("The request's target is not a path.")
            authority = match[2].rpartition("@")[2]
            text = match[3] if match[3].startswith("/") else "/" + match[3]
        try:
            text.encode()
        except UnicodeEncodeError:  # aiohttp keeps other bytes as surrogates
            raise BadRequest("The request's target is not UTF-8.") from None
        path, mark, query = text.partition("#")[0].partition("?")
        if has_dot_segment(path):
            raise BadRequest("The request's path has a segment . or ..")
        return cls(path, query if mark else None, authority)


def read_head(
    request: web.BaseRequest, target: Target, client: Client, default: HostPort, length: int
) -> RequestHead:
    """Turn a request into the value that variables are made of.

    Parameters: ``default`` the host for what the request does not say; ``length`` of the body in
    bytes. Raises: BadRequest.
    """
    # aiohttp has refused a second Host header.
    host, port = _split_host(client.host or target.authority or request.headers.get("Host", ""))
    if port is None and client.scheme:
        # A trusted proxy told the client's URL: there a missing port is the scheme's.
        port = 443 if client.scheme == "https" else 80
    return RequestHead(
        method=request.method,
        path=target.path,
        query=target.query,
        protocol=f"HTTP/{request.version.major}.{request.version.minor}",
        headers=request.raw_headers,
        content_length=length,
        scheme=client.scheme or ("https" if _is_tls(request) else "http"),
        server_name=host or default.host or _socket_name(request)[0],
        server_port=str(port or default.port or _socket_name(request)[1]),
        remote_address=client.address,
    )


# The same few hosts come again and again; a client that makes some up cannot fill the memory.
@lru_cache(maxsize=1024)
def _split_host(text: str) -> tuple[str, int | None]:
    try:
        parsed = HostPort.parse(text.strip())
    except ValueError:
        raise BadRequest("The request's Host is not a host.") from None
    return parsed.host, parsed.port


def _is_tls(request: web.BaseRequest) -> bool:
    return request.transport is not None and bool(request.transport.get_extra_info("sslcontext"))


def _socket_name(request: web.BaseRequest) -> tuple[str, str]:
    name = request.transport.get_extra_info("sockname") if request.transport else None
    if not isinstance(name, tuple):
        return "localhost", "80"
    return (f"[{name[0]}]" if ":" in name[0] else name[0]), str(name[1])


class Body:
    """A request body, read as it arrives: while nobody reads, the client is held back.

    Attributes: ``length`` in bytes.
    """

    def __init__(self, request: web.BaseRequest, length: int) -> None:
        self.length = length
        self._request = request
        self._content = request.content
        self._invited = not _expects_continue(request)
        self._spool: IO[bytes] | None = None
        self._spooled = 0  # bytes in the spool that have not been taken
        self._last_arrival = time.monotonic()

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

    async def read(self) -> bytes:
        """Wait for more; empty at the end."""
        if self._spooled:
            return self.take()
        data = await self._content.readany()
        self._last_arrival = time.monotonic()
        return data

    def invite(self) -> None:
        """Ask a client that waits for it to send (RFC 9110 §10.1.1). Before any response."""
        if not self._invited and self.length and self._request.transport is not None:
            # The writer of the response does not count this one: it is an interim response.
            self._request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._invited = True

    async def spool(self, limit: int, patience: float | None) -> int:
        """Read on into memory, or a temporary file above 1 MiB, to be taken later. Once.

        Parameters: ``limit`` in bytes, after which it stops; ``patience`` the seconds that it waits
        for the client to go on. Returns: the bytes that were read.
        """
        assert self._spool is None
        self._spool = tempfile.SpooledTemporaryFile(_SPOOL_IN_MEMORY)  # noqa: SIM115 - see close
        total = 0
        with contextlib.suppress(TimeoutError):
            while total <= limit:
                async with asyncio.timeout(patience):
                    data = await self._content.readany()
                if not data:
                    break
                self._spool.write(data)
                total += len(data)
        self._spool.seek(0)
        self._spooled = total
        return total

    def close(self) -> None:
        """Free the spool. What the client still sends is aiohttp's to read."""
        if self._spool is not None:
            self._spool.close()


async def open_body(request: web.BaseRequest, spool_limit: int, seconds: float | None) -> Body:
    """The body of a request; without Content-Length it is read first, to know its length.

    Parameters: ``spool_limit`` in bytes; ``seconds`` for reading it.
    Raises: Refusal 413 for a longer one, 408 for a slower one.
    """
    length = request.headers.get("Content-Length")
    if length is not None or "Transfer-Encoding" not in request.headers:
        return Body(request, int(length or 0))
    body = Body(request, 1)
    try:
        body.invite()
        async with asyncio.timeout(seconds):
            body.length = await body.spool(spool_limit, None)
        if body.length > spool_limit:
            raise Refusal(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "The request body is too large to be taken without a Content-Length.",
            )
    except TimeoutError:
        body.close()
        raise Refusal(
            HTTPStatus.REQUEST_TIMEOUT, "The request body did not arrive in time."
        ) from None
    except web.RequestPayloadError:
        body.close()
        raise BadRequest("The request body is not validly chunked.") from None
    except BaseException:
        body.close()
        raise
    return body


def _expects_continue(request: web.BaseRequest) -> bool:
    return (
        request.version >= (1, 1)
        and request.headers.get("Expect", "").strip().lower() == "100-continue"
    )
