"""Bindles, from servers and from standalone directories (Bindle specification)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from wagi.sources.cache import ModuleCache, digest_of
from wagi.sources.credentials import Credential
from wagi.sources.downloader import Digest, Downloader
from wagi.sources.errors import FetchError, SourceError
from wagi.sources.invoices import Invoice, Label, parse_invoice
from wagi.sources.references import origin_of


class BindleServer:
    """A Bindle server."""

    def __init__(
        self, url: str, downloader: Downloader, credential: Credential | None, insecure: bool
    ) -> None:
        """Describe a server.

        Args:
            url: The URL, including the API version (…/v1).
            downloader: Sends the requests.
            credential: The user and password to send, if any.
            insecure: Whether to accept any certificate.
        """
        self.url = url.rstrip("/")
        self._downloader = downloader
        self._headers = {"Authorization": credential.basic} if credential else {}
        self._insecure = insecure

    async def invoice(self, name: str) -> bytes:
        """Fetch the invoice of NAME/VERSION.

        Raises:
            SourceError: There is no such bindle, or access is denied.
            FetchError: The server fails or cannot be reached.
        """
        async with await self._open(name, name, {"Accept": "application/toml"}) as response:
            return await self._downloader.read(response)

    async def parcel(self, name: str, label: Label, cache: ModuleCache) -> None:
        """Download a parcel to the cache.

        Raises:
            FetchError: The parcel is missing or damaged, or the server cannot be reached.
        """

        async def open_(headers: Mapping[str, str]) -> aiohttp.ClientResponse:
            return await self._open(f"{name}@{label.sha256}", name, headers)

        label_text = f"bindle:{name}, parcel {label.name or label.sha256}"
        await self._downloader.download(label_text, open_, Digest(label.digest, label.size), cache)

    async def _open(
        self, path: str, name: str, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        response = await self._downloader.open(
            "GET", f"{self.url}/_i/{path}", {**self._headers, **headers}, insecure=self._insecure
        )
        if response.status in (200, 206, 416):
            return response
        response.release()
        where = f"{origin_of(self.url)} responded with {response.status}"
        match response.status:
            case 401 | 403:
                raise SourceError(f"{where}: check --bindle-http-user and --bindle-http-password")
            case 404 if path == name:
                raise SourceError(f"{where}: no such bindle")
            case 404:
                raise FetchError(f"{where}: the parcel {path.partition('@')[2]} is missing")
        raise FetchError(f"{where} {response.reason}")


class BindleDirectory:
    """A directory of standalone bindles, in the layout of the ``bindle`` command."""

    def __init__(self, path: Path) -> None:
        self.url = str(path)
        self._path = path

    async def invoice(self, name: str) -> bytes:
        """Read the invoice of NAME/VERSION.

        Raises:
            SourceError: It does not exist or cannot be read.
        """
        path = self._folder(name) / "invoice.toml"
        try:
            return await asyncio.to_thread(path.read_bytes)
        except FileNotFoundError:
            raise SourceError(f"no such file: {path}") from None
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror}") from None

    async def parcel(self, name: str, label: Label, cache: ModuleCache) -> None:
        """Copy a parcel to the cache.

        Raises:
            FetchError: It cannot be read, or does not match the invoice.
        """
        path = self._folder(name) / "parcels" / f"{label.sha256}.dat"
        try:
            if path.stat().st_size != label.size:
                raise FetchError(
                    f"{path} has {path.stat().st_size} bytes, but the invoice declares {label.size}"
                )
            content = await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            raise FetchError(f"{path}: {error.strerror}") from None
        if digest_of(content) != label.digest:
            raise FetchError(
                f"{path} does not match the invoice: expected {label.digest},"
                f" found {digest_of(content)}"
            )
        cache.add(content)

    def _folder(self, name: str) -> Path:
        return self._path / hashlib.sha256(name.encode()).hexdigest()


Origin = BindleServer | BindleDirectory


def is_server_url(place: str) -> bool:
    """Return whether ``place`` is the URL of a server rather than a directory.

    Raises:
        SourceError: It is a URL of another scheme.
    """
    scheme = urlsplit(place).scheme
    if scheme in ("http", "https"):
        return True
    if "://" in place:
        raise SourceError(
            f"expected http://HOST/v1, https://HOST/v1 or a directory, found {place!r}"
        )
    return False


async def read_invoice(origin: Origin, name: str, cache: ModuleCache) -> Invoice:
    """Read an invoice.

    A version of a bindle never changes, so the invoice is requested from a server only once. The
    files of a directory are read again, so that changes to them take effect.

    Raises:
        SourceError: There is no such bindle, or access is denied.
        FetchError: The invoice is invalid, or the server fails or cannot be reached.
    """
    if isinstance(origin, BindleDirectory):
        return parse_invoice(name, await origin.invoice(name))
    key = f"bindle:{name} from {origin.url}"
    known = cache.find_tag(key)
    if known and (kept := cache.find(known)) is not None:
        return parse_invoice(name, kept)
    content = await origin.invoice(name)
    invoice = parse_invoice(name, content)
    cache.store_tag(key, cache.add(content))
    return invoice


async def fetch_parcel(
    origin: Origin, name: str, label: Label, cache: ModuleCache, limit: int
) -> bytes:
    """Fetch the content of a parcel and verify it.

    Args:
        origin: Where the bindle is.
        name: The bindle, as NAME/VERSION.
        label: The label of the parcel.
        cache: The module cache.
        limit: Maximum size of the parcel in bytes.

    Raises:
        FetchError: The parcel is too large, missing or damaged, or cannot be reached.
    """
    if label.size > limit:
        raise FetchError(
            f"the parcel {label.name or label.sha256} has {label.size} bytes; the limit is {limit}"
            " (--max-module-size)"
        )
    content = cache.find(label.digest)
    if content is None:
        await origin.parcel(name, label, cache)
        content = cache.find(label.digest)
    if content is None or len(content) != label.size:
        raise FetchError(
            f"the parcel {label.sha256} does not have the {label.size} bytes the invoice declares"
        )
    return content
