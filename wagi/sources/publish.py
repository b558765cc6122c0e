"""Publish modules: to registries."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime

from wagi.sources.ends import SourceError
from wagi.sources.fetch import naming
from wagi.sources.images import Layout, build_image
from wagi.sources.modules import FetchRules, Report
from wagi.sources.references import ImageReference, parse_reference
from wagi.sources.registry import Registry
from wagi.sources.transfer import Transfer


def publish(
    target: str,
    modules: Sequence[tuple[str, bytes]],
    layout: Layout,
    annotations: Mapping[str, str],
    created: datetime,
    rules: FetchRules,
    report: Report,
) -> str:
    """Push modules to a registry as one image.

    Parameters: ``target`` oci://REGISTRY/NAME:TAG; ``modules`` file names and contents;
    ``created`` when they were made. Returns: the reference of the image by its digest.
    Raises: SourceError, FetchError.
    """
    reference = parse_reference(target)
    if not isinstance(reference, ImageReference) or reference.digest:
        raise SourceError(f"expected oci://REGISTRY/NAME:TAG to push to, found {target!r}")
    image = build_image(layout, modules, annotations, created)

    async def run() -> None:
        async with Transfer.start(rules.max_size, report) as transfer:
            insecure = reference.registry in rules.insecure_registries
            with naming(reference):
                await Registry(reference.registry, transfer, insecure).push(reference, image)

    asyncio.run(run())
    return f"oci://{reference.registry}/{reference.repository}@{image.digest}"
