"""The modules that a start asks for, wherever they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wagi.errors import WagiError
from wagi.sources.cache import ModuleCache, digest_of
from wagi.sources.credentials import Credential
from wagi.sources.ends import FetchError
from wagi.sources.files import read_file
from wagi.sources.references import FileReference, Reference, parse_reference

Report = Callable[[str], None]
"""``report(text)`` shows how far something has come; an empty text is the end of it."""
Pull = Literal["always", "if-not-present", "never"]
"""When a tag is resolved: at each start, only if it is not in the cache, or never."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A module that somebody asks for.

    Attributes: ``folder`` where relative paths start; ``sha256`` that it must have, as hex;
    ``bindle_server`` URL or directory of a bindle.
    """

    reference: str
    folder: Path
    sha256: str = ""
    pull: Pull = "always"
    bindle_server: str = ""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A module that was asked for.

    Attributes: ``resolved`` the reference that will always lead to it; ``files`` a folder that goes
    with it, for guests to see as ``/``; ``warning`` why this is perhaps not the newest.
    """

    content: bytes
    resolved: str
    files: Path | None = None
    warning: str = ""


@dataclass(frozen=True, slots=True)
class FetchRules:
    """What the operator says about sources.

    Attributes: ``max_size`` of a module in bytes; ``insecure_registries`` that speak plain HTTP;
    ``bindle_server`` for bindles that name none, a URL or a directory; ``bindle_url`` of the only
    server that gets ``bindle_credential`` and of which any certificate may do, empty for all.
    """

    max_size: int
    insecure_registries: frozenset[str] = frozenset()
    bindle_server: str = ""
    bindle_url: str = ""
    bindle_credential: Credential | None = None
    bindle_insecure: bool = False


def fetch_all(
    wanted: Iterable[Wanted], cache: ModuleCache, rules: FetchRules, report: Report
) -> list[Fetched | WagiError]:
    """Fetch modules. Returns: each one, or what is wrong with it, in their order."""
    order = list(wanted)
    here = {item: _read(item) for item in dict.fromkeys(order)}
    elsewhere = [item for item, found in here.items() if found is None]
    if elsewhere:
        from wagi.sources.fetch import fetch_from_elsewhere  # and an HTTP client

        fetched = fetch_from_elsewhere(elsewhere, cache, rules, report)
        here.update(zip(elsewhere, fetched, strict=True))
    return [found for item in order if (found := here[item]) is not None]


def _read(wanted: Wanted) -> Fetched | WagiError | None:
    """Read a module that is in a file; None if it is elsewhere."""
    try:
        reference = parse_reference(wanted.reference)
        if not isinstance(reference, FileReference):
            return None
        path, content = read_file(reference, wanted.folder)
        return verified(reference, Fetched(content, str(path)), wanted)
    except WagiError as error:
        return error


def verified(reference: Reference, fetched: Fetched, wanted: Wanted) -> Fetched:
    """A module that is the one that was asked for. Raises: FetchError for another one."""
    found = digest_of(fetched.content)
    if wanted.sha256 and found != f"sha256:{wanted.sha256}":
        raise FetchError(f"{reference}: expected sha256:{wanted.sha256}, found {found}")
    return fetched
