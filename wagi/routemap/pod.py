"""Pod manifests of Krustlet's WAGI provider: a route map in annotations of a ``v1/Pod``.

Features that only a cluster can provide are errors that name them; they are never ignored silently.
Fields that control where a cluster schedules the pod have no effect.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from wagi.config.validation import KeyPath, explain_validation_error
from wagi.config.values import HostPort
from wagi.errors import ConfigurationError, Problem
from wagi.routemap.entries import ModuleEntry, RouteMap
from wagi.routemap.lines import LineMap
from wagi.routemap.location import Location
from wagi.routemap.pod_injection import LAYOUT, LAYOUT_VERSION, layout_of, resolve
from wagi.routemap.pod_manifest import DEFAULT_HOST, MODULES, Container, ModuleOptions, Pod, Volume
from wagi.routemap.yaml_documents import Document, read_documents

_ANNOTATIONS: KeyPath = ("metadata", "annotations")
_CONTAINERS: KeyPath = ("spec", "containers")
_ITEMS = {"containers": "container", "volumes": "volume"}
"""What messages call an item of a list, if that is not the key of the list."""

_FIELDS_OF_KEYS = {"module": "image", "volumes": "volumeMounts", "environment": "env"}
"""The field of a container for each key of an entry that is derived from it."""

PullPolicy = Literal["always", "if-not-present", "never"]
_PULL: dict[str, PullPolicy] = {
    "Always": "always",
    "IfNotPresent": "if-not-present",
    "Never": "never",
}


def read_pods(path: Path) -> RouteMap:
    """Read a file of pod manifests, which are served together.

    Raises:
        ConfigurationError: With every mistake in the file.
    """
    return _read([_PodReader(path, document) for document in read_documents(path)], path)


def read_pod(manifest: dict[str, Any]) -> RouteMap:
    """Read a pod manifest that is not in a file.

    Raises:
        ConfigurationError: With every mistake in it.
    """
    return _read([_PodReader(None, Document(manifest, LineMap({}, ())))], None)


def _read(readers: Sequence[_PodReader], path: Path | None) -> RouteMap:
    pods = [(reader, pod) for reader in readers if (pod := reader.parse())]
    entries = [entry for reader, pod in pods for entry in reader.entries(pod)]
    problems = [problem for reader in readers for problem in reader.problems]
    problems += _differing_addresses(pods)
    if not readers:
        problems.append(Problem("expected a v1/Pod, found no document", path))
    if problems:
        raise ConfigurationError(sorted(problems, key=lambda problem: problem.line or 0))
    address = pods[0][1].metadata.annotations.default_host
    return RouteMap(
        entries,
        Path() if path is None else path.absolute().parent,
        Location(path),
        default_host=address,
        listen=HostPort.parse(address),
        warnings=tuple(warning for reader in readers for warning in reader.warnings),
    )


def _differing_addresses(pods: list[tuple[_PodReader, Pod]]) -> Iterator[Problem]:
    """Report addresses that differ from that of the first pod."""
    place = (*_ANNOTATIONS, DEFAULT_HOST)
    for reader, pod in pods[1:]:
        first_reader, first = pods[0]
        expected = first.metadata.annotations.default_host
        found = pod.metadata.annotations.default_host
        if found != expected:
            yield reader.location(place).problem(
                f"{DEFAULT_HOST}: {found} here and {expected} in"
                f" {first_reader.location(place)}: the pods of a file are served together, on one"
                " address"
            )


class _PodReader:
    """Converts a pod to entries of a route map.

    Attributes:
        problems: The mistakes found so far.
        warnings: Fields that are ignored, and containers that are not served.
    """

    def __init__(self, path: Path | None, document: Document) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self._path = path
        self._document = document

    def location(self, place: KeyPath) -> Location:
        """Return the location of a field, named after the container or volume that has it."""
        return self._document.lines.location(self._path, place, self._split(place)[0])

    def parse(self) -> Pod | None:
        """Validate the pod; return None if it has mistakes."""
        value = self._document.value
        kind = (value.get("apiVersion"), value.get("kind")) if isinstance(value, dict) else None
        if kind != ("v1", "Pod"):
            found = f"{kind[0]}/{kind[1]}" if kind and all(kind) else "something else"
            message = f"expected a pod (apiVersion: v1, kind: Pod), found {found}"
            self._report(("kind",), message)
            return None
        layout = layout_of(value)
        if layout not in (None, LAYOUT_VERSION):
            message = (
                f"{LAYOUT}: expected {LAYOUT_VERSION!r}, found {layout!r}: the webhook and the"
                " gateway's image have different versions"
            )
            self._report((*_ANNOTATIONS, LAYOUT), message)
            return None
        try:
            return Pod.model_validate(resolve(value, os.environ) if layout else value)
        except ValidationError as error:
            name = lambda place: self._split(place)[1]  # noqa: E731
            for mistake in explain_validation_error(error, Pod, name, "a mapping"):
                self._report(mistake.path, mistake.message)
            return None

    def entries(self, pod: Pod) -> list[ModuleEntry]:
        """Make an entry of each container that has an entry, in the order of the annotation."""
        modules = pod.metadata.annotations.modules
        containers: dict[str, int] = {}
        for index, container in enumerate(pod.spec.containers):
            place = (*_CONTAINERS, index)
            if container.name in containers:
                self._report(place, "there is another container with this name")
            elif container.name not in modules:
                message = f"not served: it has no entry in {MODULES}"
                self.warnings.append(self.location(place).problem(message))
            containers.setdefault(container.name, index)
        volumes = {volume.name: volume for volume in pod.spec.volumes}
        entries = []
        for name, options in modules.items():
            if name not in containers:
                message = f"{MODULES}: there is no container {name!r}"
                self._report((*_ANNOTATIONS, MODULES), message)
            elif entry := self._entry(pod, containers[name], options, volumes):
                entries.append(entry)
        return entries

    def _entry(
        self, pod: Pod, index: int, options: ModuleOptions, volumes: dict[str, Volume]
    ) -> ModuleEntry | None:
        container, place = pod.spec.containers[index], (*_CONTAINERS, index)
        if container.resources:
            location = self.location((*place, "resources"))
            self.warnings.append(location.problem("resources are ignored: see memory_limit"))
        locations = {key: self.location((*place, field)) for key, field in _FIELDS_OF_KEYS.items()}
        try:
            entry = ModuleEntry(
                **options.model_dump(exclude_unset=True),
                module=f"oci:{container.image}",
                pull=_pull_policy(container),
                environment={variable.name: variable.value for variable in container.env},
                volumes=self._mounts(container, place, volumes),
            )
        except ValidationError as error:
            for mistake in explain_validation_error(error, ModuleEntry):
                location = locations.get(str(mistake.path[0]), self.location(place))
                self.problems.append(location.problem(mistake.message))
            return None
        annotation = self.location((*_ANNOTATIONS, MODULES))
        location = replace(annotation, name=self.location(place).name)
        return entry.located(location, locations, _FIELDS_OF_KEYS)

    def _mounts(
        self, container: Container, place: KeyPath, volumes: dict[str, Volume]
    ) -> dict[str, dict[str, object]]:
        mounts: dict[str, dict[str, object]] = {}
        for index, mount in enumerate(container.volumeMounts):
            if volume := volumes.get(mount.name):
                folder = volume.hostPath.path
                mounts[mount.mountPath] = {"path": folder, "readonly": mount.readOnly}
            else:
                self._report((*place, "volumeMounts", index), "the pod has no such volume")
        return mounts

    def _report(self, place: KeyPath, message: str) -> None:
        self.problems.append(self.location(place).problem(message))

    def _split(self, place: KeyPath) -> tuple[str, str]:
        """Split a path for messages: after the last list item that has a name.

        ``spec.containers[0].env[1].value`` becomes ``container 'hello': env 'NAME'`` and ``value``.
        """
        if place[:2] == _ANNOTATIONS and len(place) > 2:
            *subject, last = map(str, place[2:])
            return ": ".join(subject), last
        subjects, rest, value = [], "", self._document.value
        for key in place:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                value = None
            if isinstance(key, str):
                rest += f".{key}" if rest else key
            elif isinstance(value, dict) and isinstance(value.get("name"), str):
                field = rest.rpartition(".")[2]
                subjects.append(f"{_ITEMS.get(field, field)} {value['name']!r}")
                rest = ""
            else:
                rest += f"[{key}]"
        return ": ".join(subjects), rest


def _pull_policy(container: Container) -> PullPolicy:
    """When to resolve the tag: by default as in Kubernetes, always for the latest image."""
    if container.imagePullPolicy:
        return _PULL[container.imagePullPolicy]
    image = container.image
    tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
    return "always" if "@" not in image and tag in ("", "latest") else "if-not-present"
