"""From the path of a request to the route that answers it (docs/contract.md, "Routes"). Pure.

A path is matched as the client sent it: not decoded, not folded. The first route of the table that
matches wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import unquote_to_bytes

HEALTH_PATH = "/healthz"
_WILDCARD = "/..."


@dataclass(frozen=True, slots=True)
class RoutePattern:
    """A route as configured: one path, or with ``/...`` at its end a path and all below it.

    Attributes: ``text`` as written; ``stem`` without ``/...`` (empty for ``/...``); ``wildcard``.
    """

    text: str
    stem: str
    wildcard: bool

    @classmethod
    def parse(cls, text: str) -> RoutePattern:
        """Read a route. Raises: ValueError saying what was expected."""
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
        """The pattern of a dynamic route below this one, one slash between.

        See docs/contract.md, "Dynamic routes".
        """
        return RoutePattern.parse(f"{self.stem.rstrip('/')}/{subpath.lstrip('/')}")

    @property
    def script_name(self) -> str:
        """SCRIPT_NAME of the requests it matches."""
        return self.stem or "/"

    def covering(self) -> Iterator[str]:
        """The texts of the wildcard routes that match every path that this one matches."""
        end = len(self.stem)
        while end >= 0:
            yield self.stem[:end] + _WILDCARD
            end = self.stem.rfind("/", 0, end)

    def why_unreachable(self) -> str | None:
        """Why no path that a client may send can match, or None if one can."""
        if self.stem == HEALTH_PATH and not self.wildcard:
            return f"{HEALTH_PATH} is answered by the gateway itself"
        if has_dot_segment(self.stem):
            return "paths with a . or .. segment are refused"
        if any(not "!" <= character <= "~" for character in self.stem):
            return "paths are matched as sent: write it percent-encoded"
        return None


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Match(Generic[T]):
    """What a path led to: a route's target, its pattern, and the rest of the path as sent."""

    target: T
    pattern: RoutePattern
    raw_path_info: str


class RouteTable(Generic[T]):
    """Routes in the order in which they are tried, each with its target. Immutable."""

    def __init__(self, routes: Iterable[tuple[RoutePattern, T]]) -> None:
        self._routes: Sequence[tuple[RoutePattern, T]] = tuple(routes)
        self._exact: dict[str, int] = {}
        self._wildcards: dict[str, int] = {}
        for index, (pattern, _) in enumerate(self._routes):
            places = self._wildcards if pattern.wildcard else self._exact
            places.setdefault(pattern.stem, index)

    def __iter__(self) -> Iterator[tuple[RoutePattern, T]]:
        return iter(self._routes)

    def match(self, path: str) -> Match[T] | None:
        """The first route that matches ``path`` (as sent, without query), or None."""
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
    """Read what a module's ``_routes`` printed: lines of ``SUBPATH ENTRYPOINT`` (docs/contract.md,
    "Dynamic routes").

    Returns: patterns with entrypoints in the order in which they are tried: last line first.
    Raises: ValueError for no output and for any other line.
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
    """Whether a segment of the path is ``.`` or ``..``, plain or percent-encoded."""
    if "." not in path and "%2" not in path:
        return False
    return any(segment in (b".", b"..") for segment in unquote_to_bytes(path).split(b"/"))
