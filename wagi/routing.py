"""Match the path of a request to a route (docs/contract.md, "Routes"). Pure.

A path is matched as the client sent it: not decoded, not folded. The first route of the table that
matches wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import unquote_to_bytes

HEALTH_PATH = "/healthz"
_WILDCARD = "/..."
_PLACEHOLDER = re.compile(r"\*|\{.*\}|^:[A-Za-z_]|^<.*>$|^\[.*\]$")
"""What other routers match any segment with: ``*``, ``{id}``, ``:id``, ``<id>``, ``[id]``."""


@dataclass(frozen=True, slots=True)
class RoutePattern:
    """A configured route: a path, or with the suffix ``/...`` a path and everything below it.

    Attributes:
        text: The route as configured.
        stem: The route without ``/...``; empty for ``/...``.
        wildcard: Whether the route ends with ``/...``.
        optional_slash: Whether a route without ``/...`` also matches with a slash at its end.
    """

    text: str
    stem: str
    wildcard: bool
    optional_slash: bool = False

    @classmethod
    def parse(cls, text: str) -> RoutePattern:
        """Parse a route.

        Raises:
            ValueError: The route is invalid; the message states the expected form.
        """
        if not text.startswith("/"):
            raise ValueError(f'expected a path that begins with "/", found {text!r}')
        wildcard = text.endswith(_WILDCARD)
        stem = text.removesuffix(_WILDCARD) if wildcard else text
        if "..." in stem.split("/"):
            raise ValueError(f'expected "..." only as the last segment, found {text!r}')
        if "?" in stem or "#" in stem:
            raise ValueError(f"expected a path without query and fragment, found {text!r}")
        return cls(text, stem, wildcard)

    def join(self, subpath: str) -> RoutePattern:
        """Return the pattern of a dynamic route below this one, joined by one slash.

        See docs/contract.md, "Dynamic routes".
        """
        return RoutePattern.parse(f"{self.stem.rstrip('/')}/{subpath.lstrip('/')}")

    @property
    def script_name(self) -> str:
        """SCRIPT_NAME of the requests it matches."""
        return self.stem or "/"

    def covering_wildcards(self) -> Iterator[str]:
        """Yield the wildcard routes that match every path that this route matches."""
        end = len(self.stem)
        while end >= 0:
            yield self.stem[:end] + _WILDCARD
            end = self.stem.rfind("/", 0, end)

    def unreachable_reason(self) -> str | None:
        """Return the reason why no valid request can match, or None if one can."""
        if self.stem == HEALTH_PATH and not self.wildcard:
            return f"{HEALTH_PATH} is answered by the gateway itself"
        if has_dot_segment(self.stem):
            return "paths with a . or .. segment are refused"
        if any(not "!" <= character <= "~" for character in self.stem):
            return "paths are matched as sent: write it percent-encoded"
        return None

    def literal_hint(self) -> str | None:
        """Explain what to write instead of a placeholder of another router, if there are any.

        The characters are valid in a path, and match literally.
        """
        if not self.wildcard and self.text.endswith("..."):
            stem = self.text.removesuffix("...")
            return f"matches only literally: for all paths below {stem}, write {stem}/..."
        segments = self.stem.split("/")
        for index, segment in enumerate(segments):
            if _PLACEHOLDER.search(segment):
                route = "/".join(segments[:index]) + _WILDCARD
                return (
                    f"matches {segment} only literally: write {route}, and read the rest of the"
                    " path from PATH_INFO"
                )
        return None


T = TypeVar("T")


class Match(NamedTuple, Generic[T]):
    """A matched route: its target, its pattern, and the rest of the path as sent."""

    target: T
    pattern: RoutePattern
    raw_path_info: str


class RouteTable(Generic[T]):
    """An immutable list of routes with their targets, in order of precedence."""

    def __init__(self, routes: Iterable[tuple[RoutePattern, T]]) -> None:
        self._routes: Sequence[tuple[RoutePattern, T]] = tuple(routes)
        self._exact: dict[str, int] = {}
        self._wildcards: dict[str, int] = {}
        for index, (pattern, _) in enumerate(self._routes):
            indices = self._wildcards if pattern.wildcard else self._exact
            indices.setdefault(pattern.stem, index)
            if pattern.optional_slash and not pattern.wildcard:
                self._exact.setdefault(f"{pattern.stem}/", index)

    def __iter__(self) -> Iterator[tuple[RoutePattern, T]]:
        return iter(self._routes)

    def match(self, path: str) -> Match[T] | None:
        """Return the first route that matches ``path`` (as sent, without query), or None."""
        # A look-up for each prefix instead of a walk over the routes: the cost grows with the
        # depth of the path, not with the number of routes.
        none = len(self._routes)
        best = self._exact.get(path, none)
        wildcards = self._wildcards
        end = len(path)
        while wildcards and end >= 0:
            best = min(best, wildcards.get(path[:end], none))
            end = path.rfind("/", 0, end)
        if best == none:
            return None
        pattern, target = self._routes[best]
        raw_path_info = path[len(pattern.stem) :] if pattern.wildcard else ""
        return Match(target, pattern, raw_path_info)


def dynamic_routes(parent: RoutePattern, listing: str) -> list[tuple[RoutePattern, str]]:
    """Parse the output of a module's ``_routes``: lines of ``SUBPATH ENTRYPOINT``.

    See docs/contract.md, "Dynamic routes".

    Returns:
        Patterns with entrypoints in order of precedence: last line first.

    Raises:
        ValueError: The output is empty or has an invalid line.
    """
    routes = []
    for number, line in enumerate(listing.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2:
            raise ValueError(f"line {number}: expected SUBPATH ENTRYPOINT, found {line!r}")
        try:
            routes.append((parent.join(words[0]), words[1]))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    if not routes:
        raise ValueError("expected lines of SUBPATH ENTRYPOINT, found no output")
    return routes[::-1]


def has_dot_segment(path: str) -> bool:
    """Return whether a segment of the path is ``.`` or ``..``, plain or percent-encoded."""
    if "." not in path and "%2" not in path:
        return False
    return any(segment in (b".", b"..") for segment in unquote_to_bytes(path).split(b"/"))
