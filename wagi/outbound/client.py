"""How a guest's requests are sent: checked at every hop, with limits, and never longer than asked.

The addresses that a name leads to are checked as they are resolved, and those are the addresses
that are connected to: a name that leads elsewhere a moment later changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDict
from yarl import URL

from wagi import __version__
from wagi.guest.wasi.http_session import Failure, OutboundError, OutboundRequest
from wagi.outbound.destinations import Destinations

_MAX_REDIRECTS = 10
_CONNECT_TIMEOUT = 10.0  # seconds
_RESOLVERS = 32  # names that an entry's guests resolve at a time
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")  # RFC 9110 §5.6.2
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OURS = ("host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer",
         "expect", "keep-alive", "proxy-connection")  # fmt: skip
_SECRETS = ("authorization", "cookie", "proxy-authorization")
_SEE_OTHER = (301, 302, 303)
_REDIRECTS = (*_SEE_OTHER, 307, 308)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OutboundRules:
    """What the handlers of an entry may ask of other servers.

    Attributes: ``allowed_hosts``; ``max_open`` responses of a guest; ``timeout`` of a request with
    its response in seconds, None for none; ``response_limit`` of a body in bytes, None for none.
    """

    allowed_hosts: tuple[str, ...]
    max_open: int
    timeout: float | None
    response_limit: int | None


class OutboundClient:
    """Sends the requests of an entry's guests. Its owner closes it."""

    def __init__(self, rules: OutboundRules) -> None:
        """Raises: ValueError for an entry of ``allowed_hosts`` that is none."""
        self.max_open = rules.max_open
        self._rules = rules
        self._destinations = Destinations(rules.allowed_hosts)

    @cached_property
    def _session(self) -> aiohttp.ClientSession:
        """Opened by the first request, in the event loop."""
        return aiohttp.ClientSession(
            # No limit of connections: guests that wait for a slow server must not keep others from
            # a quick one. There are as many guests as there are places, each with max_open.
            connector=aiohttp.TCPConnector(resolver=_Resolver(self._destinations), limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._rules.timeout, sock_connect=_CONNECT_TIMEOUT),
            auto_decompress=False,  # headers and body stay as they were sent
            skip_auto_headers=("Accept-Encoding", "Content-Type", "User-Agent"),
        )

    async def close(self) -> None:
        """Close what it has opened."""
        if "_session" in self.__dict__:
            await self._session.close()

    async def send(self, request: OutboundRequest) -> OutboundResponse:
        """Send a request, follow redirects. Who called closes the response.

        Raises: OutboundError.
        """
        method, url, body = request.method.upper(), _url(request.url), request.body
        if not _TOKEN.fullmatch(method) or method in ("CONNECT", "TRACE"):
            raise OutboundError(Failure.INVALID_METHOD, f"not a method: {method!r}")
        headers = _headers(request.headers)
        for _ in range(_MAX_REDIRECTS + 1):
            response = await self._send_one(method, url, headers, body)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or location is None:
                return OutboundResponse(response, self._rules.response_limit)
            response.close()
            next_url = _url(location, url)
            if response.status == 303 or (response.status in _SEE_OTHER and method == "POST"):
                method, body = "HEAD" if method == "HEAD" else "GET", b""
                _remove(headers, [name for name in headers if name.startswith("content-")])
            if next_url.origin() != url.origin():
                _remove(headers, _SECRETS)
            url = next_url
        raise OutboundError(Failure.REQUEST, f"more than {_MAX_REDIRECTS} redirects")

    async def _send_one(
        self, method: str, url: URL, headers: CIMultiDict[str], body: bytes
    ) -> aiohttp.ClientResponse:
        assert url.host is not None
        assert url.port is not None
        if why := self._destinations.why_denied(url.scheme, url.host, url.port):
            raise OutboundError(Failure.NOT_ALLOWED, why)
        try:
            return await self._session.request(
                method, url, headers=headers, data=body or None, allow_redirects=False
            )
        except aiohttp.InvalidURL as error:
            raise OutboundError(Failure.INVALID_URL, str(error)) from None
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, _DeniedAddress):
                raise OutboundError(Failure.NOT_ALLOWED, str(error.os_error)) from None
            raise OutboundError(Failure.REQUEST, f"{url.origin()}: {error.os_error}") from None
        except TimeoutError:
            raise OutboundError(Failure.REQUEST, f"{url.origin()} did not answer in time") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise OutboundError(Failure.REQUEST, f"{url.origin()}: {error}") from None


