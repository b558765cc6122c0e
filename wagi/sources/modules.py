"""Fetch modules from files and from remote sources."""

from __future__ import annotations

from collections.abc import Iterable

from wagi.errors import WagiError
from wagi.sources.cache import ModuleCache
from wagi.sources.files import read_file
from wagi.sources.module_request import (
    FetchedModule,
    FetchOptions,
    ModuleRequest,
    Report,
    verify_digest,
)
from wagi.sources.references import FileReference, parse_reference


def fetch_modules(
    requests: Iterable[ModuleRequest], cache: ModuleCache, options: FetchOptions, report: Report
) -> list[FetchedModule | WagiError]:
    """Fetch modules.

    Args:
        requests: The requests; equal ones are fetched once.
        cache: Where modules that are not in files are kept.
        options: How they are fetched.
        report: Called with the progress.

    Returns:
        Each module, or why it could not be fetched, in the order of the requests.
    """
    ordered = list(requests)
    results = {request: _read(request) for request in dict.fromkeys(ordered)}
    remote = [request for request, result in results.items() if result is None]
    if remote:
        from wagi.sources.fetch import fetch_remote_modules  # imports an HTTP client

        fetched = fetch_remote_modules(remote, cache, options, report)
        results.update(zip(remote, fetched, strict=True))
    return [result for request in ordered if (result := results[request]) is not None]


def _read(request: ModuleRequest) -> FetchedModule | WagiError | None:
    """Read a module that is in a file. Returns: None if it is not."""
    try:
        reference = parse_reference(request.reference)
        if not isinstance(reference, FileReference):
            return None
        path, content = read_file(reference, request.folder)
        return verify_digest(reference, FetchedModule(content, str(path)), request)
    except WagiError as error:
        return error
