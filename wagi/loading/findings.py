"""Collects what is wrong with the entries of a route map, so that one run shows everything."""

from __future__ import annotations

from wagi.errors import Problem
from wagi.routemap.entries import Entry
from wagi.sources.errors import FetchError


class EntryFindings:
    """The problems and warnings of entries.

    Attributes:
        problems: What prevents a start.
        warnings: What does not.
    """

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def report(self, error: Exception | str, entry: Entry, key: str) -> None:
        """Add a problem of a key, which prevents a start."""
        # A module that cannot be a handler is a mistake of the user; a failing registry is not.
        exit_status = 1 if isinstance(error, FetchError) else 2
        message = f"{entry.key_name(key)}: {error}"
        self.problems.append(entry.location(key).problem(message, exit_status))

    def warn(self, message: str, entry: Entry, key: str) -> None:
        """Add a warning about a key."""
        self.warnings.append(entry.location(key).problem(f"{entry.key_name(key)}: {message}"))
