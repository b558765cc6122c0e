"""What can go wrong for the person who runs the gateway.

An error knows its consequence: the command line turns it into one message and its exit status, and
nothing in between has to translate it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


class WagiError(Exception):
    """A failure with a message for the user. The message says what was wrong and what to do."""

    exit_status = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in what the user gave us.

    Parameters: ``message`` what was found and what was expected; ``file`` and ``line`` (1-based)
    where it is, as far as it has a place; ``exit_status`` 2 for what the user wrote, 1 for what
    the world did, such as a registry that does not answer.
    """

    message: str
    file: Path | None = None
    line: int | None = None
    exit_status: int = 2

    def __str__(self) -> str:
        if self.file is None:
            return self.message
        place = str(self.file) if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.message}"


class ConfigurationError(WagiError):
    """Bad usage or configuration: one or more problems, each with its place.

    Its exit status is 1 if none of them is the user's.
    """

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        self.exit_status = max(problem.exit_status for problem in self.problems)
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type[ConfigurationError], tuple[tuple[Problem, ...]]]:
        """How to send it to another process."""
        return type(self), (self.problems,)
