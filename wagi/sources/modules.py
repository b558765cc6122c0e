"""Fetch modules from files and from remote sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wagi.errors import WagiError
from wagi.sources.cache import ModuleCache, digest_of
from wagi.sources.credentials import Credential
from wagi.sources.errors import FetchError
from wagi.sources.files import read_file
from wagi.sources.references import FileReference, Reference, parse_reference

Report = Callable[[str], None]
"""``report(text)`` shows progress; an empty text ends it."""
Pull = Literal["always", "if-not-present", "never"]
"""When a tag is resolved: at each load, only if it is not in the cache, or never."""


@dataclass(frozen=True, slots=True)
class ModuleRequest:
    """A module to fetch.

    Attributes:
        reference: The reference, as the user wrote it.
        folder: The directory that relative paths are resolved against.
        sha256: The expected digest as hex; empty if any is accepted.
        pull: When a tag is resolved.
        bindle_server: URL or directory of bindles; empty for the default.
    """

    reference: str
    folder: Path
    sha256: str = ""
    pull: Pull = "always"
    bindle_server: str = ""


@dataclass(frozen=True, slots=True)
class FetchedModule:
    """A module that has been fetched.

    Attributes:
        content: The bytes of the module.
        resolved: The immutable reference, by digest; for a file, its path.
        files: A directory of files that come with it, which guests see as ``/``.
        warning: Why it may be outdated; empty if it is not.
    """

    content: bytes
    resolved: str
    files: Path | None = None
    warning: str = ""


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """The operator's options for fetching modules.

    Attributes:
        max_size: Maximum size of a module in bytes.
        insecure_registries: Registries that are accessed over plain HTTP.
        bindle_server: The default for bindles, a URL or a directory.
        bindle_url: The only server that ``bindle_credential`` and ``bindle_insecure`` apply to;
            empty for all servers.
        bindle_credential: The user and password to send.
        bindle_insecure: Whether to accept any certificate.
    """

    max_size: int
    insecure_registries: frozenset[str] = frozenset()
    bindle_server: str = ""
    bindle_url: str = ""
    bindle_credential: Credential | None = None
    bindle_insecure: bool = False


def fetch_modules(
    requests: Iterable[ModuleRequest], cache: ModuleCache, options: FetchOptions, report: Report
) -> list[FetchedModule | WagiError]:
    """Fetch modules.

    Returns:
        For each request, in order, the module or the error.
    """
    order = list(requests)
    here = {item: _read(item) for item in dict.fromkeys(order)}
    elsewhere = [item for item, found in here.items() if found is None]
    if elsewhere:
        from wagi.sources.fetch import fetch_remote_modules  # imports an HTTP client

        fetched = fetch_remote_modules(elsewhere, cache, options, report)
        here.update(zip(elsewhere, fetched, strict=True))
    return [found for item in order if (found := here[item]) is not None]


def _read(request: ModuleRequest) -> FetchedModule | WagiError | None:
    """Read a module from a file; None if the reference is remote."""
    try:
        reference = parse_reference(request.reference)
        if not isinstance(reference, FileReference):
            return None
        path, content = read_file(reference, request.folder)
        return verify_digest(reference, FetchedModule(content, str(path)), request)
    except WagiError as error:
        return error


def verify_digest(
    reference: Reference, fetched: FetchedModule, request: ModuleRequest
) -> FetchedModule:
    """Return the module if it has the expected digest.

    Raises:
        FetchError: It has another one.
    """
    found = digest_of(fetched.content)
    if request.sha256 and found != f"sha256:{request.sha256}":
        raise FetchError(f"{reference}: expected sha256:{request.sha256}, found {found}")
    return fetched
