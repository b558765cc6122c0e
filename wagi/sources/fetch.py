"""Fetch the modules that are elsewhere: side by side, each content only once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from wagi.errors import WagiError
from wagi.sources.bindle import (
    BindleFolder,
    BindleServer,
    Origin,
    fetch_parcel,
    is_server,
    read_invoice,
)
from wagi.sources.cache import ModuleCache, digest_of
from wagi.sources.ends import FetchError, SourceError, UnreachableError
from wagi.sources.images import (
    Manifest,
    choose_layer,
    choose_manifest,
    module_of,
    parse_manifest,
)
from wagi.sources.invoices import Invoice
from wagi.sources.modules import Fetched, FetchRules, Pull, Report, Wanted, verified
from wagi.sources.references import (
    BindleReference,
    ImageReference,
    Reference,
    WebReference,
    origin_of,
    parse_reference,
)
from wagi.sources.registry import Registry
from wagi.sources.transfer import Digest, Transfer

_AT_A_TIME = 4


def fetch_from_elsewhere(
    wanted: Iterable[Wanted], cache: ModuleCache, rules: FetchRules, report: Report
) -> list[Fetched | WagiError]:
    """Fetch modules side by side. As ``fetch_all``."""

    async def run() -> list[Fetched | WagiError]:
        async with Transfer.start(rules.max_size, report) as transfer:
            fetcher = _Fetcher(cache, transfer, rules)
            slots = asyncio.Semaphore(_AT_A_TIME)

            async def one(item: Wanted) -> Fetched | WagiError:
                async with slots:
                    try:
                        return await fetcher.fetch(item)
                    except WagiError as error:
                        return error

            return list(await asyncio.gather(*map(one, wanted)))

    return asyncio.run(run())


def fetch_invoice(
    name: str, cache: ModuleCache, rules: FetchRules, report: Report
) -> tuple[Invoice, str]:
    """The invoice of the bindle NAME/VERSION, and a warning if it is not from where it should be.

    Raises: SourceError, FetchError.
    """

    async def run() -> tuple[Invoice, str]:
        async with Transfer.start(rules.max_size, report) as transfer:
            fetcher = _Fetcher(cache, transfer, rules)
            with naming(BindleReference(name)):
                return await read_invoice(fetcher.origin(rules.bindle_server, Path()), name, cache)

    return asyncio.run(run())


@contextmanager
def naming(reference: Reference) -> Iterator[None]:
    """Say in errors which reference it was that led nowhere."""
    try:
        yield
    except (SourceError, FetchError) as error:
        raise type(error)(f"{reference}: {error}") from None


class _Fetcher:
    """Fetches one module after the other, or several at the same time."""

    def __init__(self, cache: ModuleCache, transfer: Transfer, rules: FetchRules) -> None:
        self._cache = cache
        self._transfer = transfer
        self._rules = rules
        self._registries: dict[str, Registry] = {}
        self._downloads: dict[str, asyncio.Lock] = {}

    async def fetch(self, wanted: Wanted) -> Fetched:
        reference = parse_reference(wanted.reference)
        with naming(reference):
            fetched = await self._fetch(reference, wanted)
        return verified(reference, fetched, wanted)

    async def _fetch(self, reference: Reference, wanted: Wanted) -> Fetched:
        match reference:
            case ImageReference():
                return await self._image(reference, wanted.pull)
            case BindleReference():
                return await self._bindle(reference, wanted)
            case WebReference():
                return await self._download(reference, wanted)
        raise AssertionError(f"{reference} is here")

    def origin(self, place: str, folder: Path) -> Origin:
        """Where bindles are. Parameters: ``folder`` where a relative directory starts."""
        if not is_server(place):
            return BindleFolder(folder / place)
        rules = self._rules
        # What the operator says of their server is not for one that a modules.toml names.
        if rules.bindle_url and origin_of(place) != origin_of(rules.bindle_url):
            return BindleServer(place, self._transfer, None, insecure=False)
        credential = rules.bindle_credential
        return BindleServer(place, self._transfer, credential, rules.bindle_insecure)

    async def _image(self, image: ImageReference, pull: Pull) -> Fetched:
        registry = self._registry(image.registry)
        content, warning = await self._resolve(registry, image, pull)
        manifest = parse_manifest(content)
        if manifest.layers is None:
            child = replace(image, tag="", digest=choose_manifest(manifest).digest)
            content = await self._manifest(registry, child, pull)
            manifest = parse_manifest(content)
        title = f"#{image.title}" if image.title else ""
        resolved = f"{replace(image, tag='', digest=digest_of(content))}{title}"
        module = await self._module(registry, image, manifest, pull)
        return Fetched(module, resolved, warning=warning)

    async def _resolve(
        self, registry: Registry, image: ImageReference, pull: Pull
    ) -> tuple[bytes, str]:
        """The manifest that a tag leads to, and a warning if that was some time ago."""
        if image.digest:
            return await self._manifest(registry, image, pull), ""
        known = self._cache.digest_of_tag(str(image))
        kept = self._cache.find(known) if known else None
        if pull != "always" and kept is not None:
            return kept, ""
        if pull == "never":
            raise _not_there()
        try:
            content = await registry.manifest(image)
        except UnreachableError as error:
            if kept is None:
                raise
            return kept, f"{error}: {image} is {known}, as it was resolved last"
        self._cache.remember_tag(str(image), self._cache.add(content))
        return content, ""

    async def _manifest(self, registry: Registry, image: ImageReference, pull: Pull) -> bytes:
        """The manifest of a digest."""
        kept = self._cache.find(image.digest)
        if kept is not None:
            return kept
        if pull == "never":
            raise _not_there()
        content = await registry.manifest(image)
        self._cache.add(content)
        return content

    async def _module(
        self, registry: Registry, image: ImageReference, manifest: Manifest, pull: Pull
    ) -> bytes:
        layer = choose_layer(image.title, manifest)
        async with self._downloads.setdefault(layer.digest, asyncio.Lock()):
            content = self._cache.find(layer.digest)
            if content is None:
                if pull == "never":
                    raise _not_there()
                await registry.download(image, layer, self._cache)
                content = self._cache.find(layer.digest)
        if content is None or len(content) != layer.size:
            raise FetchError(
                f"{layer.digest} has not the {layer.size} bytes that the manifest says"
            )
        return module_of(layer, content, self._rules.max_size)

    async def _bindle(self, reference: BindleReference, wanted: Wanted) -> Fetched:
        place = wanted.bindle_server or self._rules.bindle_server
        if not place:
            raise SourceError("where is it? Give the entry a bindle_server, or --bindle-url")
        cache, limit = self._cache, self._rules.max_size
        origin = self.origin(place, wanted.folder)
        invoice, warning = await read_invoice(origin, reference.id, cache)
        parcel = invoice.module(reference.parcel)
        files = invoice.files(parcel)
        content = await fetch_parcel(origin, reference.id, parcel.label, cache, limit)
        for label in files.values():
            await fetch_parcel(origin, reference.id, label, cache, limit)
        digests = {path: label.digest for path, label in files.items()}
        folder = cache.folder_of(digests) if files else None
        resolved = str(BindleReference(reference.id, parcel.label.sha256))
        return Fetched(content, resolved, folder, warning)

    async def _download(self, reference: WebReference, wanted: Wanted) -> Fetched:
        name = str(reference)
        if not wanted.sha256:
            raise SourceError("a download needs the key sha256: what is the module's?")
        digest = f"sha256:{wanted.sha256}"
        content = self._cache.find(digest)
        if content is None:

            async def open_(headers: Any) -> Any:
                return await self._transfer.open("GET", reference.url, headers)

            await self._transfer.download(name, open_, Digest(digest), self._cache)
            content = self._cache.find(digest)
        if content is None:
            raise FetchError("it was removed from the module cache while it was read")
        return Fetched(content, name)

    def _registry(self, name: str) -> Registry:
        insecure = name in self._rules.insecure_registries
        return self._registries.setdefault(name, Registry(name, self._transfer, insecure))


def _not_there() -> SourceError:
    return SourceError("it is not in the module cache, and pull is never")
