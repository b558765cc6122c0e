"""modules.toml: the route map as the user writes it (docs/contract.md, "Route map")."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tomli
from pydantic import BeforeValidator, Field, StrictStr, ValidationError, field_validator

from wagi.config.text import read_text
from wagi.config.validation import KeyPath, dotted, explain_validation_error
from wagi.config.values import HostPort
from wagi.errors import ConfigurationError, Problem
from wagi.routemap.entries import Defaults, Location, ModuleEntry, RouteMap, Table
from wagi.routemap.lines import toml_lines


def _check_is_array(value: object) -> object:
    if isinstance(value, dict):
        raise ValueError("expected [[module]] with two brackets, as there can be several")
    return value


class ModulesToml(Table):
    """The whole file."""

    default_host: StrictStr | None = Field(
        default=None,
        description="The host and port of requests whose Host header lacks them.",
    )
    defaults: Defaults = Field(
        default_factory=Defaults, description="Defaults for all entries, which may override them."
    )
    module: Annotated[list[ModuleEntry], BeforeValidator(_check_is_array)] = Field(
        default_factory=list, description="The routes, in the order in which they are tried."
    )

    @property
    def entries(self) -> list[ModuleEntry]:
        """The entries, completed by ``[defaults]``."""
        given = self.defaults.model_fields_set
        environment = self.defaults.environment
        return [
            entry.model_copy(
                update={
                    **{key: getattr(self.defaults, key) for key in given - entry.model_fields_set},
                    "environment": {**environment, **entry.environment},
                }
            )
            for entry in self.module
        ]

    @field_validator("default_host")
    @classmethod
    def _check_default_host(cls, value: str | None) -> str | None:
        if value is not None:
            HostPort.parse(value)
        return value


def read_modules_toml(path: Path) -> RouteMap:
    """Read and check modules.toml.

    Raises:
        ConfigurationError: With every mistake in the file, each with its line.
    """
    text = read_text(path)
    # tomli reads universal line ends and rejects the bare CR at which str.splitlines would split.
    try:
        content = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise ConfigurationError(
            Problem(f"not valid TOML: {error.msg} (column {error.colno})", path, error.lineno)
        ) from None
    lines = toml_lines(text)
    try:
        parsed = ModulesToml.model_validate(content)
    except ValidationError as error:
        problems = [
            Problem(mistake.message, path, lines.line(mistake.path))
            for mistake in explain_validation_error(error, ModulesToml, _name)
        ]
        raise ConfigurationError(sorted(problems, key=lambda item: item.line or 0)) from None

    entries = []
    for index, (entry, written) in enumerate(zip(parsed.entries, parsed.module, strict=True)):
        place = ("module", index)
        keys = {key: Location(path, lines.line((*place, key))) for key in written.model_fields_set}
        entries.append(entry.located(Location(path, lines.line(place)), keys))
    return RouteMap(entries, path.absolute().parent, Location(path), parsed.default_host)


def _name(path: KeyPath) -> str:
    """The name of a key in a message, which has the line of its entry already."""
    return (
        dotted(tuple(key for key in path if isinstance(key, str) and key != "module")) or "module"
    )
