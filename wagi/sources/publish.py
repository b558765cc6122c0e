"""Push modules to registries."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime

from wagi.sources.downloader import Downloader
from wagi.sources.errors import SourceError
from wagi.sources.fetch import error_context
from wagi.sources.images import Layout, build_image
from wagi.sources.module_request import FetchOptions, Report
from wagi.sources.references import ImageReference, parse_image, parse_reference
from wagi.sources.registry import Registry


def publish(
    target: str,
    modules: Sequence[tuple[str, bytes]],
    layout: Layout,
    annotations: Mapping[str, str],
    created: datetime,
    options: FetchOptions,
    report: Report,
) -> str:
    """Push modules to a registry as one image.

    Args:
        target: The image, as oci://REGISTRY/NAME:TAG.
        modules: File names and contents.
        layout: The layout of the image.
        annotations: Annotations of the manifest.
        created: The time of creation.
        options: The operator's options.
        report: Shows progress.

    Returns:
        The reference of the image by its digest.

    Raises:
        SourceError: The target is invalid, or access is denied.
        FetchError: The registry fails or cannot be reached.
    """
    reference = _parse_target(target)
    image = build_image(layout, modules, annotations, created)

    async def run() -> None:
        async with Downloader.start(options.max_size, report) as downloader:
            with error_context(reference):
                await Registry(reference.registry, downloader, options).push(reference, image)

    asyncio.run(run())
    return f"oci://{reference.registry}/{reference.repository}@{image.digest}"


def _parse_target(target: str) -> ImageReference:
    """Parse the reference to push to. Raises: SourceError if it is no image, or has a digest."""
    if target.lower().startswith("oci:"):
        reference = parse_reference(target)
        if isinstance(reference, ImageReference) and not reference.digest:
            return reference
    message = f"invalid target: expected oci://REGISTRY/NAME:TAG, found {target!r}"
    with suppress(SourceError):
        # Docker and oras write references without a scheme.
        image = parse_image(target)
        if not image.digest and not target.startswith(("/", "bindle:", "file:", "http:", "https:")):
            message += f": did you mean {image}?"
    raise SourceError(message)
