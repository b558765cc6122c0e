"""Pod manifests of Krustlet's WAGI provider: a route map in annotations of a ``v1/Pod``.

Features that only a cluster can provide are errors that name them; they are never ignored silently.
Fields that control where a cluster schedules the pod have no effect.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from pydantic import ValidationError

from wagi.config.text import read_text
from wagi.config.validation import KeyPath, explain_validation_error
from wagi.config.values import HostPort
from wagi.errors import ConfigurationError, Problem
from wagi.routemap.entries import Location, ModuleEntry, RouteMap
from wagi.routemap.lines import LineMap

MODULES = "alpha.wagi.krustlet.dev/modules"
DEFAULT_HOST = "alpha.wagi.krustlet.dev/default-host"
_OUR_ADDRESS = "127.0.0.1:3000"  # the provider's, without the annotation

_PULL = {"Always": "always", "IfNotPresent": "if-not-present", "Never": "never"}
_MODULE_KEYS = ("route", "entrypoint", "allowed_hosts", "pass_authorization")
_NEEDS_CLUSTER = {
    "initContainers": "containers that run before others are not supported: remove them",
    "ephemeralContainers": "they are not supported: remove them",
    "imagePullSecrets": "there is no cluster to ask: remove it, and log in with docker login",
}
_NEEDS_PROCESS = {
    "envFrom": "config maps and secrets need a cluster: write the values under env",
    "command": "a handler has no command: name the export in the annotation's entrypoint",
    "args": "a handler's arguments come from the request: remove them",
    "volumeDevices": "devices are not supported: remove them",
    "workingDir": "a handler has no working directory: remove it",
}


def read_pods(path: Path) -> RouteMap:
    """Read a file of pod manifests, which are served together.

    Raises:
        ConfigurationError: With every mistake in the file.
    """
    result = _Result()
    for document in _documents(path, read_text(path)):
        _PodReader(path, document, result).read()
    if not result.hosts and not result.problems:
        result.problems.append(Problem("expected a v1/Pod, found no document", path))
    if result.problems:
        raise ConfigurationError(sorted(result.problems, key=lambda problem: problem.line or 0))
    address = next(iter(result.hosts))
    return RouteMap(
        result.entries,
        path.absolute().parent,
        Location(path),
        default_host=address,
        listen=HostPort.parse(address),
        warnings=tuple(result.warnings),
    )


@dataclass(frozen=True, slots=True)
class _Document:
    """A YAML document with the lines of its nodes."""

    value: Any
    lines: LineMap


def _documents(path: Path, text: str) -> Iterator[_Document]:
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # check_node said so
            value = loader.construct_document(node)
            if value is not None:
                yield _Document(value, LineMap(dict(_lines(node, (), set()))))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise ConfigurationError(Problem(f"not valid YAML: {error.problem}", path, line)) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(Problem(f"not valid YAML: {error}", path)) from None
    finally:
        loader.dispose()


def _lines(node: yaml.Node, place: KeyPath, seen: set[int]) -> Iterator[tuple[KeyPath, int]]:
    yield place, node.start_mark.line + 1
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*place, str(key.value)), key.start_mark.line + 1
            for inner, line in _lines(value, (*place, str(key.value)), seen):
                if len(inner) > len(place) + 1:
                    yield inner, line
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _lines(item, (*place, index), seen)


class _ParseError(Exception):
    """A mistake that makes it impossible to read the rest of the pod or container.

    Attributes:
        place: Where it is in the document.
    """

    def __init__(self, message: str, place: KeyPath) -> None:
        super().__init__(message)
        self.place = place


@dataclass(slots=True)
class _Result:
    """What has been read of all pods of a file; ``hosts`` has the line of each address."""

    entries: list[ModuleEntry] = field(default_factory=list)
    hosts: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


class _PodReader:
    """Reads one pod, and adds what it has to what others have."""

    def __init__(self, path: Path, document: _Document, result: _Result) -> None:
        self._path = path
        self._document = document
        self._result = result

    def read(self) -> None:
        """Read the pod."""
        try:
            self._pod()
        except _ParseError as error:
            self._problem(str(error), error.place)

    def _problem(self, message: str, place: KeyPath) -> None:
        self._result.problems.append(Problem(message, self._path, self._document.lines.line(place)))

    def _warn(self, message: str, place: KeyPath) -> None:
        self._result.warnings.append(Problem(message, self._path, self._document.lines.line(place)))

    def _get(self, kind: type[Any], *place: str | int) -> Any:
        """The value at a place, or the kind's empty one. Raises: _ParseError for another kind."""
        value = self._document.value
        for at, key in enumerate(place):
            if isinstance(key, str) and not isinstance(value, dict):
                raise _ParseError(_expected(place[:at], dict, value), place[:at])
            value = value.get(key) if isinstance(key, str) else value[key]
            if value is None:
                return kind()
        if not isinstance(value, kind):
            raise _ParseError(_expected(place, kind, value), place)
        return value

    def _pod(self) -> None:
        value = self._document.value
        kind = (value.get("apiVersion"), value.get("kind")) if isinstance(value, dict) else None
        if kind != ("v1", "Pod"):
            found = f"{kind[0]}/{kind[1]}" if kind and all(kind) else "something else"
            raise _ParseError(
                f"expected a pod (apiVersion: v1, kind: Pod), found {found}", ("kind",)
            )
        self._default_host()
        annotation = ("metadata", "annotations", MODULES)
        modules = self._modules(annotation)
        for key, why in _NEEDS_CLUSTER.items():
            if self._get(dict, "spec").get(key):
                self._problem(f"spec.{key}: {why}", ("spec", key))
        volumes = self._volumes()
        places: dict[str, KeyPath] = {}
        for index in range(len(self._get(list, "spec", "containers"))):
            place = ("spec", "containers", index)
            name = self._get(str, *place, "name")
            if not name or name in places:
                self._problem(f"containers[{index}].name: expected a name of its own", place)
                continue
            places[name] = place
            if name not in modules:
                message = f"the container {name!r} has no entry in {MODULES}: it is not served"
                self._warn(message, place)
        for name, rules in modules.items():
            if name not in places:
                self._problem(f"{MODULES}: there is no container {name!r}", annotation)
                continue
            try:
                self._container(name, rules, places[name], volumes)
            except _ParseError as error:
                self._problem(f"container {name!r}: {error}", error.place)

    def _default_host(self) -> None:
        place = ("metadata", "annotations", DEFAULT_HOST)
        text = self._get(str, *place) or _OUR_ADDRESS
        try:
            address = HostPort.parse(text)
            if address.port is None or not address.host:
                raise ValueError
        except ValueError:
            raise _ParseError(
                f"{DEFAULT_HOST}: expected ADDRESS:PORT, found {text!r}", place
            ) from None
        hosts = self._result.hosts
        hosts.setdefault(text, self._document.lines.line(place))
        if len(hosts) > 1:
            first, line = next(iter(hosts.items()))
            self._problem(
                f"{DEFAULT_HOST}: {text} here and {first} in line {line}: the pods of a file are"
                " served together, on one address",
                place,
            )

    def _modules(self, place: KeyPath) -> dict[str, dict[str, Any]]:
        text = self._get(str, *place)
        if not text:
            raise _ParseError(f"metadata.annotations: {MODULES} is missing", place)
        try:
            modules = json.loads(text)
        except ValueError as error:
            raise _ParseError(f"{MODULES}: not valid JSON: {error}", place) from None
        if not isinstance(modules, dict):
            raise _ParseError(f"{MODULES}: expected a JSON object: container names to rules", place)
        good: dict[str, dict[str, Any]] = {}
        for name, rules in modules.items():
            if not isinstance(rules, dict) or not isinstance(rules.get("route"), str):
                self._problem(f'{MODULES}: {name}: expected {{"route": "/..."}}', place)
                continue
            for key in rules.keys() - _MODULE_KEYS:
                known = ", ".join(_MODULE_KEYS)
                self._problem(f"{MODULES}: {name}: unknown key {key!r}: known keys: {known}", place)
            good[name] = {key: value for key, value in rules.items() if key in _MODULE_KEYS}
        return good

    def _container(
        self, name: str, rules: dict[str, Any], place: KeyPath, volumes: dict[str, str | None]
    ) -> None:
        container = self._get(dict, *place)
        for key, why in _NEEDS_PROCESS.items():
            if container.get(key):
                self._problem(f"container {name!r}: {key}: {why}", (*place, key))
        if container.get("resources"):
            message = f"container {name!r}: resources are not honoured: see memory_limit"
            self._warn(message, (*place, "resources"))
        image = self._get(str, *place, "image")
        if not image:
            raise _ParseError("image: expected REGISTRY/NAME:TAG", (*place, "image"))
        policy = self._get(str, *place, "imagePullPolicy")
        if policy and policy not in _PULL:
            raise _ParseError(
                f"imagePullPolicy: expected {', '.join(_PULL)}, found {policy!r}",
                (*place, "imagePullPolicy"),
            )
        # Kubernetes' default: a tag that says "the newest one" is resolved again.
        tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
        fixed = "@" in image or tag not in ("", "latest")
        policy = policy or ("IfNotPresent" if fixed else "Always")
        try:
            entry = ModuleEntry(
                **rules,
                module=f"oci:{image}",
                pull=cast(Literal["always", "if-not-present", "never"], _PULL[policy]),
                environment=self._environment(place),
                volumes=self._mounts(place, volumes),
            )
        except ValidationError as error:
            first, *_ = explain_validation_error(error, ModuleEntry)
            raise _ParseError(first.message, place) from None
        places = {
            "module": (*place, "image"),
            "volumes": (*place, "volumeMounts"),
            "environment": (*place, "env"),
        }
        label = f"container {name!r}"
        lines = self._document.lines
        self._result.entries.append(
            entry.located(
                Location(self._path, lines.line(("metadata", "annotations", MODULES)), label),
                {key: Location(self._path, lines.line(at), label) for key, at in places.items()},
            )
        )

    def _environment(self, container: KeyPath) -> dict[str, str]:
        variables: dict[str, str] = {}
        for index, item in enumerate(self._get(list, *container, "env")):
            place = (*container, "env", index)
            name = self._get(str, *place, "name")
            if isinstance(item, dict) and item.get("valueFrom"):
                raise _ParseError(
                    f"env {name!r}: valueFrom needs a cluster: write the value itself", place
                )
            variables[name] = self._get(str, *place, "value")
        return variables

    def _volumes(self) -> dict[str, str | None]:
        """The host's folders by the names of their volumes; None for one of another kind."""
        folders: dict[str, str | None] = {}
        for index, item in enumerate(self._get(list, "spec", "volumes")):
            place = ("spec", "volumes", index)
            name = self._get(str, *place, "name")
            folders[name] = self._get(str, *place, "hostPath", "path") or None
            if folders[name] is None:
                kinds = ", ".join(key for key in item if key != "name") or "nothing"
                self._problem(
                    f"the volume {name!r} is of a kind that needs a cluster: expected hostPath with"
                    f" a path, found {kinds}",
                    place,
                )
        return folders

    def _mounts(
        self, container: KeyPath, volumes: dict[str, str | None]
    ) -> dict[str, dict[str, object]]:
        mounts: dict[str, dict[str, object]] = {}
        for index, item in enumerate(self._get(list, *container, "volumeMounts")):
            place = (*container, "volumeMounts", index)
            name, path = self._get(str, *place, "name"), self._get(str, *place, "mountPath")
            if name not in volumes:
                raise _ParseError(f"volumeMounts: there is no volume {name!r}", place)
            for key in item.keys() - {"name", "mountPath", "readOnly", "mountPropagation"}:
                self._problem(f"volumeMounts {name!r}: {key} is not supported", place)
            if folder := volumes[name]:
                mounts[path] = {"path": folder, "readonly": self._get(bool, *place, "readOnly")}
        return mounts


def _expected(place: KeyPath, kind: type[Any], value: object) -> str:
    names = {dict: "a mapping", list: "a list", str: "a text", bool: "true or false"}
    where = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place)
    return f"{where.lstrip('.') or 'the document'}: expected {names[kind]}, found {value!r:.80}"
