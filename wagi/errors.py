"""The errors that are reported to the operator.

Each error has an exit status. The command line prints its message and exits with that status;
nothing in between translates it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


class WagiError(Exception):
    """A failure with a message for the user: what is wrong, and how to fix it."""

    exit_status = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem with the configuration or with something that it refers to.

    Attributes:
        message: What is wrong, and what was expected.
        file: The file with the mistake, if any.
        line: The line of the mistake, from 1, if it is known.
        exit_status: 2 for a mistake of the user, 1 for a failure outside their control, such as a
            registry that does not respond.
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
    """Bad usage or configuration: one or more problems.

    The exit status is 2 if at least one of them is a mistake of the user, otherwise 1.
    """

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        self.exit_status = max(problem.exit_status for problem in self.problems)
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type[ConfigurationError], tuple[tuple[Problem, ...]]]:
        """Support pickling, to send the error to another process."""
        return type(self), (self.problems,)
