"""modules.toml: the route map as the user writes it (docs/contract.md, "Route map")."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import tomli
from pydantic import BaseModel, Field, StrictStr, ValidationError, field_validator

from wagi.config.entries import ModuleEntry, RouteMap, Rules, Table, Volume
from wagi.config.positions import Position, Positions
from wagi.config.text import read_text
from wagi.config.values import HostPort
from wagi.errors import ConfigurationError, Problem


class Manifest(Table):
    """The whole file."""

    default_host: StrictStr | None = None
    """The host and port of requests whose Host header lacks them."""
    defaults: Rules = Field(default_factory=Rules)
    """What holds for every module, unless its entry says otherwise."""
    module: list[ModuleEntry] = Field(default_factory=list)
    """The routes, in the order in which they are tried."""

    @property
    def entries(self) -> list[ModuleEntry]:
        """The entries, each with what ``[defaults]`` says and it does not."""
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
    def _default_host(cls, value: str | None) -> str | None:
        if value is not None:
            HostPort.parse(value)
        return value


def read_manifest(path: Path) -> RouteMap:
    """Read and check modules.toml.

    Raises: ConfigurationError with every mistake, each with file, line and key.
    """
    text = read_text(path)
    # tomli reads universal line ends and refuses the bare CR that str.splitlines would split at.
    try:
        content = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise ConfigurationError(
            Problem(f"not valid TOML: {error.msg} (column {error.colno})", path, error.lineno)
        ) from None
    positions = Positions(text)
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        found = (
            Problem(_explain(i), path, positions.line(_place(i["loc"]))) for i in error.errors()
        )
        raise ConfigurationError(sorted(found, key=lambda problem: problem.line or 0)) from None

    def place(message: str, index: int | None, key: str, exit_status: int) -> Problem:
        keys = () if index is None else ("module", index, key)
        line = None if index is None else positions.line(keys)
        return Problem(message, path, line, exit_status)

    def describe(index: int) -> str:
        return f"line {positions.line(('module', index, 'route'))}"

    folder = path.absolute().parent
    return RouteMap(manifest.entries, folder, place, describe, manifest.default_host)


def _place(location: tuple[int | str, ...]) -> Position:
    # pydantic marks a mistake in the key of a table with a pseudo key of its own.
    return tuple(part for part in location if part != "[key]")


def _explain(item: Any) -> str:
    location = _place(item["loc"])
    key = ".".join(str(part) for part in location if isinstance(part, str) and part != "module")
    key = key or "module"
    found = item["input"]
    match item["type"]:
        case "missing":
            return f"required key {location[-1]!r} is missing from this [[module]]"
        case "extra_forbidden":
            return _explain_unknown(location)
        case "value_error":
            return f"{key}: {item['ctx']['error']}"
        case "list_type" if location == ("module",):
            return "module: expected [[module]] with two brackets: there can be several"
        case "model_type" | "model_attributes_type" | "dict_type":
            expected = "a table"
        case "string_type":
            expected = "a string"
        case "list_type":
            expected = "an array"
        case "int_type":
            expected = "a whole number"
        case "bool_type":
            expected = "true or false"
        case "literal_error":
            expected = item["ctx"]["expected"]
        case "string_pattern_mismatch":
            expected = "64 hex digits, in small letters"
        case "string_too_short":
            expected = "a text that is not empty"
        case "finite_number":
            expected = "a finite number, 0 for no limit"
        case "greater_than_equal":
            expected = f"{item['ctx']['ge']:g} or more"
        case _:
            expected = item["msg"]
    return f"{key}: expected {expected}, found {_describe(found)}"


def _explain_unknown(location: Position) -> str:
    models: dict[str, type[BaseModel]] = {"module": ModuleEntry, "defaults": Rules}
    model = models[str(location[0])] if len(location) > 1 else Manifest
    if "volumes" in location[:-1]:
        model = Volume
    known = sorted(model.model_fields)
    key = str(location[-1])
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
    return f"unknown key {key!r}: {hint}"


def _describe(value: object) -> str:
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)
