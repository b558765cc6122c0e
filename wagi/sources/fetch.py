"""Fetch remote modules concurrently; each content is downloaded only once."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from wagi.errors import WagiError
from wagi.sources.bindle import (
    BindleDirectory,
    BindleServer,
    Origin,
    fetch_parcel,
    is_server_url,
    read_invoice,
)
from wagi.sources.cache import ModuleCache, digest_of
from wagi.sources.downloader import Digest, Downloader
from wagi.sources.errors import FetchError, SourceError, UnreachableError
from wagi.sources.images import (
    Manifest,
    choose_layer,
    choose_manifest,
    module_of,
    parse_manifest,
)
from wagi.sources.invoices import Invoice, Label
from wagi.sources.module_request import (
    FetchedModule,
    FetchOptions,
    ModuleRequest,
    Pull,
    Report,
    verify_digest,
)
from wagi.sources.references import (
    BindleReference,
    ImageReference,
    Reference,
    WebReference,
    origin_of,
    parse_reference,
)
from wagi.sources.registry import Registry

_MAX_CONCURRENT_FETCHES = 4


def fetch_remote_modules(
    requests: Iterable[ModuleRequest], cache: ModuleCache, options: FetchOptions, report: Report
) -> list[FetchedModule | WagiError]:
    """Fetch modules concurrently, like ``fetch_modules``."""

    async def run() -> list[FetchedModule | WagiError]:
        async with Downloader.start(options.max_size, report) as downloader:
            fetcher = _Fetcher(cache, downloader, options)
            slots = asyncio.Semaphore(_MAX_CONCURRENT_FETCHES)

            async def one(item: ModuleRequest) -> FetchedModule | WagiError:
                async with slots:
                    try:
                        return await fetcher.fetch(item)
                    except WagiError as error:
                        return error

            return list(await asyncio.gather(*map(one, requests)))

    return asyncio.run(run())


def fetch_invoice(name: str, cache: ModuleCache, options: FetchOptions, report: Report) -> Invoice:
    """Fetch the invoice of the bindle NAME/VERSION.

    Raises:
        SourceError: There is no such bindle, or access is denied.
        FetchError: The invoice is invalid, or the server fails or cannot be reached.
    """

    async def run() -> Invoice:
        async with Downloader.start(options.max_size, report) as downloader:
            fetcher = _Fetcher(cache, downloader, options)
            with error_context(BindleReference(name)):
                return await read_invoice(
                    fetcher.bindle_origin(options.bindle_server, Path()), name, cache
                )

    return asyncio.run(run())


@contextmanager
def error_context(reference: Reference) -> Iterator[None]:
    """Prefix errors with the reference that was being fetched."""
    try:
        yield
    except (SourceError, FetchError) as error:
        raise type(error)(f"{reference}: {error}") from None


class _Fetcher:
    """Fetches modules; several may be fetched concurrently."""

    def __init__(self, cache: ModuleCache, downloader: Downloader, options: FetchOptions) -> None:
        self._cache = cache
        self._downloader = downloader
        self._options = options
        self._registries: dict[str, Registry] = {}
        self._downloads: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def fetch(self, request: ModuleRequest) -> FetchedModule:
        reference = parse_reference(request.reference)
        with error_context(reference):
            fetched = await self._fetch(reference, request)
        return verify_digest(reference, fetched, request)

    async def _fetch(self, reference: Reference, request: ModuleRequest) -> FetchedModule:
        match reference:
            case ImageReference():
                return await self._fetch_image(reference, request.pull)
            case BindleReference():
                return await self._fetch_bindle(reference, request)
            case WebReference():
                return await self._fetch_web(reference, request)
        raise AssertionError(f"{reference} is not remote")

    def bindle_origin(self, place: str, folder: Path) -> Origin:
        """Return the server or directory of bindles.

        Args:
            place: A URL or a directory.
            folder: The directory that a relative one is resolved against.
        """
        if not is_server_url(place):
            return BindleDirectory(folder / place)
        options = self._options
        # The operator's credential must not be sent to a server that a modules.toml names.
        if options.bindle_url and origin_of(place) != origin_of(options.bindle_url):
            return BindleServer(place, self._downloader, None, insecure=False)
        credential = options.bindle_credential
        return BindleServer(place, self._downloader, credential, options.bindle_insecure)

    async def _fetch_image(self, image: ImageReference, pull: Pull) -> FetchedModule:
        registry = self._get_registry(image.registry)
        content, warning = await self._resolve_tag(registry, image, pull)
        manifest = parse_manifest(content)
        if manifest.layers is None:
            child = replace(image, tag="", digest=choose_manifest(manifest).digest)
            content = await self._fetch_manifest(registry, child, pull)
            manifest = parse_manifest(content)
        title = f"#{image.title}" if image.title else ""
        resolved = f"{replace(image, tag='', digest=digest_of(content))}{title}"
        module = await self._fetch_layer(registry, image, manifest, pull)
        return FetchedModule(module, resolved, warnings=(warning,) if warning else ())

    async def _resolve_tag(
        self, registry: Registry, image: ImageReference, pull: Pull
    ) -> tuple[bytes, str]:
        """Resolve a tag to a manifest, with a warning if the cached one may be outdated."""
        if image.digest:
            return await self._fetch_manifest(registry, image, pull), ""
        known = self._cache.find_tag(str(image))
        kept = self._cache.find(known) if known else None
        if pull != "always" and kept is not None:
            return kept, ""
        if pull == "never":
            raise _not_cached_error()
        try:
            content = await registry.manifest(image)
        except UnreachableError as error:
            if kept is None:
                raise
            return kept, f"{error}: using {known}, which {image} last resolved to"
        self._cache.store_tag(str(image), self._cache.add(content))
        return content, ""

    async def _fetch_manifest(self, registry: Registry, image: ImageReference, pull: Pull) -> bytes:
        """Fetch a manifest by its digest."""
        kept = self._cache.find(image.digest)
        if kept is not None:
            return kept
        if pull == "never":
            raise _not_cached_error()
        content = await registry.manifest(image)
        self._cache.add(content)
        return content

    async def _fetch_layer(
        self, registry: Registry, image: ImageReference, manifest: Manifest, pull: Pull
    ) -> bytes:
        layer = choose_layer(image.title, manifest)
        async with self._downloads[layer.digest]:
            content = self._cache.find(layer.digest)
            if content is None:
                if pull == "never":
                    raise _not_cached_error()
                await registry.download(image, layer, self._cache)
                content = self._cache.find(layer.digest)
        if content is None or len(content) != layer.size:
            raise FetchError(
                f"{layer.digest} does not have the {layer.size} bytes the manifest declares"
            )
        return module_of(layer, content, self._options.max_size)

    async def _fetch_bindle(
        self, reference: BindleReference, request: ModuleRequest
    ) -> FetchedModule:
        place = request.bindle_server or self._options.bindle_server
        if not place:
            raise SourceError("no Bindle server given: set bindle_server, or pass --bindle-url")
        cache, limit = self._cache, self._options.max_size
        origin = self.bindle_origin(place, request.folder)
        async with self._downloads[f"{reference.id} from {origin.url}"]:
            invoice = await read_invoice(origin, reference.id, cache)
        parcel = invoice.module(reference.parcel)
        files = invoice.files(parcel)

        async def fetch(label: Label) -> bytes:
            async with self._downloads[label.digest]:
                return await fetch_parcel(origin, reference.id, label, cache, limit)

        content = await fetch(parcel.label)
        for label in files.values():
            await fetch(label)
        digests = {path: label.digest for path, label in files.items()}
        folder = cache.folder_of(digests) if files else None
        resolved = str(BindleReference(reference.id, parcel.label.sha256))
        warnings = (f"invoice of {reference.id}: {text}" for text in invoice.unknown_keys())
        return FetchedModule(content, resolved, folder, tuple(warnings))

    async def _fetch_web(self, reference: WebReference, request: ModuleRequest) -> FetchedModule:
        name = str(reference)
        if not request.sha256:
            raise SourceError("downloads need a sha256 key with the module's digest")
        digest = f"sha256:{request.sha256}"
        content = self._cache.find(digest)
        if content is None:

            async def open_(headers: Any) -> Any:
                return await self._downloader.open("GET", reference.url, headers)

            await self._downloader.download(name, open_, Digest(digest), self._cache)
            content = self._cache.find(digest)
        if content is None:
            raise FetchError(
                "the content was removed from the module cache while it was being read"
            )
        return FetchedModule(content, name)

    def _get_registry(self, name: str) -> Registry:
        known = self._registries.get(name)
        if known is None:
            known = self._registries[name] = Registry(name, self._downloader, self._options)
        return known


def _not_cached_error() -> SourceError:
    return SourceError('not in the module cache, and pull is "never"')
