"""The HTTP client of guests: it checks every hop against the allowlist, and enforces limits.

The client connects to the very addresses that were checked when the name was resolved, so that
DNS rebinding has no effect.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict
from yarl import URL

from wagi import __version__
from wagi.guest.http_error_code import HttpErrorCode
from wagi.guest.wasi.http_session import ErrorCode, OutboundError, OutboundRequest
from wagi.limits import Limits
from wagi.outbound.destinations import Destinations
from wagi.outbound.trace import OutboundTrace

_MAX_REDIRECTS = 10
_CONNECT_TIMEOUT_S = 10.0  # seconds
_MAX_CONCURRENT_LOOKUPS = 32  # per entry of modules.toml
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")  # RFC 9110 §5.6.2
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_MANAGED_HEADERS = (
    *("host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"),
    *("expect", "keep-alive", "proxy-connection"),
)
_CREDENTIAL_HEADERS = ("authorization", "cookie", "proxy-authorization")
_REWRITING_REDIRECTS = (301, 302, 303)
_REDIRECTS = (*_REWRITING_REDIRECTS, 307, 308)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Timeout:
    """The time limits of a request: those of aiohttp, and that of the head of the response."""

    client: aiohttp.ClientTimeout
    first_byte: float | None


class OutboundClient:
    """Sends the requests of an entry's guests. The owner closes it."""

    def __init__(self, allowed_hosts: tuple[str, ...], limits: Limits) -> None:
        """Make a client; it opens its first connection when it sends its first request.

        Args:
            allowed_hosts: Which hosts the guests may call.
            limits: The limits of the entry.

        Raises:
            ValueError: If an item of ``allowed_hosts`` is not valid.
        """
        self.max_open = limits.http_max_concurrency
        self._timeout = limits.http_timeout
        self._response_limit = limits.http_response_limit
        self._destinations = Destinations(allowed_hosts)

    @cached_property
    def _session(self) -> aiohttp.ClientSession:
        """The session, created by the first request in the event loop."""
        return aiohttp.ClientSession(
            # No connection limit: guests that wait for a slow server must not block others. The
            # number of connections is bounded by the slots for guests times max_open.
            connector=aiohttp.TCPConnector(resolver=_Resolver(self._destinations), limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # headers and body stay as they were sent
            skip_auto_headers=("Accept-Encoding", "Content-Type", "User-Agent"),
        )

    async def close(self) -> None:
        """Close the session if it was created."""
        if "_session" in self.__dict__:
            await self._session.close()

    async def send(
        self, request: OutboundRequest, trace: OutboundTrace | None = None
    ) -> OutboundResponse:
        """Send a request, and follow redirects if the guest expects it.

        The caller closes the response.

        Args:
            request: The request.
            trace: Makes a span for each hop; None if traces are off.

        Raises:
            OutboundError: The request is invalid, not allowed or failed.
        """
        method, url, body = request.method.upper(), _parse_url(request.url), request.body
        limits = self._timeout_of(request)
        if not _TOKEN.fullmatch(method) or method in ("CONNECT", "TRACE"):
            raise OutboundError(ErrorCode.INVALID_METHOD, f"invalid method: {method!r}")
        headers = _filter_headers(request.headers)
        for redirects in range(_MAX_REDIRECTS + 1):
            if trace is None:
                response = await self._send_one(method, url, headers, body, limits)
            else:
                response = await self._send_traced(
                    trace, redirects, method, url, headers, body, limits
                )
            location = response.headers.get("Location")
            is_redirect = response.status in _REDIRECTS and location is not None
            if not is_redirect or not request.follows_redirects:
                return OutboundResponse(response, self._response_limit)
            response.close()
            next_url = _parse_url(location or "", url)
            if response.status == 303 or (
                response.status in _REWRITING_REDIRECTS and method == "POST"
            ):
                method, body = "HEAD" if method == "HEAD" else "GET", b""
                _remove(headers, [name for name in headers if name.startswith("content-")])
            if next_url.origin() != url.origin():
                _remove(headers, _CREDENTIAL_HEADERS)
            url = next_url
        raise OutboundError(ErrorCode.REQUEST, f"more than {_MAX_REDIRECTS} redirects")

    async def _send_traced(
        self,
        trace: OutboundTrace,
        redirects: int,
        method: str,
        url: URL,
        headers: CIMultiDict[str],
        body: bytes | AsyncIterator[bytes],
        limits: _Timeout,
    ) -> aiohttp.ClientResponse:
        """Do the same as ``_send_one``, within a span whose number is sent."""
        assert url.host is not None
        assert url.port is not None
        sent = headers.copy()  # each hop has its own span
        span = trace.begin_outbound(method, str(url), url.host, url.port, sent, redirects)
        try:
            response = await self._send_one(method, url, sent, body, limits)
        except OutboundError as error:
            span.fail(error.code.name.lower(), str(error))
            raise
        except BaseException:
            span.fail("cancelled", "the guest has ended")
            raise
        span.respond(response.status)
        return response

    def _timeout_of(self, request: OutboundRequest) -> _Timeout:
        """Return the time limits of a request, which a guest can only lower."""
        connect = (_CONNECT_TIMEOUT_S, request.connect_timeout)
        return _Timeout(
            aiohttp.ClientTimeout(
                total=self._timeout,
                sock_connect=min(limit for limit in connect if limit is not None),
                sock_read=request.between_bytes_timeout,
            ),
            request.first_byte_timeout,
        )

    async def _send_one(
        self,
        method: str,
        url: URL,
        headers: CIMultiDict[str],
        body: bytes | AsyncIterator[bytes],
        limits: _Timeout,
    ) -> aiohttp.ClientResponse:
        assert url.host is not None
        assert url.port is not None
        if why := self._destinations.why_denied(url.scheme, url.host, url.port):
            raise OutboundError(ErrorCode.NOT_ALLOWED, why)
        try:
            async with asyncio.timeout(limits.first_byte):
                return await self._session.request(
                    method,
                    url,
                    headers=headers,
                    data=body or None,
                    allow_redirects=False,
                    timeout=limits.client,
                )
        except aiohttp.InvalidURL as error:
            raise OutboundError(ErrorCode.INVALID_URL, str(error)) from None
        except aiohttp.ClientConnectorError as error:
            raise _connection_error(url, error) from None
        except TimeoutError as error:
            is_connecting = isinstance(error, aiohttp.ConnectionTimeoutError)
            raise OutboundError(
                ErrorCode.REQUEST,
                f"{url.origin()} did not respond in time (http_timeout)",
                HttpErrorCode.CONNECTION_TIMEOUT
                if is_connecting
                else HttpErrorCode.CONNECTION_READ_TIMEOUT,
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if isinstance(error.__cause__, OutboundError):  # of the body, which a guest produces
                raise error.__cause__ from None
            is_broken = isinstance(error, aiohttp.ServerDisconnectedError | OSError)
            code = (
                HttpErrorCode.CONNECTION_TERMINATED
                if is_broken
                else HttpErrorCode.HTTP_PROTOCOL_ERROR
            )
            raise OutboundError(ErrorCode.REQUEST, f"{url.origin()}: {error}", code) from None


def _connection_error(url: URL, error: aiohttp.ClientConnectorError) -> OutboundError:
    """Return why a connection could not be made."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        message = f"{url.origin()}: {error.certificate_error}"
        return OutboundError(ErrorCode.REQUEST, message, HttpErrorCode.TLS_CERTIFICATE_ERROR)
    cause = error.os_error
    if isinstance(cause, _DeniedAddress):
        code = HttpErrorCode.DESTINATION_IP_PROHIBITED
        return OutboundError(ErrorCode.NOT_ALLOWED, str(cause), code)
    code = HttpErrorCode.DESTINATION_UNAVAILABLE
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        code = HttpErrorCode.DNS_ERROR
    elif isinstance(cause, ssl.SSLError):
        code = HttpErrorCode.TLS_PROTOCOL_ERROR
    elif isinstance(cause, ConnectionRefusedError):
        code = HttpErrorCode.CONNECTION_REFUSED
    return OutboundError(ErrorCode.REQUEST, f"{url.origin()}: {cause}", code)


class OutboundResponse:
    """The response to a guest's request. Its body is read on demand."""

    def __init__(self, response: aiohttp.ClientResponse, limit: int | None) -> None:
        self.status = response.status
        self.headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in response.raw_headers
        ]
        self._response = response
        self._limit = limit
        self._received = 0

    async def read(self, size: int) -> bytes:
        """Read at most ``size`` bytes of the body; empty at the end.

        Raises:
            OutboundError: The response timed out, was interrupted or is too large.
        """
        try:
            data = await self._response.content.read(size)
        except TimeoutError:
            raise OutboundError(
                ErrorCode.RUNTIME, "the response did not end in time (http_timeout)"
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise OutboundError(
                ErrorCode.RUNTIME, f"the response was interrupted: {error}"
            ) from None
        self._received += len(data)
        if self._limit is not None and self._received > self._limit:
            self.close()
            message = f"the response has more than {self._limit} bytes (http_response_limit)"
            raise OutboundError(ErrorCode.RUNTIME, message)
        return data

    def close(self) -> None:
        """Close the connection, even if the body has not been read to its end."""
        self._response.close()


class _DeniedAddress(OSError):
    """A host name resolves to an address that a guest must not connect to."""


class _Resolver(AbstractResolver):
    """Resolves host names to allowed addresses only.

    Each lookup has its own thread, so that slow ones block neither other work nor the exit of the
    process.
    """

    def __init__(self, destinations: Destinations) -> None:
        self._destinations = destinations
        self._semaphore = asyncio.Semaphore(_MAX_CONCURRENT_LOOKUPS)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Resolve a host name.

        Returns:
            The addresses that are allowed.

        Raises:
            _DeniedAddress: None of the addresses is allowed.
        """
        look_up = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)
        async with self._semaphore:
            infos = await _run_in_thread(look_up)
        found = [(kind, protocol, str(address[0])) for kind, _, protocol, _, address in infos]
        allowed = [item for item in found if self._destinations.allows_address(item[2], port)]
        if found and not allowed:
            raise _DeniedAddress(
                f"{host} resolves to {found[0][2]}, which is not a public address: add it, or its"
                " network, to allowed_hosts"
            )
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, protocol, address in allowed
        ]

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""


async def _run_in_thread(work: Callable[[], T]) -> T:
    """Run a blocking function in a daemon thread, which is never joined (unlike an executor's)."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def deliver(take: Callable[[Any], None], outcome: object) -> None:
        if not future.done():  # not cancelled
            take(outcome)

    def run() -> None:
        take: Callable[[Any], None] = future.set_result
        outcome: object
        try:
            outcome = work()
        except (OSError, ValueError) as error:  # the name is unknown or invalid
            take, outcome = future.set_exception, error
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(deliver, take, outcome)

    threading.Thread(target=run, name="wagi-resolver", daemon=True).start()
    return await future


def _parse_url(text: str, base: URL | None = None) -> URL:
    """Parse a URL.

    Raises:
        OutboundError: It is not a valid http: or https: URL.
    """
    try:
        url = URL(text) if base is None else base.join(URL(text))
        if url.scheme in ("http", "https") and url.host and url.port:
            return url.with_fragment(None)
    except ValueError:
        pass
    raise OutboundError(ErrorCode.INVALID_URL, f"not a valid http: or https: URL: {text[:200]!r}")


def _filter_headers(pairs: list[tuple[str, str]]) -> CIMultiDict[str]:
    """Remove the headers that a guest must not set.

    ``Host`` is one of them: one address may serve hosts that are not allowed.

    Raises:
        OutboundError: A header is invalid.
    """
    headers = CIMultiDict[str]()
    for name, value in pairs:
        if not _TOKEN.fullmatch(name) or _BAD_VALUE.search(value):
            raise OutboundError(ErrorCode.INVALID_ENCODING, f"invalid header: {name[:64]!r}")
        if name.lower() not in _MANAGED_HEADERS:
            headers.add(name.lower(), value)
    headers.setdefault("user-agent", f"wagi/{__version__}")
    return headers


def _remove(headers: CIMultiDict[str], names: tuple[str, ...] | list[str]) -> None:
    for name in names:
        headers.popall(name, None)
