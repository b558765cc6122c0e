"""Images of modules: how a manifest describes a module, in the layouts that are in use. Pure.

https://github.com/opencontainers/image-spec/blob/main/manifest.md, wasm-to-oci's layout, and the
CNCF's wasm OCI artifact layout.
"""

from __future__ import annotations

import gzip
import json
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError

from wagi.sources.cache import digest_of
from wagi.sources.ends import FetchError, SourceError

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
ACCEPT = ", ".join((MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX))

_WASM_TO_OCI = "application/vnd.wasm.content.layer.v1+wasm"
_WASM_TO_OCI_CONFIG = "application/vnd.wasm.config.v1+json"
_CNCF = "application/wasm"
_CNCF_CONFIG = "application/vnd.wasm.config.v0+json"
_MODULES = (_WASM_TO_OCI, _CNCF)
_ARCHIVES = (
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
)
_ARCHIVE_ROOM = 1024**2  # bytes of an archive beside the module
_TITLE = "org.opencontainers.image.title"

Layout = Literal["wasm-to-oci", "cncf"]


class Platform(BaseModel):
    """What an image in an index is for."""

    architecture: str = ""
    os: str = ""


class Descriptor(BaseModel):
    """Something in a registry: its media type, digest and size in bytes."""

    mediaType: str = ""
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]
    annotations: dict[str, str] | None = None
    platform: Platform | None = None

    @property
    def title(self) -> str:
        """The name of the file that it was."""
        return (self.annotations or {}).get(_TITLE, "")


class Manifest(BaseModel):
    """An image manifest, or an index of them."""

    mediaType: str = ""
    config: Descriptor | None = None
    layers: list[Descriptor] | None = None
    manifests: list[Descriptor] | None = None


def parse_manifest(content: bytes) -> Manifest:
    """Read a manifest. Raises: FetchError if it is none."""
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "it"
        raise FetchError(f"the manifest is not valid: {place}: {first['msg']}") from None
    if manifest.layers is None and manifest.manifests is None:
        raise FetchError("the manifest is not valid: it has no layers")
    return manifest


def choose_manifest(index: Manifest) -> Descriptor:
    """The image in an index that is for wasm; the only one there is, otherwise.

    Raises: FetchError listing them.
    """
    images = index.manifests or []
    wasm = [i for i in images if i.platform and i.platform.architecture in ("wasm", "wasm32")]
    for candidates in (wasm, images):
        if len(candidates) == 1:
            return candidates[0]
    found = "".join(
        f"\n{i.digest} for {i.platform.os}/{i.platform.architecture}"
        if i.platform
        else f"\n{i.digest} for no platform"
        for i in images
    )
    raise FetchError(f"an index without the one image for wasm; it has:{found or ' none'}")


def choose_layer(title: str, manifest: Manifest) -> Descriptor:
    """The layer that is the module.

    Parameters: ``title`` which of several, if the reference says it.
    Raises: FetchError if there is none, SourceError if there are several; both list the layers.
    """
    layers = manifest.layers or []
    candidates = [layer for layer in layers if layer.mediaType in _MODULES]
    candidates = candidates or [layer for layer in layers if layer.mediaType in _ARCHIVES]
    if title:
        candidates = [layer for layer in candidates if layer.title == title]
    if len(candidates) == 1:
        return candidates[0]
    listing = "".join(
        f"\n{layer.mediaType or 'no media type'}, {layer.size} bytes"
        f"{f', {layer.title}' if layer.title else ''}"
        for layer in layers
    )
    if not candidates:
        what = f"no module with the title {title!r}" if title else "no layer that is a module"
        raise FetchError(f"{what}; its layers are:{listing or ' none'}")
    raise SourceError(
        f"{len(candidates)} layers could be the module: add #TITLE to the reference to"
        f" choose one; its layers are:{listing}"
    )


def module_of(layer: Descriptor, content: bytes, limit: int) -> bytes:
    """The module in a layer, which may be an archive with one .wasm file.

    Parameters: ``limit`` of its size in bytes. Raises: FetchError.
    """
    if layer.mediaType not in _ARCHIVES:
        return content
    try:
        # Read as a stream and up to the limit: a few bytes may unpack to any number.
        with (
            gzip.GzipFile(fileobj=BytesIO(content))
            if content[:2] == b"\x1f\x8b"
            else BytesIO(content)
        ) as stream:
            unpacked = stream.read(limit + _ARCHIVE_ROOM)
        if len(unpacked) == limit + _ARCHIVE_ROOM:
            raise _too_large(limit)
        with tarfile.open(fileobj=BytesIO(unpacked), mode="r:") as archive:
            members = archive.getmembers()
            files = [item for item in members if item.isfile() and item.name.endswith(".wasm")]
            if len(files) == 1:
                if files[0].size > limit:  # a sparse file takes no room in its archive
                    raise _too_large(limit)
                file = archive.extractfile(files[0])
                assert file is not None
                return file.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise FetchError(f"the layer is not a tar archive: {error}") from None
    found = ", ".join(sorted(item.name for item in members)) or "nothing"
    raise FetchError(f"expected an archive with one .wasm file, found {found}")


def _too_large(limit: int) -> FetchError:
    return FetchError(f"the archive has more than {limit} bytes (--max-module-size)")


@dataclass(frozen=True, slots=True)
class Image:
    """What is pushed: a manifest and the contents that it names, by digest."""

    manifest: bytes
    contents: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        """The digest by which it can be pulled."""
        return digest_of(self.manifest)


def build_image(
    layout: Layout,
    modules: Sequence[tuple[str, bytes]],
    annotations: Mapping[str, str],
    created: datetime,
) -> Image:
    """Make an image of modules.

    Parameters: ``modules`` file names and contents; ``created`` goes into the CNCF's config.
    Raises: SourceError for several modules in the CNCF layout, which is for one.
    """
    if layout == "cncf" and len(modules) > 1:
        raise SourceError("the cncf layout is for one module: push several with wasm-to-oci")
    digests = [digest_of(content) for _, content in modules]
    if layout == "cncf":
        layer_type, config_type = _CNCF, _CNCF_CONFIG
        config = {
            "created": created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "architecture": "wasm",
            "os": "wasip1",
            "layerDigests": digests,
        }
    else:
        layer_type, config_type, config = _WASM_TO_OCI, _WASM_TO_OCI_CONFIG, {}
    config_content = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _describe(config_type, config_content),
        "layers": [
            {**_describe(layer_type, content), "annotations": {_TITLE: name}}
            for name, content in modules
        ],
    }
    if annotations:
        manifest["annotations"] = dict(annotations)
    contents = dict(zip(digests, (content for _, content in modules), strict=True))
    contents[digest_of(config_content)] = config_content
    return Image(json.dumps(manifest, indent=2).encode(), contents)


def _describe(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}
