"""A directory that is served, as configured."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Site:
    """A directory and how it is served.

    Attributes:
        folder: The directory, absolute. Symbolic links in the path are resolved for each request.
        name: The directory as it is written in the route map, for messages and logs.
        index: The file that represents a directory.
        fallback: The file that is sent with status 200 for paths without a file; None for 404.
        not_found: The file that is sent with status 404; None for a page of the gateway.
        cache_control: Values of Cache-Control by patterns of paths. The first match counts.
    """

    folder: Path
    name: str
    index: str = "index.html"
    fallback: str | None = None
    not_found: str | None = None
    cache_control: tuple[tuple[str, str], ...] = ()

    def cache_control_of(self, path: str) -> str | None:
        """Return the value of Cache-Control for a file.

        Args:
            path: The path of the file below the directory.
        """
        for pattern, value in self.cache_control:
            if _expression(pattern).match(path):
                return value
        return None


@lru_cache(maxsize=1024)
def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern))
