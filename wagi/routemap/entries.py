"""The entries of a route map, in whatever format they are written.

The keys of limits are not listed here: they derive from ``wagi.limits.Limits``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    StrictBool,
    StrictInt,
    StrictStr,
    create_model,
    field_validator,
)

from wagi.cgi.spin import SpinRoute
from wagi.config.values import HostPort, check_variable, parse_size
from wagi.errors import Problem
from wagi.limits import LimitField, Limits, Unit, limit_fields
from wagi.routemap.include import Include
from wagi.routemap.location import Location
from wagi.sources.file_mounts import FileMounts
from wagi.sources.source_tree import SourceTree


def _check_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("a path, argument or command must not contain a NUL byte")
    return value


def _check_not_empty(value: object) -> object:
    if value == "":
        raise ValueError("expected a non-empty string")
    return value


CommandText = Annotated[StrictStr, AfterValidator(_check_nul)]
"""A string that can be passed to the system as a path, an argument or a command."""
NonEmptyText = Annotated[
    StrictStr,
    AfterValidator(_check_nul),
    BeforeValidator(
        _check_not_empty, json_schema_input_type=Annotated[StrictStr, Field(min_length=1)]
    ),
]


def _check_sha256(value: object) -> object:
    if isinstance(value, str) and (len(value) != 64 or value.strip("0123456789abcdef")):
        raise ValueError("expected 64 lowercase hex digits")
    return value


class Table(BaseModel):
    """A table in which unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Entry(Table):
    """One ``[[module]]``: a route and what is behind it."""

    route: StrictStr = Field(
        description="The path that this entry answers; with `/...` at its end, all paths below it,"
        " too."
    )

    _location: Location = PrivateAttr(default=Location())
    _key_locations: Mapping[str, Location] = PrivateAttr(default_factory=dict)
    _key_names: Mapping[str, str] = PrivateAttr(default_factory=dict)

    def located(
        self,
        location: Location,
        key_locations: Mapping[str, Location] | None = None,
        key_names: Mapping[str, str] | None = None,
    ) -> Self:
        """Return a copy with the place where it is written.

        Args:
            location: Where the entry is.
            key_locations: Where those of its keys are that have a place of their own.
            key_names: The names of keys that have another name in its format.
        """
        entry = self.model_copy()
        entry._location = location
        entry._key_locations = key_locations or {}
        entry._key_names = key_names or {}
        return entry

    def location(self, key: str = "") -> Location:
        """Where a key is written, or else the whole entry."""
        return self._key_locations.get(key, self._location)

    def key_name(self, key: str) -> str:
        """The name of a key in the format of the entry."""
        return self._key_names.get(key, key)


