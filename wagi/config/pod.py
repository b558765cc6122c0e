"""Pod manifests of Krustlet's WAGI provider: a route map in annotations of a ``v1/Pod``.

What a cluster would provide and nobody does here is named in an error, never ignored; what only
tells a cluster where to run a pod has no meaning here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from pydantic import ValidationError

from wagi.config.entries import ModuleEntry, RouteMap
from wagi.config.text import read_text
from wagi.config.values import HostPort
from wagi.errors import ConfigurationError, Problem

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

_Place = tuple[str | int, ...]


def read_pods(path: Path) -> RouteMap:
    """Read a file of pod manifests, which are served together.

    Raises: ConfigurationError with every mistake.
    """
    found = _Found()
    for document in _documents(path, read_text(path)):
        _Pod(path, document, found).read()
    if not found.hosts and not found.problems:
        found.problems.append(Problem("expected a v1/Pod, found no document", path))
    if found.problems:
        raise ConfigurationError(sorted(found.problems, key=lambda problem: problem.line or 0))
    entries = found.entries
    address = next(iter(found.hosts))

    def place(message: str, index: int | None, key: str, exit_status: int) -> Problem:
        line = None if index is None else entries[index].line(key)
        name = "" if index is None else f"container {entries[index].name!r}: "
        return Problem(name + message, path, line, exit_status)

    def describe(index: int) -> str:
        return f"container {entries[index].name!r}, line {entries[index].line('route')}"

    return RouteMap(
        [entry.module for entry in entries],
        path.absolute().parent,
        place,
        describe,
        default_host=address,
        listen=HostPort.parse(address),
        warnings=tuple(found.warnings),
    )


class _Document:
    """A YAML document with the line of each of its nodes."""

    def __init__(self, value: Any, node: yaml.Node) -> None:
        self.value = value
        self._lines = dict(_lines(node, (), set()))

    def line(self, place: _Place) -> int:
        """The line of a node, or of its nearest ancestor that has one."""
        while place not in self._lines:
            place = place[:-1]
        return self._lines[place]


def _documents(path: Path, text: str) -> Iterator[_Document]:
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # check_node said so
            value = loader.construct_document(node)
            if value is not None:
                yield _Document(value, node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise ConfigurationError(Problem(f"not valid YAML: {error.problem}", path, line)) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(Problem(f"not valid YAML: {error}", path)) from None
    finally:
        loader.dispose()


def _lines(node: yaml.Node, place: _Place, seen: set[int]) -> Iterator[tuple[_Place, int]]:
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


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry with where its parts are: the container's, and those in the annotation."""

    name: str
    module: ModuleEntry
    document: _Document
    container: _Place

    def line(self, key: str) -> int:
        """The line that the value of a key of the entry came from."""
        places: dict[str, _Place] = {
            "module": (*self.container, "image"),
            "volumes": (*self.container, "volumeMounts"),
            "environment": (*self.container, "env"),
        }
        return self.document.line(places.get(key, ("metadata", "annotations", MODULES)))


class _Mistake(Exception):
    """A mistake in a document that leaves nothing to go on with."""

    def __init__(self, message: str, place: _Place) -> None:
        super().__init__(message)
        self.place = place


@dataclass(slots=True)
class _Found:
    """What all pods of a file have, and the line of each address that they want."""

    entries: list[_Entry] = field(default_factory=list)
    hosts: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


