"""The tables of a spin.toml, in versions 1 and 2 of Spin's manifest.

Keys whose features do not exist here are read without their details: ``spin`` reports them if an
application uses them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictStr,
    Tag,
)

from wagi.config.values import check_variable
from wagi.routemap.entries import CommandText, LimitKeys, NonEmptyText, Table
from wagi.sources.file_mounts import FileMount, normalize
from wagi.sources.globs import Glob, is_glob

INLINE = "inline"
"""What the path of a value in an inline component has after the key ``component``."""
_REGISTRY = (
    "packages of registries are not supported: download the module, and write its path, or a url"
    " with its digest"
)


def _check_digest(value: str) -> str:
    digits = value.removeprefix("sha256:")
    if digits == value or len(digits) != 64 or digits.strip("0123456789abcdef"):
        raise ValueError(f"expected sha256: and 64 lowercase hex digits, found {value!r}")
    return value


def _check_pattern(value: str) -> str:
    Glob.parse(normalize(value), crosses_slash=True)
    return value


def _check_inside(value: str) -> str:
    normalize(value)
    return value


def _check_url(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError(f"expected an http: or https: URL, found {value!r}")
    return value


class Source(Table):
    """Where the module of a component is: a path, or a URL with its digest."""

    UNSUPPORTED_KEYS: ClassVar[Mapping[str, str]] = {
        "registry": _REGISTRY,
        "package": _REGISTRY,
        "version": _REGISTRY,
        "reference": "bindles are not supported in a spin.toml: serve them with `wagi serve -b`",
        "parcel": "bindles are not supported in a spin.toml: serve them with `wagi serve -b`",
    }

    path: NonEmptyText | None = None
    url: Annotated[NonEmptyText, AfterValidator(_check_url)] | None = None
    digest: Annotated[StrictStr, AfterValidator(_check_digest)] | None = None


def _source(value: object) -> object:
    if isinstance(value, str):
        return {"path": value}
    unknown = isinstance(value, dict) and (value.keys() - Source.model_fields.keys())
    if isinstance(value, dict) and not unknown and not {"url", "digest"} <= value.keys():
        raise ValueError("expected a path, or a table with url and digest")
    return value


class File(Table):
    """Files that the guests of a component see."""

    source: NonEmptyText
    destination: NonEmptyText | None = None

    @property
    def mount(self) -> FileMount:
        """What is selected, and where guests see it."""
        return FileMount(self.source, self.destination)


def _file(value: object) -> object:
    if isinstance(value, str):
        _check_file_pattern(value)
        return {"source": value}
    if isinstance(value, dict) and "source" in value and "destination" not in value:
        raise ValueError("expected a path or pattern, or a table with source and destination")
    return value


def _check_file_pattern(value: str) -> None:
    if normalize(value) == "":
        raise ValueError(
            f"expected a path or pattern, found {value!r}: for all files of the directory, write"
            ' "**/*", or a table with source and destination'
        )
    if is_glob(value):
        Glob.parse(normalize(value))


def _check_file(value: File) -> File:
    normalize(value.source)
    return value


def _check_environment(value: dict[str, str]) -> dict[str, str]:
    for key, text in value.items():
        check_variable(key, text)
    return value


class Build(Table):
    """How a component is built."""

    command: StrictStr | list[StrictStr]
    workdir: Annotated[NonEmptyText, AfterValidator(_check_inside)] | None = None
    watch: list[Annotated[NonEmptyText, AfterValidator(_check_pattern)]] = Field(
        default_factory=list
    )


class ComponentTools(BaseModel):
    """Tables of other programs, of which wagi reads its own: the limits of a component."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    wagi: LimitKeys = Field(default_factory=LimitKeys)


