"""Parse module references: files, OCI images, bindles and downloads. Pure.

Image names follow the grammar of the OCI distribution specification and of Docker.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from wagi.sources.errors import SourceError

LOOPBACK = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[?::1\]?)(:\d+)?")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_REGISTRY = re.compile(r"(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_BINDLE = re.compile(r"[A-Za-z0-9._/-]+/[A-Za-z0-9.+-]+")
_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True, slots=True)
class FileReference:
    """A path, absolute or relative to the route map."""

    path: str
    is_url: bool = False

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True)
class ImageReference:
    """A module in an OCI registry.

    Attributes:
        registry: The registry, as HOST[:PORT].
        repository: The name of the image.
        tag: The tag; empty if there is a digest.
        digest: The digest of the manifest; empty if there is a tag.
        title: Title of the layer, from the fragment of the reference; empty if there is only one.
    """

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""
    title: str = field(default="", compare=False)

    def __str__(self) -> str:
        version = f"@{self.digest}" if self.digest else f":{self.tag}"
        return f"oci://{self.registry}/{self.repository}{version}"


@dataclass(frozen=True, slots=True)
class BindleReference:
    """A bindle as NAME/VERSION, and the sha256 of a parcel; empty for the first module."""

    id: str
    parcel: str = ""

    def __str__(self) -> str:
        return f"bindle:{self.id}{f'#{self.parcel}' if self.parcel else ''}"


@dataclass(frozen=True, slots=True)
class WebReference:
    """A download. Its text omits credentials and the query, which may contain a signature."""

    url: str

    def __str__(self) -> str:
        return origin_of(self.url) + urlsplit(self.url).path


Reference = FileReference | ImageReference | BindleReference | WebReference


def parse_reference(text: str) -> Reference:
    """Parse a module reference (docs/contract.md, "Route map").

    Raises:
        SourceError: It is invalid.
    """
    scheme = _SCHEME.match(text)
    if not scheme:
        return FileReference(text)
    rest = text[scheme.end() :]
    match scheme[1].lower():
        case "file":
            return _file(text, unquote(rest))
        case "oci":
            return parse_image(rest, text)
        case "bindle":
            return parse_bindle(rest, text)
        case "http" | "https":
            return _web(text)
        case name:
            raise SourceError(
                f"unknown scheme {name!r} in {text!r}: expected a path, file:, oci:, bindle:,"
                " http: or https:"
            )


def parse_image(name: str, text: str = "") -> ImageReference:
    """Parse the name of an image: ``[//]REGISTRY/NAME[:TAG][@DIGEST][#TITLE]``.

    The registry defaults to Docker Hub, the tag to ``latest``.

    Args:
        name: The name.
        text: The reference to quote in errors, by default ``name``.

    Raises:
        SourceError: It is invalid.
    """
    text = text or name
    name, _, title = name.partition("#")
    rest, at, digest = name.removeprefix("//").partition("@")
    registry, slash, path = rest.partition("/")
    if not name.startswith("//") and not (slash and _is_registry(registry)):
        registry, path = "docker.io", rest
    path, colon, tag = path.partition(":")
    if registry in _DOCKER_HUB:
        registry = "docker.io"
        path = path if "/" in path or not path else f"library/{path}"
    expected = "expected oci://REGISTRY/NAME:TAG or oci://REGISTRY/NAME@sha256:DIGEST"
    if not _REGISTRY.fullmatch(registry):
        raise SourceError(f"{text}: {registry!r} is not a valid registry: {expected}")
    if not _REPOSITORY.fullmatch(path):
        raise SourceError(
            f"{text}: {path!r} is not a valid image name (lowercase letters and digits, separated"
            f" by . _ - or /): {expected}"
        )
    if colon and not _TAG.fullmatch(tag):
        raise SourceError(f"{text}: {tag!r} is not a valid tag: {expected}")
    if at and not _DIGEST.fullmatch(digest):
        raise SourceError(
            f"{text}: {digest!r} is not a valid digest: expected sha256: and 64 lowercase hex"
            " digits"
        )
    # If both are given, the digest takes precedence, as in Docker.
    return ImageReference(registry, path, "" if digest else tag or "latest", digest, title)


def parse_bindle(name: str, text: str = "") -> BindleReference:
    """Parse the name of a bindle: ``NAME/VERSION[#PARCEL]``.

    Raises:
        SourceError: It is invalid.
    """
    bindle, _, parcel = name.removeprefix("//").partition("#")
    parts = bindle.split("/")
    if not _BINDLE.fullmatch(bindle) or any(not part.strip(".") for part in parts):
        raise SourceError(f"{text or name}: expected bindle:NAME/VERSION")
    return BindleReference(bindle, parcel)


def file_name(reference: Reference) -> str:
    """Derive a file name for the module from the reference, never from a server's response."""
    match reference:
        case ImageReference():
            path = reference.repository
        case BindleReference():
            path = reference.id.rpartition("/")[0]
        case WebReference():
            path = unquote(urlsplit(reference.url).path)
        case FileReference():
            path = reference.path
    name = re.sub(r"[^A-Za-z0-9._-]", "_", path.rstrip("/").rpartition("/")[2]).lstrip(".")
    return f"{name.removesuffix('.wasm') or 'module'}.wasm"


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL, the parts that are safe to show."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _is_registry(name: str) -> bool:
    return "." in name or ":" in name or name == "localhost"


def _file(text: str, path: str) -> FileReference:
    if path.startswith("//"):
        path = path.removeprefix("//").removeprefix("localhost")
    if not path.startswith("/"):
        raise SourceError(f"expected file:///absolute/path, found {text!r}")
    return FileReference(path, is_url=True)


def _web(text: str) -> WebReference:
    try:
        parts = urlsplit(text)
        if not parts.hostname or parts.port == 0:
            raise ValueError
    except ValueError:
        raise SourceError(f"expected https://HOST/PATH, found {text!r}") from None
    return WebReference(text)
