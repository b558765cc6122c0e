"""Collects what is wrong with a document, so that one run shows everything."""

from __future__ import annotations

from wagi.config.validation import KeyPath
from wagi.errors import ConfigurationError, Problem
from wagi.routemap.toml_document import TomlDocument


class Findings:
    """The problems and warnings of a document.

    Args:
        document: The document.
    """

    def __init__(self, document: TomlDocument) -> None:
        self._document = document
        self._problems: list[Problem] = []
        self._warnings: list[Problem] = []

    def problem(self, message: str, place: KeyPath) -> None:
        """Add a problem, which prevents a start.

        Args:
            message: What is wrong, and how to fix it.
            place: The key.
        """
        self._problems.append(self._document.location(*place).problem(message))

    def warn(self, message: str, place: KeyPath) -> None:
        """Add a warning."""
        self._warnings.append(self._document.location(*place).problem(message))

    def warnings(self) -> tuple[Problem, ...]:
        """Return the warnings in the order of their lines.

        Raises:
            ConfigurationError: There are problems; it has all of them.
        """
        if self._problems:
            raise ConfigurationError(sorted(self._problems, key=_line))
        return tuple(sorted(self._warnings, key=_line))


def _line(problem: Problem) -> int:
    return problem.line or 0