class Component(Table):
    """``[component.ID]``, or a table in a trigger."""

    source: Annotated[Source, BeforeValidator(_source)]
    description: StrictStr = ""
    environment: Annotated[dict[StrictStr, StrictStr], AfterValidator(_check_environment)] = Field(
        default_factory=dict
    )
    files: list[Annotated[File, BeforeValidator(_file), AfterValidator(_check_file)]] = Field(
        default_factory=list
    )
    exclude_files: list[Annotated[NonEmptyText, AfterValidator(_check_pattern)]] = Field(
        default_factory=list
    )
    allowed_outbound_hosts: list[StrictStr] = Field(default_factory=list)
    allowed_http_hosts: list[StrictStr] = Field(default_factory=list)
    build: Build | None = None
    tool: ComponentTools = Field(default_factory=ComponentTools)
    targets: Any = None
    profile: Any = None
    variables: Any = None
    key_value_stores: Any = None
    sqlite_databases: Any = None
    ai_models: Any = None
    dependencies: Any = None
    dependencies_inherit_configuration: Any = None


class Executor(Table):
    """How a component is run."""

    type: Literal["wagi", "http", "spin"]
    entrypoint: StrictStr = "_start"
    argv: CommandText | None = None


def _route(value: object) -> object:
    if isinstance(value, str):
        return value
    if value == {"private": True}:
        return None
    raise ValueError("expected a path, or { private = true }")


class Trigger(Table):
    """The part of a trigger that both versions have.

    Attributes:
        route: The path; None for a private component, which only other components can call.
        executor: Spin's default is its own executor.
    """

    route: Annotated[StrictStr | None, BeforeValidator(_route)]
    executor: Executor = Executor(type="http")


def _reference_kind(value: object) -> str:
    return INLINE if isinstance(value, dict | Component) else "id"


class HttpTrigger(Trigger):
    """``[[trigger.http]]`` of version 2."""

    id: StrictStr = ""
    component: Annotated[
        Annotated[StrictStr, Tag("id")] | Annotated[Component, Tag(INLINE)],
        Discriminator(_reference_kind),
    ] = ""
    static_response: Any = None
    components: Any = None
    dependencies: Any = None


def _check_is_array(value: object) -> object:
    if isinstance(value, dict):
        raise ValueError("expected [[trigger.http]] with two brackets, as there can be several")
    return value


class Triggers(BaseModel):
    """``trigger`` of version 2; triggers of other types are in ``model_extra``."""

    model_config = ConfigDict(extra="allow", frozen=True)

    http: Annotated[list[HttpTrigger], BeforeValidator(_check_is_array)] = Field(
        default_factory=list
    )


class HttpTriggerDefaults(Table):
    """What all http triggers have in common."""

    base: StrictStr = "/"


class ApplicationTriggers(BaseModel):
    """``[application.trigger]``: options of the types of triggers."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    http: HttpTriggerDefaults = Field(default_factory=HttpTriggerDefaults)


class Application(Table):
    """``[application]`` of version 2."""

    name: StrictStr
    version: StrictStr = ""
    description: StrictStr = ""
    authors: list[StrictStr] = Field(default_factory=list)
    targets: Any = None
    trigger: ApplicationTriggers = Field(default_factory=ApplicationTriggers)
    tool: ComponentTools = Field(default_factory=ComponentTools)


_VERSION = Field(validation_alias=AliasChoices("spin_manifest_version", "spin_version"))


class ManifestV2(Table):
    """A whole file of version 2."""

    spin_manifest_version: Annotated[int, _VERSION]
    application: Application
    variables: Any = None
    trigger: Triggers = Field(default_factory=Triggers)
    component: dict[str, Component] = Field(default_factory=dict)


class ComponentV1(Component):
    """``[[component]]`` of version 1."""

    id: StrictStr
    trigger: Trigger
    config: Any = None


class ApplicationTriggerV1(HttpTriggerDefaults):
    """``trigger`` of version 1: the type of all triggers."""

    type: StrictStr


class ManifestV1(Table):
    """A whole file of version 1."""

    spin_manifest_version: Annotated[str, _VERSION]
    name: StrictStr
    version: StrictStr = ""
    description: StrictStr = ""
    authors: list[StrictStr] = Field(default_factory=list)
    trigger: ApplicationTriggerV1
    variables: Any = None
    component: list[ComponentV1] = Field(default_factory=list)
