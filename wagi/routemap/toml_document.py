"""TOML files whose keys know their lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from wagi.config.text import read_text
from wagi.config.validation import KeyPath, explain_validation_error
from wagi.errors import ConfigurationError
from wagi.routemap.lines import LineMap, parse_toml, toml_lines
from wagi.routemap.location import Location

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class TomlDocument:
    """A parsed TOML file.

    Attributes:
        path: The file.
        content: Its values.
        lines: The lines of its keys.
    """

    path: Path
    content: dict[str, Any]
    lines: LineMap

    @classmethod
    def read(cls, path: Path) -> TomlDocument:
        """Read a file.

        Raises:
            ConfigurationError: It cannot be read, or is not valid TOML.
        """
        text = read_text(path)
        return cls(path, parse_toml(text, path), toml_lines(text))

    def validate(
        self,
        model: type[Model],
        name: Callable[[KeyPath], str],
        label: Callable[[KeyPath], str] = lambda path: "",
    ) -> Model:
        """Validate the values.

        Args:
            model: The model of the whole document.
            name: How messages name a value; see ``explain_validation_error``.
            label: What else messages name; see ``Location.name``.

        Raises:
            ConfigurationError: With every mistake, each with its line.
        """
        try:
            return model.model_validate(self.content)
        except ValidationError as error:
            problems = [
                self.lines.problem(
                    mistake.message,
                    self.path,
                    mistake.path,
                    mistake.is_key,
                    label(mistake.path),
                )
                for mistake in explain_validation_error(error, model, name)
            ]
        raise ConfigurationError(sorted(problems, key=lambda item: item.line or 0))

    def location(self, *path: str | int, name: str = "") -> Location:
        """The location of a key; that of its nearest ancestor if it has no line of its own.

        Args:
            path: The keys and indices that lead to it.
            name: What messages name in addition to the line.
        """
        return self.lines.location(self.path, path, name)