class OutboundResponse:
    """The response to a guest's request, whose body is read as the guest asks for it."""

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
        """At most ``size`` bytes of the body, b"" at its end. Raises: OutboundError."""
        try:
            data = await self._response.content.read(size)
        except TimeoutError:
            raise OutboundError(Failure.RUNTIME, "the response did not end in time") from None
        except (aiohttp.ClientError, OSError) as error:
            raise OutboundError(Failure.RUNTIME, f"the response was cut: {error}") from None
        self._received += len(data)
        if self._limit is not None and self._received > self._limit:
            self.close()
            what = f"the response has more than {self._limit} bytes (http_response_limit)"
            raise OutboundError(Failure.RUNTIME, what)
        return data

    def close(self) -> None:
        """End it, wherever it is."""
        self._response.close()


class _DeniedAddress(OSError):
    """A name leads to an address that a guest must not reach."""


class _Resolver(AbstractResolver):
    """Resolves names, to allowed addresses only.

    On threads of its own: names that take long to resolve are in nobody else's way, nor in that of
    a process that ends.
    """

    def __init__(self, destinations: Destinations) -> None:
        self._destinations = destinations
        self._places = asyncio.Semaphore(_RESOLVERS)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a name. Raises: _DeniedAddress if none of them is allowed."""
        ask = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)
        async with self._places:
            infos = await _on_a_thread(ask)
        found = [(kind, protocol, str(address[0])) for kind, _, protocol, _, address in infos]
        allowed = [item for item in found if self._destinations.allows_address(item[2], port)]
        if found and not allowed:
            raise _DeniedAddress(
                f"{host} is {found[0][2]}, which is not a public address: name it, or its network,"
                " in allowed_hosts"
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
        """Nothing is left."""


async def _on_a_thread(work: Callable[[], T]) -> T:
    """Wait for something that blocks. Unlike an executor's thread, nobody waits for its end."""
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
        except (OSError, ValueError) as error:  # no such name, or none at all
            take, outcome = future.set_exception, error
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(deliver, take, outcome)

    threading.Thread(target=run, name="wagi-resolver", daemon=True).start()
    return await future


def _url(text: str, base: URL | None = None) -> URL:
    """Read a URL. Raises: OutboundError."""
    try:
        url = URL(text) if base is None else base.join(URL(text))
        if url.scheme in ("http", "https") and url.host and url.port:
            return url.with_fragment(None)
    except ValueError:
        pass
    raise OutboundError(Failure.INVALID_URL, f"not an http URL: {text[:200]!r}")


def _headers(pairs: list[tuple[str, str]]) -> CIMultiDict[str]:
    """The headers of a request, without those that are not a guest's to set.

    ``Host`` among them: behind one address there may be hosts that are not allowed.
    """
    headers = CIMultiDict[str]()
    for name, value in pairs:
        if not _TOKEN.fullmatch(name) or _BAD_VALUE.search(value):
            raise OutboundError(Failure.INVALID_ENCODING, f"not a header: {name[:64]!r}")
        if name.lower() not in _OURS:
            headers.add(name.lower(), value)
    headers.setdefault("user-agent", f"wagi/{__version__}")
    return headers


def _remove(headers: CIMultiDict[str], names: tuple[str, ...] | list[str]) -> None:
    for name in names:
        headers.popall(name, None)
