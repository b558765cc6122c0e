"""Entries of a route map, wherever they are written (docs/contract.md, "Route map")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    field_validator,
)

from wagi.config.values import HostPort, Size, check_variable
from wagi.errors import Problem

_KIB, _MIB, _GIB = 1024, 1024**2, 1024**3


def _seconds(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("expected seconds as a number, 0 for no limit")
    return value


Seconds = Annotated[
    float,
    Field(ge=0, allow_inf_nan=False),
    BeforeValidator(_seconds, json_schema_input_type=Annotated[float, Field(ge=0)]),
]


def _without_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("a NUL byte can be in no path, argument or command")
    return value


Text = Annotated[StrictStr, AfterValidator(_without_nul)]
"""A text that a system can be given as a path, an argument or a command."""
NonEmptyText = Annotated[StrictStr, Field(min_length=1), AfterValidator(_without_nul)]


class Table(BaseModel):
    """A table whose keys are all known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Volume(Table):
    """A folder of the host for a guest: ``path`` relative to modules.toml."""

    path: NonEmptyText
    """The folder, relative to modules.toml first, then to the working directory."""
    readonly: StrictBool = False
    """Whether the guest can only read it."""


def _volume(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


class Rules(Table):
    """The keys that an entry may set and that ``[defaults]`` sets for all of them.

    The defaults are explained in docs/security.md. A limit of 0 means none.
    """

    environment: dict[StrictStr, StrictStr] = Field(default_factory=dict)
    """Variables of the handler; none can replace a CGI variable."""
    timeout: Seconds = 30.0
    """Seconds from the start of a guest to the end of its response."""
    cpu_timeout: Seconds = 10.0
    """Seconds of CPU time of a guest."""
    memory_limit: Size = 256 * _MIB
    """Bytes of linear memory; tables get an eighth of it besides."""
    max_concurrency: Annotated[StrictInt, Field(ge=1)] | None = None
    """Guests at a time, in all workers together."""
    max_queue: Annotated[StrictInt, Field(ge=0)] = 1000
    """Requests that wait for a slot or for memory; one more is answered 503."""
    queue_timeout: Seconds = 10.0
    """Seconds that a request waits for a slot and for memory."""
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
    http_max_concurrency: Annotated[StrictInt, Field(ge=0)] = 8
    """Responses of outbound HTTP that one guest holds open."""
    http_timeout: Seconds = 30.0
    """Seconds of one request of outbound HTTP, from its start to the end of its response."""
    http_response_limit: Size = 16 * _MIB
    """Bytes of the body of a response of outbound HTTP."""

    @field_validator("environment")
    @classmethod
    def _variables(cls, value: dict[str, str]) -> dict[str, str]:
        for key, text in value.items():
            check_variable(key, text)
        return value


class ModuleEntry(Rules):
    """One ``[[module]]``: a route and the module behind it."""

    route: StrictStr
    """The path that is answered; with /... at its end, all paths below it, too."""
    module: NonEmptyText
    """A path to .wasm or .wat, or a reference: file:, oci:, bindle:, https:."""
    entrypoint: StrictStr = "_start"
    """The exported function to call."""
    argv: Text | None = None
    """A template of the arguments: ${SCRIPT_NAME} is the path of the request, ${ARGS} its query."""
    volumes: dict[
        StrictStr,
        Annotated[Volume, BeforeValidator(_volume, json_schema_input_type=StrictStr | Volume)],
    ] = Field(default_factory=dict)
    """Folders of the host by the paths at which the guest sees them."""
    pass_authorization: StrictBool = False
    """Whether the handler gets the Authorization header, as HTTP_AUTHORIZATION."""
    allowed_hosts: list[StrictStr] = Field(default_factory=list)
    """Whom the handler may ask by outbound HTTP: URLs, hosts, addresses, networks."""
    sha256: Annotated[StrictStr, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """What the module must be; required for downloads."""
    pull: Literal["always", "if-not-present", "never"] = "always"
    """When the tag of an image is resolved."""
    build: NonEmptyText | None = None
    """The command that makes the module, run in the folder of modules.toml with --watch."""
    watch: list[StrictStr] = Field(default_factory=list)
    """Files and folders whose change is reason to build: ``src`` unless given."""
    bindle_server: StrictStr | None = None
    """URL or directory of the bindle that the module is in."""
    repository: StrictStr | None = None
    """Reserved by the original; ignored."""

    @field_validator("volumes")
    @classmethod
    def _volumes(cls, value: dict[str, Volume]) -> dict[str, Volume]:
        for guest_path in value:
            if not guest_path or "\0" in guest_path:
                raise ValueError('expected {"/guest/path" = "host/path"}, both not empty')
        return value


@dataclass(frozen=True, slots=True)
class RouteMap:
    """What is to be served, as somebody wrote it.

    Attributes: ``folder`` where relative paths start; ``place(message, index, key, exit_status)``
    makes a problem of the entry ``index`` at one of its keys, or of the whole; ``describe(index)``
    says where an entry is; ``default_host`` and ``listen`` if the map names them.
    """

    entries: Sequence[ModuleEntry]
    folder: Path
    place: Callable[[str, int | None, str, int], Problem]
    describe: Callable[[int], str]
    default_host: str | None = None
    listen: HostPort | None = None
    warnings: tuple[Problem, ...] = ()
