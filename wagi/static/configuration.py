"""From an entry of a route map to a site: checks the directory."""

from __future__ import annotations

from collections.abc import Iterator

from wagi.errors import WagiError
from wagi.routemap.entries import RouteMap
from wagi.routemap.static_entry import StaticEntry
from wagi.static.site import Site


class SiteError(WagiError):
    """The directory of an entry cannot be served."""


def make_site(entry: StaticEntry, route_map: RouteMap) -> Site:
    """Check the directory of an entry.

    Args:
        entry: The entry.
        route_map: The map with the entry; its directory has to contain that of the entry.

    Raises:
        SiteError: The directory does not exist, is outside of the project, or contains a file of
            the route map, which would be served.
    """
    folder = route_map.folder_of(entry) / entry.static
    if not folder.is_dir():
        reason = "is not a directory" if folder.exists() else "does not exist"
        raise SiteError(f"the directory {folder} {reason}")
    resolved, project = folder.resolve(), route_map.folder.resolve()
    if not resolved.is_relative_to(project):
        target = "" if resolved == folder else f", which leads to {resolved},"
        raise SiteError(
            f"{folder}{target} is outside of the project {project}: only directories in the"
            " directory of modules.toml can be served; move or copy it there"
        )
    for file in route_map.files:
        if file.resolve().is_relative_to(resolved):
            raise SiteError(
                f"the directory {folder} contains {file}, which would be served: move what is to be"
                " served to a directory of its own, such as public"
            )
    return Site(
        folder,
        entry.static,
        entry.index,
        entry.fallback,
        entry.not_found,
        tuple(entry.cache_control.items()),
    )


def missing_files(site: Site) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the files that an entry names, as pairs of a key and a message."""
    for key, path in (("fallback", site.fallback), ("not_found", site.not_found)):
        if path is not None and not (site.folder / path).is_file():
            yield key, f"no such file: {site.folder / path}"
