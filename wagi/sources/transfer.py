"""HTTP as downloads need it: patient with servers, and trusting nothing that they send.

A request is tried again when the server says that it is busy or broken, or goes away; a download
goes on where it was cut. Every answer has a limit, every download a digest.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import IO, Any

import aiohttp
from aiohttp.helpers import get_env_proxy_for_url
from yarl import URL

from wagi import __version__
from wagi.sources.cache import ModuleCache
from wagi.sources.ends import FetchError, SourceError, UnreachableError
from wagi.sources.modules import Report
from wagi.sources.references import LOOPBACK, origin_of

ATTEMPTS = 4
_FIRST_PAUSE = 0.4  # seconds; each pause is twice the last one
_LONGEST_PAUSE = 20.0  # seconds, whatever Retry-After says
_TRY_AGAIN = (408, 429, 500, 502, 503, 504)
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=20)
_SMALL = 4 * 1024**2  # the largest manifest that the OCI distribution specification asks for
_PIECE = 64 * 1024
_LOST = (aiohttp.ClientError, TimeoutError, ConnectionError)

Open = Callable[[Mapping[str, str]], Awaitable[aiohttp.ClientResponse]]
"""``open(headers)`` sends a GET and returns the response, whose body nobody has read."""


@dataclass(frozen=True, slots=True)
class Digest:
    """What a download must be.

    Attributes: ``text`` sha256:…; ``size`` in bytes if it is known.
    """

    text: str
    size: int | None = None


class Transfer:
    """Requests of one start, on shared connections.

    Attributes: ``limit`` the largest download in bytes.
    """

    def __init__(self, session: aiohttp.ClientSession, limit: int, report: Report) -> None:
        self.limit = limit
        self._session = session
        self._report = report

    @staticmethod
    @contextlib.asynccontextmanager
    async def start(limit: int, report: Report) -> AsyncIterator[Transfer]:
        """Open the connections that a start needs, and close them."""
        async with aiohttp.ClientSession(
            timeout=_TIMEOUT,
            headers={"User-Agent": f"wagi/{__version__}"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # what is verified is what was sent
        ) as session:
            yield Transfer(session, limit, report)

    async def open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        data: bytes | None = None,
        insecure: bool = False,
        attempts: int = ATTEMPTS,
    ) -> aiohttp.ClientResponse:
        """Send a request, again if need be. Who called closes the response.

        Parameters: ``insecure`` whether any certificate will do; ``attempts`` at most.
        Raises: UnreachableError after the last attempt.
        """
        attempt = 0
        while True:
            attempt += 1
            pause = _FIRST_PAUSE * 2 ** (attempt - 1) * random.uniform(1, 1.5)
            try:
                target = URL(url)
                response = await self._session.request(
                    method, target, headers=headers, data=data, ssl=not insecure, **_proxy(target)
                )
            except (aiohttp.ClientConnectorCertificateError, ssl.SSLError) as error:
                raise UnreachableError(f"{origin_of(url)}: {_reason(error)}") from None
            except aiohttp.InvalidUrlRedirectClientError:
                raise FetchError(f"{origin_of(url)} redirects to what is no http URL") from None
            except (aiohttp.InvalidURL, ValueError):
                raise SourceError(f"not a URL that can be asked: {origin_of(url)}") from None
            except aiohttp.TooManyRedirects:
                raise FetchError(f"{origin_of(url)} redirects in a circle") from None
            except _LOST as error:
                if attempt == attempts:
                    raise UnreachableError(
                        f"{origin_of(url)} cannot be reached: {_reason(error)}"
                    ) from None
            else:
                if response.status not in _TRY_AGAIN:
                    return response
                pause = _wished_pause(response.headers.get("Retry-After", ""), pause)
                response.release()
                if attempt == attempts:
                    raise UnreachableError(
                        f"{origin_of(url)} answers {response.status} {response.reason}, in"
                        f" {attempts} attempts"
                    )
            await asyncio.sleep(pause)

    async def read(self, response: aiohttp.ClientResponse) -> bytes:
        """The whole body of a small answer. Raises: FetchError, UnreachableError if it is cut."""
        content = bytearray()
        try:
            async for piece in response.content.iter_chunked(_PIECE):
                content += piece
                if len(content) > _SMALL:
                    raise FetchError(f"{_origin(response)} sends more than {_SMALL} bytes")
        except _LOST as error:
            raise UnreachableError(f"{_origin(response)} {_cut(error)}") from None
        return bytes(content)

    async def download(self, name: str, open_: Open, digest: Digest, cache: ModuleCache) -> None:
        """Bring a content into the cache, going on where the connection was cut.

        Parameters: ``name`` for the progress.
        Raises: FetchError if it is not what it must be, or too large; UnreachableError.
        """
        if digest.size is not None and digest.size > self.limit:
            raise self._too_large(f"{digest.size} bytes")
        with cache.writing(digest.text) as file:
            try:
                await self._fill(file, name, open_, digest)
            finally:
                self._report("")

    async def _fill(self, file: IO[bytes], name: str, open_: Open, digest: Digest) -> None:
        attempt = 0
        while True:
            attempt += 1
            try:
                await self._receive(file, name, open_, digest)
                break
            except _LOST as error:
                if attempt == ATTEMPTS:
                    raise UnreachableError(f"the download {_cut(error)}") from None
            await asyncio.sleep(_FIRST_PAUSE * 2 ** (attempt - 1))
        file.seek(0)
        content = hashlib.sha256()
        while piece := file.read(_PIECE):
            content.update(piece)
        if f"sha256:{content.hexdigest()}" != digest.text:
            raise FetchError(
                f"what was sent is not what was asked for: expected {digest.text}, found"
                f" sha256:{content.hexdigest()}"
            )

    async def _receive(self, file: IO[bytes], name: str, open_: Open, digest: Digest) -> None:
        """One attempt. Raises: aiohttp's errors if the connection is cut."""
        start = file.seek(0, 2)
        if digest.size is not None and start == digest.size:
            return
        async with await open_({"Range": f"bytes={start}-"} if start else {}) as response:
            if response.status == 206 and _starts_at(response) == start:
                pass
            elif response.status in (200, 416):  # a server may know no ranges: from the beginning
                file.seek(0)
                file.truncate()
                start = 0
                if response.status == 416:
                    raise aiohttp.ClientPayloadError("the server has less than it sent before")
            else:
                raise FetchError(f"{_origin(response)} answers {response.status} {response.reason}")
            most = self.limit if digest.size is None else digest.size
            received = start
            async for piece in response.content.iter_chunked(_PIECE):
                received += len(piece)
                if received > most:
                    if digest.size is None:
                        raise self._too_large("more")
                    raise FetchError(f"more than the {most} bytes that it should have")
                file.write(piece)
                self._report(f"Downloading {name}: {_mib(received)}{_of(digest.size)}")
            if digest.size is not None and received < digest.size:
                raise aiohttp.ClientPayloadError(f"it ends after {received} of {digest.size} bytes")

    def _too_large(self, found: str) -> FetchError:
        return FetchError(
            f"it has {found}, and a module may have {self.limit} bytes (--max-module-size)"
        )