def _check_seconds(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("expected seconds as a number")
    return value


def _none_for_zero(value: float) -> float | None:
    """Convert the 0 of a configuration file to the None of ``Limits``: no limit."""
    return value or None


def _key_of(limit: LimitField) -> tuple[Any, Any]:
    """Declare the key of a limit for pydantic: its type and its field."""
    minimum = Field(ge=limit.minimum)
    annotation: Any
    match limit.unit:
        case Unit.SECONDS:
            input_type: Any = Annotated[float, minimum]
            check = BeforeValidator(_check_seconds, json_schema_input_type=input_type)
            annotation = Annotated[float, minimum, Field(allow_inf_nan=False), check]
        case Unit.BYTES:
            input_type = Annotated[int, minimum] | str
            check = BeforeValidator(parse_size, json_schema_input_type=input_type)
            annotation = Annotated[int, minimum, check]
        case Unit.COUNT:
            annotation = Annotated[StrictInt, minimum]
    if limit.zero_disables:
        annotation = Annotated[annotation, AfterValidator(_none_for_zero)]
    return annotation, Field(default=limit.default, description=limit.description)


if TYPE_CHECKING:

    class LimitKeys(Table):
        """A table with a key for each field of ``Limits``."""

else:
    LimitKeys = create_model(
        "LimitKeys", __base__=Table, **{limit.name: _key_of(limit) for limit in limit_fields()}
    )


class Defaults(LimitKeys):
    """The keys of ``[defaults]``, each of which an entry may override."""

    environment: dict[StrictStr, StrictStr] = Field(
        default_factory=dict,
        description="Environment variables of the handler. They cannot override CGI variables.",
    )

    @property
    def limits(self) -> Limits:
        """The values of the limits."""
        return Limits(**{limit.name: getattr(self, limit.name) for limit in limit_fields()})

    @field_validator("environment")
    @classmethod
    def _check_environment(cls, value: dict[str, str]) -> dict[str, str]:
        for key, text in value.items():
            check_variable(key, text)
        return value


class Volume(Table):
    """A directory of the host that a guest can see."""

    path: NonEmptyText = Field(
        description="The directory, relative to modules.toml first, then to the working directory."
    )
    readonly: StrictBool = Field(
        default=False, description="Whether the guest may only read the directory."
    )


def _volume(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


def _check_pattern(value: str) -> str:
    SourceTree.parse(value, Path())
    return value


def _check_target(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError(f"expected a path such as /hello, found {value!r}")
    return value


class SnapshotOptions(Table):
    """How the snapshot of a module is made."""

    packages: list[NonEmptyText] = Field(
        default_factory=list,
        description="Directories of the guest that an interpreter searches for modules, in"
        " addition to that of the script.",
    )
    request: Annotated[CommandText, AfterValidator(_check_target)] | None = Field(
        default=None,
        description="Path and query of a request that a script answers before the snapshot is made,"
        " to initialize everything that it uses.",
    )
    checkpoint: StrictStr = Field(
        default="",
        description="Host call at which a compiled program is saved; the first one that depends on"
        " the request by default.",
    )


def _snapshot(value: object) -> object:
    if isinstance(value, bool):
        return {} if value else None
    if value is not None and not isinstance(value, dict | SnapshotOptions):
        raise ValueError(f"expected true, false or a table, found {value!r}")
    return value


class ModuleEntry(Defaults, Entry):
    """One ``[[module]]``: a route and the module behind it."""

    UNSUPPORTED_KEYS: ClassVar[Mapping[str, str]] = {
        "host": "routes do not depend on the host name: remove it, and for virtual hosts run a"
        " wagi for each behind a server such as nginx, which selects one by its server_name",
        **dict.fromkeys(
            ("index", "fallback", "not_found", "cache_control"),
            "it applies to static files: write `static` in place of `module`",
        ),
    }

    module: NonEmptyText = Field(
        description="A path to a .wasm or .wat file, or a reference: `file:`, `oci:`, `bindle:`,"
        " `https:`."
    )
    entrypoint: StrictStr = Field(default="_start", description="The exported function to call.")
    argv: CommandText | None = Field(
        default=None,
        description="Template of the arguments: `${SCRIPT_NAME}` is the path of the request,"
        " `${ARGS}` its query.",
    )
    volumes: dict[
        StrictStr,
        Annotated[Volume, BeforeValidator(_volume, json_schema_input_type=StrictStr | Volume)],
    ] = Field(
        default_factory=dict,
        description="Directories of the host, by the paths under which the guest sees them.",
    )
    pass_authorization: StrictBool | None = Field(
        default=None,
        description="Whether the handler gets the Authorization header: a CGI program, as"
        " HTTP_AUTHORIZATION, only if this is true; a handler of wasi:http unless it is false.",
    )
    allowed_hosts: list[StrictStr] = Field(
        default_factory=list,
        description="Hosts that the handler may call by outbound HTTP: URLs, host names,"
        " addresses, networks.",
    )
    sha256: (
        Annotated[
            StrictStr,
            BeforeValidator(
                _check_sha256,
                json_schema_input_type=Annotated[str, Field(pattern="^[0-9a-f]{64}$")],
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="Expected SHA-256 of the module as hex digits; required for downloads.",
    )
    pull: Literal["always", "if-not-present", "never"] = Field(
        default="always", description="When the tag of an image is resolved."
    )
    build: NonEmptyText | None = Field(
        default=None,
        description="Command that builds the module; `wagi build` and `--watch` run it in the"
        " directory of modules.toml.",
    )
    watch: list[Annotated[StrictStr, AfterValidator(_check_pattern)]] = Field(
        default_factory=list,
        description="Files, directories and glob patterns that the module is built from: `--watch`"
        " builds it when they change; `src` by default.",
    )
    snapshot: Annotated[
        SnapshotOptions | None,
        BeforeValidator(_snapshot, json_schema_input_type=StrictBool | SnapshotOptions),
    ] = Field(
        default=None,
        description="Whether each request starts where the module has been started already, before"
        " it looked at a request; a table has options.",
    )
    bindle_server: StrictStr | None = Field(
        default=None,
        description="URL or directory of the Bindle server that has the module;"
        " `--bindle-url` or `--bindle-path` by default.",
    )
    repository: StrictStr | None = Field(
        default=None, description="Reserved by the original Wagi; ignored."
    )

    _spin_route: SpinRoute | None = PrivateAttr(default=None)
    _files: FileMounts = PrivateAttr(default=FileMounts())

    def with_component(self, route: SpinRoute, files: FileMounts) -> Self:
        """Return a copy that serves a component of Spin.

        Args:
            route: The route of the component.
            files: The files that its guests see.
        """
        entry = self.model_copy()
        entry._spin_route = route
        entry._files = files
        return entry

    @property
    def spin_route(self) -> SpinRoute | None:
        """The route of a component of Spin; None for any other entry."""
        return self._spin_route

    @property
    def files(self) -> FileMounts:
        """The files of the project that guests see, in addition to volumes."""
        return self._files

    @field_validator("volumes")
    @classmethod
    def _check_volumes(cls, value: dict[str, Volume]) -> dict[str, Volume]:
        for guest_path in value:
            if not guest_path or "\0" in guest_path:
                raise ValueError(f"the path of a directory in the guest cannot be {guest_path!r}")
        return value


@dataclass(frozen=True, slots=True)
class RouteMap:
    """What is to be served, as it is written.

    Attributes:
        entries: The entries, in the order in which their routes are tried.
        folder: The project: the directory of the map.
        location: Where the whole map is written.
        default_host: The host and port of requests whose Host header lacks them, if the map
            names one.
        listen: Where to listen, if the map names an address.
        warnings: What may be wrong with the map.
        files: The files that were read, in order.
        includes: Patterns of further files.
    """

    entries: Sequence[Entry]
    folder: Path
    location: Location
    default_host: str | None = None
    listen: HostPort | None = None
    warnings: tuple[Problem, ...] = ()
    files: tuple[Path, ...] = ()
    includes: tuple[Include, ...] = ()

    @property
    def modules(self) -> list[ModuleEntry]:
        """The entries that have a module."""
        return [entry for entry in self.entries if isinstance(entry, ModuleEntry)]

    def position(self, problem: Problem) -> tuple[int, bool, int]:
        """Return a key that sorts problems by file and line, those without a line last."""
        files = (None, *self.files)
        order = files.index(problem.file) if problem.file in files else len(files)
        return order, problem.line is None, problem.line or 0

    def folder_of(self, entry: Entry) -> Path:
        """Return where the relative paths of an entry start: the directory of its file."""
        file = entry.location().file
        return self.folder if file is None else file.absolute().parent
