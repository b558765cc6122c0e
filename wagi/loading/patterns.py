"""The patterns of all entries, checked against each other."""

from __future__ import annotations

from dataclasses import replace

from wagi.loading.findings import EntryFindings
from wagi.routemap.entries import Entry, ModuleEntry
from wagi.routing import RoutePattern


class RoutePatterns:
    """The patterns of entries.

    Args:
        findings: Collects routes that are not valid, used twice or never reached.
    """

    def __init__(self, findings: EntryFindings) -> None:
        self._findings = findings
        self._patterns: dict[str, Entry] = {}  # the first entry of each

    def add(self, entry: Entry) -> RoutePattern | None:
        """Check the route of an entry against those of earlier entries.

        Returns:
            Its pattern; None if the route is not valid.
        """
        try:
            pattern = RoutePattern.parse(entry.route)
        except ValueError as error:
            self._findings.report(error, entry, "route")
            return None
        if isinstance(entry, ModuleEntry) and entry.spin_route is not None:
            pattern = replace(pattern, optional_slash=not pattern.wildcard)  # as in Spin
        known = self._patterns
        if pattern.text in known:
            first = known[pattern.text].location("route").seen_from(entry.location("route"))
            self._findings.report(
                f"{pattern.text!r} is already the route of {first}", entry, "route"
            )
        elif earlier := next(
            (text for text in pattern.covering_wildcards() if text in known), None
        ):
            first = known[earlier].location("route").seen_from(entry.location("route"))
            reason = f"{earlier!r} in {first} comes first"
            self._findings.warn(f"{pattern.text!r} can never match: {reason}", entry, "route")
        if obstacle := pattern.unreachable_reason():
            self._findings.warn(f"{pattern.text!r} can never match: {obstacle}", entry, "route")
        elif hint := pattern.literal_hint():
            self._findings.warn(f"{pattern.text!r} {hint}", entry, "route")
        known.setdefault(pattern.text, entry)
        return pattern
