"""OCI images of modules: parse and build their manifests. Pure.

Layouts: the OCI image specification
(https://github.com/opencontainers/image-spec/blob/main/manifest.md), wasm-to-oci, and the CNCF's
wasm OCI artifact.
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

from wagi.config.validation import explain_validation_error
from wagi.sources.cache import digest_of
from wagi.sources.errors import FetchError, SourceError

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
ACCEPT = ", ".join((MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX))

_WASM_TO_OCI = "application/vnd.wasm.content.layer.v1+wasm"
_WASM_TO_OCI_CONFIG = "application/vnd.wasm.config.v1+json"
_CNCF = "application/wasm"
_COMPONENT_VERSION = b"\x0d\0\x01\0"  # of the binary format, behind \0asm
_CNCF_CONFIG = "application/vnd.wasm.config.v0+json"
_MODULES = (_WASM_TO_OCI, _CNCF)
_ARCHIVES = (
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
)
_MAX_ARCHIVE_OVERHEAD = 1024**2  # bytes
_TITLE = "org.opencontainers.image.title"

Layout = Literal["wasm-to-oci", "cncf"]


class Platform(BaseModel):
    """The platform of an image in an index."""

    architecture: str = ""
    os: str = ""


class Descriptor(BaseModel):
    """A reference to content in a registry: media type, digest and size in bytes."""

    mediaType: str = ""
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]
    annotations: dict[str, str] | None = None
    platform: Platform | None = None

    @property
    def title(self) -> str:
        """The original file name."""
        return (self.annotations or {}).get(_TITLE, "")


class Manifest(BaseModel):
    """An image manifest, or an index of manifests."""

    mediaType: str = ""
    config: Descriptor | None = None
    layers: list[Descriptor] | None = None
    manifests: list[Descriptor] | None = None


def parse_manifest(content: bytes) -> Manifest:
    """Parse a manifest.

    Raises:
        FetchError: It is invalid.
    """
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        first, *_ = explain_validation_error(error, Manifest)
        raise FetchError(f"invalid manifest: {first.message}") from None
    if manifest.layers is None and manifest.manifests is None:
        raise FetchError("invalid manifest: no layers")
    return manifest


def choose_manifest(index: Manifest) -> Descriptor:
    """Choose the only image for wasm in an index, or the only image.

    Raises:
        FetchError: The choice is ambiguous; the message lists the images.
    """
    images = index.manifests or []
    wasm = [i for i in images if i.platform and i.platform.architecture in ("wasm", "wasm32")]
    for candidates in (wasm, images):
        if len(candidates) == 1:
            return candidates[0]
    found = "".join(
        f"\n{i.digest} for {i.platform.os}/{i.platform.architecture}"
        if i.platform
        else f"\n{i.digest} without a platform"
        for i in images
    )
    raise FetchError(f"expected exactly one image for wasm in the index, found:{found or ' none'}")


def choose_layer(title: str, manifest: Manifest) -> Descriptor:
    """Choose the layer that is the module.

    Args:
        title: Title of the layer, if the image has several modules; otherwise empty.
        manifest: An image manifest.

    Raises:
        FetchError: No layer is a module, or none has the title.
        SourceError: Several layers are modules. Both messages list the layers.
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
        what = f"no module has the title {title!r}" if title else "no layer is a module"
        raise FetchError(f"{what}; the layers are:{listing or ' none'}")
    raise SourceError(
        f"{len(candidates)} layers are modules: add #TITLE to the reference to choose one;"
        f" the layers are:{listing}"
    )


def module_of(layer: Descriptor, content: bytes, limit: int) -> bytes:
    """Extract the module from a layer, which may be an archive with one .wasm file.

    Args:
        layer: The descriptor of the layer.
        content: Its content.
        limit: Maximum size of the module in bytes.

    Raises:
        FetchError: The archive is invalid or too large, or does not have exactly one .wasm file.
    """
    if layer.mediaType not in _ARCHIVES:
        return content
    try:
        # Stop at the limit: a small archive may decompress to any size.
        with (
            gzip.GzipFile(fileobj=BytesIO(content))
            if content[:2] == b"\x1f\x8b"
            else BytesIO(content)
        ) as stream:
            unpacked = stream.read(limit + _MAX_ARCHIVE_OVERHEAD)
        if len(unpacked) == limit + _MAX_ARCHIVE_OVERHEAD:
            raise _too_large(limit)
        with tarfile.open(fileobj=BytesIO(unpacked), mode="r:") as archive:
            members = archive.getmembers()
            files = [item for item in members if item.isfile() and item.name.endswith(".wasm")]
            if len(files) == 1:
                if files[0].size > limit:  # a sparse file takes no space in the archive
                    raise _too_large(limit)
                file = archive.extractfile(files[0])
                assert file is not None
                return file.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise FetchError(f"the layer is not a valid tar archive: {error}") from None
    found = ", ".join(sorted(item.name for item in members)) or "nothing"
    raise FetchError(f"expected an archive with exactly one .wasm file, found {found}")


def _too_large(limit: int) -> FetchError:
    return FetchError(f"the archive decompresses to more than {limit} bytes (--max-module-size)")


@dataclass(frozen=True, slots=True)
class Image:
    """An image to push: a manifest, and the contents that it references by digest."""

    manifest: bytes
    contents: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        """The digest of the manifest, by which the image can be pulled."""
        return digest_of(self.manifest)


def build_image(
    layout: Layout,
    modules: Sequence[tuple[str, bytes]],
    annotations: Mapping[str, str],
    created: datetime,
) -> Image:
    """Build an image of modules.

    Args:
        layout: The layout of the image.
        modules: File names and contents.
        annotations: Annotations of the manifest.
        created: The time of creation, for the config of the CNCF layout.

    Raises:
        SourceError: There are several modules, and the layout is the CNCF's.
    """
    if layout == "cncf" and len(modules) > 1:
        raise SourceError(
            "the cncf layout supports only one module: use --layout wasm-to-oci for several"
        )
    digests = [digest_of(content) for _, content in modules]
    if layout == "cncf":
        layer_type, config_type = _CNCF, _CNCF_CONFIG
        config = {
            "created": created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "architecture": "wasm",
            "os": _system(modules[0][1]),
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


def _system(content: bytes) -> str:
    """Return the system that a module or component runs on, in the words of the CNCF layout."""
    return "wasip2" if content[4:8] == _COMPONENT_VERSION else "wasip1"


def _describe(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}
