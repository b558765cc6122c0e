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
from wagi.sources.ends import FetchError, SourceError, UnreachableError
from wagi.sources.invoices import Invoice, Label, parse_invoice
from wagi.sources.references import origin_of
from wagi.sources.transfer import Digest, Transfer


class BindleServer:
    """A Bindle server."""

    def __init__(
        self, url: str, transfer: Transfer, credential: Credential | None, insecure: bool
    ) -> None:
        """Parameters: ``url`` with the version's path (…/v1); ``insecure`` whether any certificate
        will do.
        """
        self.url = url.rstrip("/")
        self._transfer = transfer
        self._headers = {"Authorization": credential.basic} if credential else {}
        self._insecure = insecure

    async def invoice(self, name: str) -> bytes:
        """The invoice of NAME/VERSION. Raises: SourceError, FetchError, UnreachableError."""
        async with await self._open(name, name, {"Accept": "application/toml"}) as response:
            return await self._transfer.read(response)

    async def parcel(self, name: str, label: Label, cache: ModuleCache) -> None:
        """Bring a parcel into the cache. Raises: FetchError, UnreachableError."""

        async def open_(headers: Mapping[str, str]) -> aiohttp.ClientResponse:
            return await self._open(f"{name}@{label.sha256}", name, headers)

        what = f"bindle:{name}, parcel {label.name or label.sha256}"
        await self._transfer.download(what, open_, Digest(label.digest, label.size), cache)

    async def _open(
        self, path: str, name: str, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        response = await self._transfer.open(
            "GET", f"{self.url}/_i/{path}", {**self._headers, **headers}, insecure=self._insecure
        )
        if response.status in (200, 206, 416):
            return response
        response.release()
        where = f"{origin_of(self.url)} answers {response.status}"
        match response.status:
            case 401 | 403:
                raise SourceError(f"{where}: check --bindle-http-user and --bindle-http-password")
            case 404 if path == name:
                raise SourceError(f"{where}: it has no such bindle")
            case 404:
                raise FetchError(f"{where}: the parcel {path.partition('@')[2]} is missing there")
        raise FetchError(f"{where} {response.reason}")


class BindleFolder:
    """A standalone bindle: a directory as ``bindle`` writes it."""

    def __init__(self, path: Path) -> None:
        self.url = str(path)
        self._path = path

    async def invoice(self, name: str) -> bytes:
        """The invoice of NAME/VERSION. Raises: SourceError."""
        path = self._folder(name) / "invoice.toml"
        try:
            return await asyncio.to_thread(path.read_bytes)
        except FileNotFoundError:
            raise SourceError(f"no such file: {path}") from None
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror}") from None

    async def parcel(self, name: str, label: Label, cache: ModuleCache) -> None:
        """Bring a parcel into the cache. Raises: FetchError."""
        path = self._folder(name) / "parcels" / f"{label.sha256}.dat"
        try:
            if path.stat().st_size != label.size:
                raise FetchError(
                    f"{path} has {path.stat().st_size} bytes, and the invoice says {label.size}"
                )
            content = await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            raise FetchError(f"{path}: {error.strerror}") from None
        if digest_of(content) != label.digest:
            raise FetchError(
                f"{path} is not what the invoice says: expected {label.digest},"
                f" found {digest_of(content)}"
            )
        cache.add(content)

    def _folder(self, name: str) -> Path:
        return self._path / hashlib.sha256(name.encode()).hexdigest()


Origin = BindleServer | BindleFolder


def is_server(place: str) -> bool:
    """Whether bindles are at a URL, not in a directory. Raises: SourceError for other schemes."""
    scheme = urlsplit(place).scheme
    if scheme in ("http", "https"):
        return True
    if "://" in place:
        raise SourceError(
            f"expected http://HOST/v1, https://HOST/v1 or a directory, found {place!r}"
        )
    return False


async def read_invoice(origin: Origin, name: str, cache: ModuleCache) -> tuple[Invoice, str]:
    """An invoice, and a warning if the one in the cache had to do.

    A version of a bindle never changes, so what was fetched before is as good.
    Raises: SourceError, FetchError, UnreachableError.
    """
    key = f"bindle:{name} from {origin.url}"
    try:
        content = await origin.invoice(name)
    except UnreachableError as error:
        known = cache.digest_of_tag(key)
        kept = cache.find(known) if known else None
        if kept is None:
            raise
        return parse_invoice(name, kept), f"{error}: the invoice in the module cache is used"
    invoice = parse_invoice(name, content)
    cache.remember_tag(key, cache.add(content))
    return invoice, ""


async def fetch_parcel(
    origin: Origin, name: str, label: Label, cache: ModuleCache, limit: int
) -> bytes:
    """The content of a parcel, verified.

    Parameters: ``limit`` of its size in bytes. Raises: FetchError, UnreachableError.
    """
    if label.size > limit:
        raise FetchError(
            f"the parcel {label.name or label.sha256} has {label.size} bytes, and a"
            f" module or file may have {limit} (--max-module-size)"
        )
    content = cache.find(label.digest)
    if content is None:
        await origin.parcel(name, label, cache)
        content = cache.find(label.digest)
    if content is None or len(content) != label.size:
        raise FetchError(f"the parcel {label.sha256} has not {label.size} bytes")
    return content
