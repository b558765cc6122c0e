"""Where a part of a route map is written, for messages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wagi.errors import Problem


@dataclass(frozen=True, slots=True)
class Location:
    """Where a part of a route map is written.

    Attributes:
        file: The file; None if it is not in a file.
        line: The line, counted from 1; None for the whole file.
        name: What else messages name, such as a container.
        exit_status: 2 for a file of the user, 1 for a downloaded one (``Problem.exit_status``).
        column: Its first character in the line, from 1; 0 if only the line is known.
        width: The number of its characters in that line; 0 for all that follow.
        source: The text of the line; empty if it is not known.
    """

    file: Path | None = None
    line: int | None = None
    name: str = ""
    exit_status: int = 2
    column: int = 0
    width: int = 1
    source: str = ""

    def problem(self, message: str, exit_status: int = 2) -> Problem:
        """Report a problem here.

        Args:
            message: What is wrong.
            exit_status: 1 if it is not a mistake in the route map, such as a failed download.
        """
        text = f"{self.name}: {message}" if self.name else message
        exit_status = min(exit_status, self.exit_status)
        place = (self.column, self.width, self.source)
        return Problem(text, self.file, self.line, exit_status, *place)

    @property
    def in_file(self) -> str:
        """File and line, such as ``modules.toml:2``; empty without a line."""
        return "" if self.file is None or self.line is None else f"{self.file.name}:{self.line}"

    def seen_from(self, other: Location) -> str:
        """How a message about another place refers to this one."""
        if self.file != other.file:
            return str(self.file) if self.line is None else f"{self.file}:{self.line}"
        return str(self)

    def __str__(self) -> str:
        """How a message about another place in the same file refers to this one."""
        line = "" if self.line is None else f"line {self.line}"
        return ", ".join(filter(None, (self.name, line))) or str(self.file)