class _Pod:
    """Reads one pod, and adds what it has to what others have."""

    def __init__(self, path: Path, document: _Document, found: _Found) -> None:
        self._path = path
        self._document = document
        self._found = found

    def read(self) -> None:
        """Read the pod."""
        try:
            self._pod()
        except _Mistake as mistake:
            self._problem(str(mistake), mistake.place)

    def _problem(self, message: str, place: _Place) -> None:
        self._found.problems.append(Problem(message, self._path, self._document.line(place)))

    def _warn(self, message: str, place: _Place) -> None:
        self._found.warnings.append(Problem(message, self._path, self._document.line(place)))

    def _get(self, kind: type[Any], *place: str | int) -> Any:
        """The value at a place, or the kind's empty one. Raises: _Mistake for another kind."""
        value = self._document.value
        for at, key in enumerate(place):
            if isinstance(key, str) and not isinstance(value, dict):
                raise _Mistake(_expected(place[:at], dict, value), place[:at])
            value = value.get(key) if isinstance(key, str) else value[key]
            if value is None:
                return kind()
        if not isinstance(value, kind):
            raise _Mistake(_expected(place, kind, value), place)
        return value

    def _pod(self) -> None:
        value = self._document.value
        kind = (value.get("apiVersion"), value.get("kind")) if isinstance(value, dict) else None
        if kind != ("v1", "Pod"):
            found = f"{kind[0]}/{kind[1]}" if kind and all(kind) else "something else"
            raise _Mistake(f"expected a pod (apiVersion: v1, kind: Pod), found {found}", ("kind",))
        self._default_host()
        annotation = ("metadata", "annotations", MODULES)
        modules = self._modules(annotation)
        for key, why in _NEEDS_CLUSTER.items():
            if self._get(dict, "spec").get(key):
                self._problem(f"spec.{key}: {why}", ("spec", key))
        volumes = self._volumes()
        places: dict[str, _Place] = {}
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
            except _Mistake as mistake:
                self._problem(f"container {name!r}: {mistake}", mistake.place)

    def _default_host(self) -> None:
        place = ("metadata", "annotations", DEFAULT_HOST)
        text = self._get(str, *place) or _OUR_ADDRESS
        try:
            address = HostPort.parse(text)
            if address.port is None or not address.host:
                raise ValueError
        except ValueError:
            raise _Mistake(
                f"{DEFAULT_HOST}: expected ADDRESS:PORT, found {text!r}", place
            ) from None
        hosts = self._found.hosts
        hosts.setdefault(text, self._document.line(place))
        if len(hosts) > 1:
            first, line = next(iter(hosts.items()))
            self._problem(
                f"{DEFAULT_HOST}: {text} here and {first} in line {line}: the pods of a file are"
                " served together, on one address",
                place,
            )

    def _modules(self, place: _Place) -> dict[str, dict[str, Any]]:
        text = self._get(str, *place)
        if not text:
            raise _Mistake(f"metadata.annotations: {MODULES} is missing", place)
        try:
            modules = json.loads(text)
        except ValueError as error:
            raise _Mistake(f"{MODULES}: not valid JSON: {error}", place) from None
        if not isinstance(modules, dict):
            raise _Mistake(f"{MODULES}: expected a JSON object: container names to rules", place)
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
        self, name: str, rules: dict[str, Any], place: _Place, volumes: dict[str, str | None]
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
            raise _Mistake("image: expected REGISTRY/NAME:TAG", (*place, "image"))
        policy = self._get(str, *place, "imagePullPolicy")
        if policy and policy not in _PULL:
            raise _Mistake(
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
            item = error.errors()[0]
            key = ".".join(map(str, item["loc"]))
            raise _Mistake(f"{key}: {item['msg']}", place) from None
        self._found.entries.append(_Entry(name, entry, self._document, place))

    def _environment(self, container: _Place) -> dict[str, str]:
        variables: dict[str, str] = {}
        for index, item in enumerate(self._get(list, *container, "env")):
            place = (*container, "env", index)
            name = self._get(str, *place, "name")
            if isinstance(item, dict) and item.get("valueFrom"):
                raise _Mistake(
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
        self, container: _Place, volumes: dict[str, str | None]
    ) -> dict[str, dict[str, object]]:
        mounts: dict[str, dict[str, object]] = {}
        for index, item in enumerate(self._get(list, *container, "volumeMounts")):
            place = (*container, "volumeMounts", index)
            name, path = self._get(str, *place, "name"), self._get(str, *place, "mountPath")
            if name not in volumes:
                raise _Mistake(f"volumeMounts: there is no volume {name!r}", place)
            for key in item.keys() - {"name", "mountPath", "readOnly", "mountPropagation"}:
                self._problem(f"volumeMounts {name!r}: {key} is not supported", place)
            if folder := volumes[name]:
                mounts[path] = {"path": folder, "readonly": self._get(bool, *place, "readOnly")}
        return mounts


def _expected(place: _Place, kind: type[Any], value: object) -> str:
    names = {dict: "a mapping", list: "a list", str: "a text", bool: "true or false"}
    where = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place)
    return f"{where.lstrip('.') or 'the document'}: expected {names[kind]}, found {value!r:.80}"
