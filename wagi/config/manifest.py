"""modules.toml: the route map as the user writes it (contract §4)."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any

import tomli
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
)

from wagi.config.positions import Position, Positions
from wagi.config.values import HostPort, check_variable, parse_size
from wagi.errors import ConfigurationError, Problem

Size = Annotated[int, BeforeValidator(parse_size)]
DEFAULT_TIMEOUT = 30.0
DEFAULT_MEMORY_LIMIT = 256 * 1024**2


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Defaults(_Table):
    """The keys that an entry may set and that ``[defaults]`` sets for all of them."""

    environment: dict[StrictStr, StrictStr] = Field(default_factory=dict)
    timeout: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    memory_limit: Size | None = None
    max_concurrency: Annotated[StrictInt, Field(ge=1)] | None = None

    @field_validator("timeout", mode="before")
    @classmethod
    def _timeout_is_a_number(cls, value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise ValueError("expected seconds as a number, 0 for no limit")
        return value

    @field_validator("environment")
    @classmethod
    def _variables(cls, value: dict[str, str]) -> dict[str, str]:
        for key, text in value.items():
            check_variable(key, text)
        return value


class ModuleEntry(Defaults):
    """One ``[[module]]``: a route and the module behind it."""

    route: StrictStr
    module: StrictStr
    entrypoint: StrictStr = "_start"
    argv: StrictStr | None = None
    volumes: dict[StrictStr, StrictStr] = Field(default_factory=dict)
    # For outbound HTTP and for bindles: accepted so that the original's files load.
    allowed_hosts: list[StrictStr] | None = None
    http_max_concurrency: Annotated[StrictInt, Field(ge=0)] | None = None
    bindle_server: StrictStr | None = None
    repository: StrictStr | None = None

    @field_validator("volumes")
    @classmethod
    def _volumes(cls, value: dict[str, str]) -> dict[str, str]:
        for guest_path, host_path in value.items():
            if not guest_path or not host_path or "\0" in guest_path + host_path:
                raise ValueError('expected {"/guest/path" = "host/path"}, both not empty')
        return value


class Manifest(_Table):
    """The whole file."""

    default_host: StrictStr | None = None
    defaults: Defaults = Field(default_factory=Defaults)
    module: list[ModuleEntry] = Field(default_factory=list)

    @field_validator("default_host")
    @classmethod
    def _default_host(cls, value: str | None) -> str | None:
        if value is not None:
            HostPort.parse(value)
        return value


class ManifestFile:
    """A manifest with the place of each of its keys.

    Attributes: ``manifest`` the validated content; ``path`` the file, whose folder relative
    references start from.
    """

    def __init__(self, path: Path, manifest: Manifest, positions: Positions | None) -> None:
        self.path = path
        self.manifest = manifest
        self._positions = positions

    def problem(self, message: str, *path: str | int) -> Problem:
        """A problem at the key ``path``, for mistakes that show only when an entry is loaded."""
        line = None if self._positions is None else self._positions.line(path)
        return Problem(message, self.path, line)


def read_manifest(path: Path) -> ManifestFile:
    """Read and check modules.toml.

    Raises: ConfigurationError with every mistake, each with file, line and key.
    """
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        hint = "expected a modules.toml; name it after the command or with -c"
        raise ConfigurationError(Problem(f"no such file: {path} ({hint})")) from None
    except OSError as error:
        raise ConfigurationError(Problem(f"cannot be read: {error.strerror}", path)) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigurationError(
            Problem("expected UTF-8 text, found other bytes", path, line)
        ) from None
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
    return ManifestFile(path, manifest, positions)


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
        case "greater_than_equal":
            expected = f"{item['ctx']['ge']:g} or more"
        case _:
            expected = item["msg"]
    return f"{key}: expected {expected}, found {_describe(found)}"


def _explain_unknown(location: Position) -> str:
    models: dict[str, type[BaseModel]] = {"module": ModuleEntry, "defaults": Defaults}
    model = models[str(location[0])] if len(location) > 1 else Manifest
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
