"""The errors that are reported to the operator.

Each error has an exit status. The command line prints its message and exits with that status;
nothing in between translates it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wagi.excerpt import excerpt


class WagiError(Exception):
    """A failure with a message for the user: what is wrong, and how to fix it."""

    exit_status = 1

    def explain(self) -> str:
        """Return the message with everything that helps, in several lines."""
        return str(self)


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem with the configuration or with something that it refers to.

    Attributes:
        message: What is wrong, and what was expected.
        file: The file with the mistake, if any.
        line: The line of the mistake, from 1, if it is known.
        exit_status: 2 for a mistake of the user, 1 for a failure outside their control, such as a
            registry that does not respond.
        column: The first character of the mistake in its line, from 1; 0 if it is not known.
        width: The number of characters of the mistake in its line; 0 for all that follow.
        source: The text of the line; empty if it is not known.
    """

    message: str
    file: Path | None = None
    line: int | None = None
    exit_status: int = 2
    column: int = 0
    width: int = 1
    source: str = ""

    def __str__(self) -> str:
        if self.file is None:
            return self.message
        place = str(self.file) if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.message}"

    def excerpt(self, columns: int = 100) -> str:
        """Show the line of the mistake with a marker.

        It is empty if the line is not known, and if the file has no mistake, as its exit status
        shows.

        Args:
            columns: Columns of the terminal.
        """
        if self.line is None or self.exit_status == 1 or not self.source.strip():
            return ""
        return excerpt(self.source, self.line, self.column, self.width, columns)


class ConfigurationError(WagiError):
    """Bad usage or configuration: one or more problems.

    The exit status is 2 if at least one of them is a mistake of the user, otherwise 1.
    """

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        self.exit_status = max(problem.exit_status for problem in self.problems)
        super().__init__("\n".join(map(str, self.problems)))

    def explain(self) -> str:
        """Return the messages, each with the line of its mistake."""
        texts = ((str(problem), problem.excerpt()) for problem in self.problems)
        return "\n".join(text for pair in texts for text in pair if text)

    def __reduce__(self) -> tuple[type[ConfigurationError], tuple[tuple[Problem, ...]]]:
        """Support pickling, to send the error to another process."""
        return type(self), (self.problems,)