def _proxy(target: URL) -> dict[str, Any]:
    """The proxy that the environment names, as curl and Docker understand it.

    aiohttp's ``trust_env`` would take credentials from .netrc besides, where ours are Docker's.
    """
    if LOOPBACK.fullmatch(target.host or ""):
        return {}
    try:
        proxy, auth = get_env_proxy_for_url(target)
    except LookupError:
        return {}
    return {"proxy": proxy, "proxy_auth": auth}


def _starts_at(response: aiohttp.ClientResponse) -> int | None:
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _wished_pause(retry_after: str, otherwise: float) -> float:
    """How long a server wants us to wait (RFC 9110 §10.2.3), within reason."""
    try:
        if retry_after.isdigit():
            seconds = float(retry_after)
        else:
            seconds = (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return otherwise
    return min(max(seconds, otherwise), _LONGEST_PAUSE)


def _origin(response: aiohttp.ClientResponse) -> str:
    return origin_of(str(response.url))


def _cut(error: BaseException) -> str:
    return f"was cut: {_reason(error)}"


def _reason(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or str(error.os_error)
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    return str(error) or "the connection was closed"


def _mib(count: int) -> str:
    return f"{count / 1024**2:.1f}"


def _of(size: int | None) -> str:
    return " MiB" if size is None else f" of {_mib(size)} MiB"
