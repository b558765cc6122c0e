"""The fields of pod manifests that matter to a gateway, as pydantic models.

A field of the Kubernetes API that is not declared here controls where and how a cluster runs the
pod, and is ignored. A field that would change what a handler sees is declared as unsupported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    model_validator,
)

from wagi.config.values import HostPort
from wagi.routemap.entries import NonEmptyText

MODULES = "alpha.wagi.krustlet.dev/modules"
DEFAULT_HOST = "alpha.wagi.krustlet.dev/default-host"
_PROVIDER_ADDRESS = "127.0.0.1:3000"  # the default of Krustlet's WAGI provider


class _Fields(BaseModel):
    """A mapping. As in Kubernetes, a null value is the same as an absent one."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _normalize(cls, value: object) -> object:
        """Remove nulls, and add mappings that are absent: the message names what they lack."""
        if not isinstance(value, dict):
            return value
        present = {key: item for key, item in value.items() if item is not None}
        for name, field in cls.model_fields.items():
            kind = field.annotation
            if field.is_required() and isinstance(kind, type) and issubclass(kind, _Fields):
                present.setdefault(name, {})
        return present


def _unsupported(reason: str) -> BeforeValidator:
    """Require that a field is absent or empty."""

    def check(value: object) -> None:
        if value:
            raise ValueError(reason)

    return BeforeValidator(check)


def _check_image(value: str) -> str:
    if not value:
        raise ValueError("expected REGISTRY/NAME:TAG")
    return value


def _parse_json(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON: {error}") from None


def _check_address(value: str) -> str:
    try:
        address = HostPort.parse(value)
    except ValueError:
        address = HostPort("", None)
    if address.port is None or not address.host:
        raise ValueError("expected ADDRESS:PORT")
    return value


class ModuleOptions(BaseModel):
    """The entry of a container in the annotation of modules."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    route: StrictStr
    entrypoint: StrictStr = "_start"
    allowed_hosts: list[StrictStr] = []
    pass_authorization: StrictBool = False


class Annotations(_Fields):
    """The annotations of Krustlet's WAGI provider."""

    modules: Annotated[dict[StrictStr, ModuleOptions], BeforeValidator(_parse_json)] = Field(
        alias=MODULES
    )
    default_host: Annotated[StrictStr, AfterValidator(_check_address)] = Field(
        alias=DEFAULT_HOST, default=_PROVIDER_ADDRESS
    )


class Metadata(_Fields):
    """``metadata`` of a pod."""

    annotations: Annotations


class Variable(_Fields):
    """An environment variable of a container."""

    name: StrictStr
    value: StrictStr = ""
    valueFrom: Annotated[None, _unsupported("it needs a cluster: write the value itself")] = None


class Mount(_Fields):
    """A volume in a container."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    UNSUPPORTED_KEYS: ClassVar[Mapping[str, str]] = {
        "subPath": "define a volume for the directory",
        "subPathExpr": "define a volume for the directory",
        "recursiveReadOnly": "use readOnly",
    }

    name: NonEmptyText
    mountPath: StrictStr
    readOnly: StrictBool = False
    mountPropagation: object = None


class Container(_Fields):
    """A container: a handler."""

    name: NonEmptyText
    image: Annotated[StrictStr, AfterValidator(_check_image)] = Field("", validate_default=True)
    imagePullPolicy: Annotated[
        Literal["Always", "IfNotPresent", "Never"] | None,
        BeforeValidator(lambda text: text or None),
    ] = None
    env: list[Variable] = []
    volumeMounts: list[Mount] = []
    resources: object = None
    envFrom: Annotated[
        None, _unsupported("config maps and secrets need a cluster: write the values under env")
    ] = None
    command: Annotated[
        None,
        _unsupported("a handler has no command: name the export in the annotation's entrypoint"),
    ] = None
    args: Annotated[
        None, _unsupported("a handler's arguments come from the request: remove them")
    ] = None
    volumeDevices: Annotated[None, _unsupported("devices are not supported: remove them")] = None
    workingDir: Annotated[None, _unsupported("a handler has no working directory: remove it")] = (
        None
    )


class HostPath(_Fields):
    """A directory of the host."""

    path: StrictStr = ""


class Volume(_Fields):
    """A volume of a pod."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: NonEmptyText
    hostPath: HostPath = HostPath()

    @model_validator(mode="after")
    def _check_kind(self) -> Volume:
        if not self.hostPath.path:
            found = ", ".join(sorted(self.model_fields_set - {"name"})) or "nothing"
            raise ValueError(
                f"expected hostPath with a path, found {found}: other volumes need a cluster"
            )
        return self


class Spec(_Fields):
    """``spec`` of a pod."""

    containers: list[Container] = []
    volumes: list[Volume] = []
    initContainers: Annotated[
        None, _unsupported("containers that run before others are not supported: remove them")
    ] = None
    ephemeralContainers: Annotated[None, _unsupported("they are not supported: remove them")] = None
    imagePullSecrets: Annotated[
        None, _unsupported("they need a cluster: remove them, and log in with docker login")
    ] = None


class Pod(_Fields):
    """A ``v1/Pod``."""

    metadata: Metadata
    spec: Spec
