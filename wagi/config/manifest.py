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
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
)

from wagi.config.positions import Position, Positions
from wagi.config.values import HostPort, Size, check_variable
from wagi.errors import ConfigurationError, Problem

_KIB, _MIB, _GIB = 1024, 1024**2, 1024**3


def _seconds(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("expected seconds as a number, 0 for no limit")
    return value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0, allow_inf_nan=False)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Volume(_Table):
    """A folder of the host for a guest: ``path`` relative to modules.toml."""

    path: Annotated[StrictStr, Field(min_length=1)]
    readonly: StrictBool = False


def _volume(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


class Rules(_Table):
    """The keys that an entry may set and that ``[defaults]`` sets for all of them.

    The defaults are explained in docs/security.md. A limit of 0 means none.
    """

    environment: dict[StrictStr, StrictStr] = Field(default_factory=dict)
    timeout: Seconds = 30.0
    """Seconds from the start of a guest to the end of its response."""
    cpu_timeout: Seconds = 10.0
    """Seconds of CPU time of a guest."""
    memory_limit: Size = 256 * _MIB
    """Bytes of linear memory; tables get an eighth of it besides."""
    max_concurrency: Annotated[StrictInt, Field(ge=1)] | None = None
    """Guests at a time; the worker's own limit holds in any case."""
    max_queue: Annotated[StrictInt, Field(ge=0)] = 1000
    """Requests that wait for a place; one more is answered 503."""
    queue_timeout: Seconds = 10.0
    """Seconds that a request waits for a place."""
    body_limit: Size = 1 * _GIB
    """Bytes of a request body."""
    environment_limit: Size = 256 * _KIB
    """Bytes of the variables and the argv that a request becomes."""
    output_buffer: Annotated[Size, Field(ge=_KIB)] = 256 * _KIB
    """Bytes of output that nobody has taken at which a guest is suspended."""
    header_limit: Annotated[Size, Field(ge=_KIB)] = 64 * _KIB
    """Bytes of the header block of a response."""
    stderr_limit: Size = 1 * _MIB
    """Bytes of one guest's stderr that are kept."""

    @field_validator("environment")
    @classmethod
    def _variables(cls, value: dict[str, str]) -> dict[str, str]:
        for key, text in value.items():
            check_variable(key, text)
        return value


class ModuleEntry(Rules):
    """One ``[[module]]``: a route and the module behind it."""

    route: StrictStr
    module: StrictStr
    entrypoint: StrictStr = "_start"
    argv: StrictStr | None = None
    volumes: dict[StrictStr, Annotated[Volume, BeforeValidator(_volume)]] = Field(
        default_factory=dict
    )
    # For outbound HTTP and for bindles: accepted so that the original's files load.
    allowed_hosts: list[StrictStr] | None = None
    http_max_concurrency: Annotated[StrictInt, Field(ge=0)] | None = None
    bindle_server: StrictStr | None = None
    repository: StrictStr | None = None

    @field_validator("volumes")
    @classmethod
    def _volumes(cls, value: dict[str, Volume]) -> dict[str, Volume]:
        for guest_path, volume in value.items():
            if not guest_path or "\0" in guest_path + volume.path:
                raise ValueError('expected {"/guest/path" = "host/path"}, both not empty')
        return value


class Manifest(_Table):
    """The whole file."""

    default_host: StrictStr | None = None
    defaults: Rules = Field(default_factory=Rules)
    module: list[ModuleEntry] = Field(default_factory=list)

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
        case "bool_type":
            expected = "true or false"
        case "string_too_short":
            expected = "a text that is not empty"
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
