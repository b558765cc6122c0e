"""The path of a request as names of files. Pure.

A path is split at its slashes first and percent-decoded afterwards, as for the match of its route.
An encoded slash therefore never separates names, and a name that contains one does not exist.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote

from wagi.cgi.environment import BadRequest, decode_path

_WELL_KNOWN = ".well-known"  # RFC 8615
_KEPT_IN_LOCATION = "%!$&'()*+,;=:@~"  # beside letters, digits and -._


class FilePath(NamedTuple):
    """The path of a file below the directory.

    Attributes:
        text: The decoded path, relative; empty for the directory itself.
        is_folder: Whether the path ends with a slash.
        is_hidden: Whether a name is hidden or impossible, so that no file is ever sent.
        has_empty_name: Whether two slashes follow each other, so that no file matches.
    """

    text: str
    is_folder: bool = False
    is_hidden: bool = False
    has_empty_name: bool = False


def parse_path(path_info: str) -> FilePath:
    """Parse the part of a path below the route.

    Args:
        path_info: The rest of the path as sent: empty, or with a leading slash.

    Raises:
        BadRequest: A name is not UTF-8 or has a NUL byte.
    """
    is_folder = path_info.endswith("/")
    names = [decode_path(name) for name in path_info.split("/")[1:]]
    if is_folder:
        names.pop()
    text = "/".join(names)
    if "\0" in text:
        raise BadRequest("The request path has a NUL byte.")
    is_hidden = any("/" in name or (name.startswith(".") and name != _WELL_KNOWN) for name in names)
    return FilePath(text, is_folder, is_hidden, "" in names)


def folder_location(path: str, query: str | None) -> str:
    """Return the relative URL of a directory whose slash is missing.

    It is relative to the last segment, so that it is right behind a proxy that serves the gateway
    under another path. ``./`` keeps a segment with a colon from being a scheme.

    Args:
        path: The path of the request as sent, without a slash at its end.
        query: Its query as sent.
    """
    segment = quote(path.rpartition("/")[2], safe=_KEPT_IN_LOCATION)
    prefix = "./" if ":" in segment else ""
    return f"{prefix}{segment}/" + (f"?{query}" if query else "")
