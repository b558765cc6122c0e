"""What is requested of the sources, and what they return."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wagi.sources.cache import digest_of
from wagi.sources.credentials import Credential
from wagi.sources.errors import FetchError
from wagi.sources.references import Reference

Report = Callable[[str], None]
"""Called with a line about the progress of something, and with an empty string at its end."""
Pull = Literal["always", "if-not-present", "never"]
"""When a tag is resolved: at each start, only if it is not in the cache, or never."""


@dataclass(frozen=True, slots=True)
class ModuleRequest:
    """A request for a module.

    Attributes:
        reference: A path or URL as in the key ``module`` of modules.toml.
        folder: Where relative paths start.
        sha256: The expected SHA-256 of the module as hex digits; empty for any.
        pull: When the tag of an image is resolved.
        bindle_server: URL or directory of the Bindle server; empty for the operator's.
    """

    reference: str
    folder: Path
    sha256: str = ""
    pull: Pull = "always"
    bindle_server: str = ""


@dataclass(frozen=True, slots=True)
class SnapshotState:
    """Whether a module that should have a snapshot has been replaced with it.

    Attributes:
        state: ``used`` if it has been; ``missing`` if the snapshot has not been made yet;
            ``failed`` if it cannot be made.
        reason: Why it cannot be made.
    """

    state: Literal["used", "missing", "failed"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FetchedModule:
    """A module that was requested.

    Attributes:
        content: The module.
        resolved: The file, or a reference that will always lead to this content.
        files: A directory that guests see as ``/``, if files come with the module.
        warnings: What may be wrong, such as that this may not be the newest version.
        snapshot: The state of its snapshot; None if it is to have none.
    """

    content: bytes
    resolved: str
    files: Path | None = None
    warnings: tuple[str, ...] = ()
    snapshot: SnapshotState | None = None


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """How the operator wants modules to be fetched.

    Attributes:
        max_size: Maximum size of a module in bytes.
        insecure_registries: Registries that are contacted by plain HTTP.
        registry_config: Directory of further files with credentials for registries, if any.
        bindle_server: URL or directory of the Bindle server where a reference names none.
        bindle_url: URL of the only server that gets ``bindle_credential`` and for which
            ``bindle_insecure`` applies; empty for every server.
        bindle_credential: User and password for Bindle servers.
        bindle_insecure: Whether the certificate of a Bindle server is not checked.
    """

    max_size: int
    insecure_registries: frozenset[str] = frozenset()
    registry_config: Path | None = None
    bindle_server: str = ""
    bindle_url: str = ""
    bindle_credential: Credential | None = None
    bindle_insecure: bool = False


def verify_digest(
    reference: Reference, fetched: FetchedModule, request: ModuleRequest
) -> FetchedModule:
    """Return the module if it has the expected digest.

    Raises:
        FetchError: If it has another one.
    """
    found = digest_of(fetched.content)
    if request.sha256 and found != f"sha256:{request.sha256}":
        raise FetchError(f"{reference}: expected sha256:{request.sha256}, found {found}")
    return fetched
