"""An HTTP client for downloads, with retries, limits and verification.

Requests are retried after transient errors, and interrupted downloads are resumed. Every response
has a size limit, and every download is verified against a digest.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import re
import socket
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
from wagi.sources.errors import FetchError, SourceError, UnreachableError
from wagi.sources.module_request import Report
from wagi.sources.references import LOOPBACK, origin_of

ATTEMPTS = 4
_FIRST_DELAY_S = 0.4  # doubled for each further attempt
_MAX_DELAY_S = 20.0  # upper bound for Retry-After
_TRANSIENT_STATUSES = (408, 429, 500, 502, 503, 504)
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=20)
_MAX_ANSWER_SIZE = 4 * 1024**2  # bytes; registries have to accept manifests of this size
_CHUNK_SIZE = 64 * 1024
_TRANSIENT_ERRORS = (aiohttp.ClientError, TimeoutError, ConnectionError)

Open = Callable[[Mapping[str, str]], Awaitable[aiohttp.ClientResponse]]
"""``open(headers)`` sends a GET request and returns the response, whose body has not been read."""


@dataclass(frozen=True, slots=True)
class Digest:
    """The expected content of a download.

    Attributes:
        text: The digest, as ``sha256:…``.
        size: The size in bytes, if it is known.
    """

    text: str
    size: int | None = None


class Downloader:
    """Sends the requests of one load of modules, over shared connections.

    Attributes:
        limit: Maximum size of a download in bytes.
    """

    def __init__(self, session: aiohttp.ClientSession, limit: int, report: Report) -> None:
        self.limit = limit
        self._session = session
        self._report = report

    @staticmethod
    @contextlib.asynccontextmanager
    async def start(limit: int, report: Report) -> AsyncIterator[Downloader]:
        """Create a downloader, and close its connections at the end of the block."""
        async with aiohttp.ClientSession(
            timeout=_TIMEOUT,
            headers={"User-Agent": f"wagi/{__version__}"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # the digest is that of the bytes as sent
        ) as session:
            yield Downloader(session, limit, report)

    async def open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        data: bytes | None = None,
        insecure: bool = False,
        attempts: int = ATTEMPTS,
    ) -> aiohttp.ClientResponse:
        """Send a request, with retries. The caller closes the response.

        Args:
            method: The HTTP method.
            url: The URL.
            headers: The request headers.
            data: The body, if any.
            insecure: Whether to accept any certificate.
            attempts: Maximum number of attempts.

        Raises:
            SourceError: The URL is invalid.
            FetchError: The server redirects in a loop or to an invalid URL.
            UnreachableError: The last attempt failed.
        """
        attempt = 0
        while True:
            attempt += 1
            pause = _FIRST_DELAY_S * 2 ** (attempt - 1) * random.uniform(1, 1.5)
            try:
                target = URL(url)
                response = await self._session.request(
                    method,
                    target,
                    headers=headers,
                    data=data,
                    ssl=not insecure,
                    **_find_proxy(target),
                )
            except (aiohttp.ClientConnectorCertificateError, ssl.SSLError) as error:
                raise UnreachableError(f"{origin_of(url)}: {_describe_error(error)}") from None
            except aiohttp.InvalidUrlRedirectClientError:
                raise FetchError(
                    f"{origin_of(url)} redirects to a URL that is not http: or https:"
                ) from None
            except (aiohttp.InvalidURL, ValueError):
                raise SourceError(f"invalid URL: {origin_of(url)}") from None
            except aiohttp.TooManyRedirects:
                raise FetchError(f"{origin_of(url)} redirects in a loop") from None
            except _TRANSIENT_ERRORS as error:
                if attempt == attempts:
                    raise UnreachableError(
                        f"{origin_of(url)} cannot be reached: {_describe_error(error)}"
                    ) from None
            else:
                if response.status not in _TRANSIENT_STATUSES:
                    return response
                pause = _retry_after(response.headers.get("Retry-After", ""), pause)
                response.release()
                if attempt == attempts:
                    raise UnreachableError(
                        f"{origin_of(url)} responded with {response.status} {response.reason},"
                        f" in {attempts} attempts"
                    )
            await asyncio.sleep(pause)

    async def read(self, response: aiohttp.ClientResponse) -> bytes:
        """Read the whole body of a small response.

        Raises:
            FetchError: It is too large.
            UnreachableError: The connection was lost.
        """
        content = bytearray()
        try:
            async for piece in response.content.iter_chunked(_CHUNK_SIZE):
                content += piece
                if len(content) > _MAX_ANSWER_SIZE:
                    raise FetchError(
                        f"{_origin_of(response)} sent more than {_MAX_ANSWER_SIZE} bytes"
                    )
        except _TRANSIENT_ERRORS as error:
            raise UnreachableError(
                f"{_origin_of(response)} {_describe_interruption(error)}"
            ) from None
        return bytes(content)

    async def download(self, name: str, open_: Open, digest: Digest, cache: ModuleCache) -> None:
        """Download content to the cache. A download that is interrupted is resumed.

        Args:
            name: The name to show in progress messages.
            open_: Sends the request.
            digest: The expected content.
            cache: The module cache.

        Raises:
            FetchError: The content is too large or does not match the digest.
            UnreachableError: The last attempt failed.
        """
        if digest.size is not None and digest.size > self.limit:
            raise self._too_large(digest.size)
        with cache.writing(digest.text) as file:
            try:
                await self._download_to(file, name, open_, digest)
            finally:
                self._report("")

    async def _download_to(self, file: IO[bytes], name: str, open_: Open, digest: Digest) -> None:
        attempt = 0
        while True:
            attempt += 1
            try:
                await self._receive(file, name, open_, digest)
                break
            except _TRANSIENT_ERRORS as error:
                if attempt == ATTEMPTS:
                    raise UnreachableError(
                        f"the download {_describe_interruption(error)}"
                    ) from None
            await asyncio.sleep(_FIRST_DELAY_S * 2 ** (attempt - 1))
        file.seek(0)
        content = hashlib.sha256()
        while piece := file.read(_CHUNK_SIZE):
            content.update(piece)
        if f"sha256:{content.hexdigest()}" != digest.text:
            raise FetchError(
                f"digest mismatch: expected {digest.text}, found sha256:{content.hexdigest()}"
            )

    async def _receive(self, file: IO[bytes], name: str, open_: Open, digest: Digest) -> None:
        """Make one attempt.

        Raises:
            aiohttp.ClientError: The connection was lost.
        """
        start = file.seek(0, 2)
        if digest.size is not None and start == digest.size:
            return
        async with await open_({"Range": f"bytes={start}-"} if start else {}) as response:
            if response.status == 206 and _range_start(response) == start:
                pass
            elif response.status in (200, 416):  # ranges are optional: start over
                file.seek(0)
                file.truncate()
                start = 0
                if response.status == 416:
                    raise aiohttp.ClientPayloadError("the server has less than it sent before")
            else:
                raise FetchError(
                    f"{_origin_of(response)} responded with {response.status} {response.reason}"
                )
            most = self.limit if digest.size is None else digest.size
            received = start
            async for piece in response.content.iter_chunked(_CHUNK_SIZE):
                received += len(piece)
                if received > most:
                    if digest.size is None:
                        raise self._too_large()
                    raise FetchError(f"the content has more than the expected {most} bytes")
                file.write(piece)
                self._report(
                    f"Downloading {name}: {_format_mib(received)}{_format_total(digest.size)}"
                )
            if digest.size is not None and received < digest.size:
                raise aiohttp.ClientPayloadError(
                    f"the content ended after {received} of {digest.size} bytes"
                )

    def _too_large(self, size: int | None = None) -> FetchError:
        found = "" if size is None else f": it has {size} bytes"
        return FetchError(
            f"the content exceeds the limit of {self.limit} bytes (--max-module-size){found}"
        )


def _find_proxy(target: URL) -> dict[str, Any]:
    """Find the proxy for a request in the environment, as curl and Docker do.

    aiohttp's ``trust_env`` is not used because it also takes credentials from .netrc.
    """
    if LOOPBACK.fullmatch(target.host or ""):
        return {}
    try:
        proxy, auth = get_env_proxy_for_url(target)
    except LookupError:
        return {}
    return {"proxy": proxy, "proxy_auth": auth}


def _range_start(response: aiohttp.ClientResponse) -> int | None:
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _retry_after(retry_after: str, otherwise: float) -> float:
    """Parse a Retry-After header (RFC 9110 §10.2.3).

    Returns:
        Seconds to wait: at least ``otherwise``, and at most ``_MAX_DELAY_S``.
    """
    try:
        if retry_after.isdigit():
            seconds = float(retry_after)
        else:
            seconds = (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return otherwise
    return min(max(seconds, otherwise), _MAX_DELAY_S)


def _origin_of(response: aiohttp.ClientResponse) -> str:
    return origin_of(str(response.url))


def _describe_interruption(error: BaseException) -> str:
    return f"was interrupted: {_describe_error(error)}"


def _describe_error(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        if cause.errno is None or isinstance(cause, (ssl.SSLError, socket.gaierror)):
            return cause.strerror or str(cause)  # their numbers are not those of the system
        return os.strerror(cause.errno)  # asyncio's text is about its own call
    if isinstance(error, TimeoutError):
        return "timed out"
    return str(error) or "the connection was closed"


def _format_mib(count: int) -> str:
    return f"{count / 1024**2:.1f}"


def _format_total(size: int | None) -> str:
    return " MiB" if size is None else f" of {_format_mib(size)} MiB"
