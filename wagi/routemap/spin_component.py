"""Make an entry of a route map from a component of a spin.toml and its trigger."""

from __future__ import annotations

import contextlib
import posixpath
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wagi.cgi.spin import SpinRoute
from wagi.config.validation import KeyPath
from wagi.limits import limit_fields
from wagi.routemap.entries import LimitKeys, ModuleEntry
from wagi.routemap.findings import Findings
from wagi.routemap.spin_hosts import allowed_hosts, allowed_http_hosts, has_template
from wagi.routemap.spin_manifest import Build, Component, Trigger
from wagi.routemap.toml_document import TomlDocument
from wagi.sources.file_mounts import FileMounts

_MODULES_TOML = "move the component to a modules.toml, whose volumes can be written to, and"
_VARIABLES = "write the values to environment, or pass them with --env or --env-file"
_UNSUPPORTED_FEATURES = {
    "variables": f"variables are not supported: {_VARIABLES}",
    "config": f"variables are not supported: {_VARIABLES}",
    "key_value_stores": f"key-value stores are not supported: {_MODULES_TOML} keep the data in"
    " files",
    "sqlite_databases": f"SQLite databases are not supported: {_MODULES_TOML} compile SQLite into"
    " the handler",
    "ai_models": "AI models are not supported: call a server that has the model by outbound HTTP"
    " (allowed_outbound_hosts)",
    "dependencies": "dependencies are not supported: compile them into the module",
}
_HOST_KEYS: dict[str, Callable[[str], list[str]]] = {
    "allowed_outbound_hosts": allowed_hosts,
    "allowed_http_hosts": allowed_http_hosts,
}
_KEY_NAMES = {"module": "source", "allowed_hosts": "allowed_outbound_hosts"}
_DEFAULT_WATCH = "src"


@dataclass(frozen=True, slots=True)
class Application:
    """What all components of a manifest have in common.

    Attributes:
        base: The path that precedes all routes, without a slash at its end.
        limits: The defaults of their limits.
    """

    base: str
    limits: LimitKeys


@dataclass(frozen=True, slots=True)
class RoutedComponent:
    """A component with one of its triggers.

    Attributes:
        label: What messages call the component.
        component: The component.
        place: Where it is written.
        trigger: The trigger.
        trigger_place: Where the trigger is written.
    """

    label: str
    component: Component
    place: KeyPath
    trigger: Trigger
    trigger_place: KeyPath

    @property
    def key_places(self) -> dict[str, KeyPath]:
        """Where the keys of the entry are written, by their names in ``ModuleEntry``."""
        limits = {limit.name: (*self.place, "tool", "wagi", limit.name) for limit in limit_fields()}
        return limits | {
            "route": (*self.trigger_place, "route"),
            "entrypoint": (*self.trigger_place, "executor"),
            "executor": (*self.trigger_place, "executor"),
            "module": (*self.place, "source"),
            "allowed_hosts": (*self.place, "allowed_outbound_hosts"),
            "files": (*self.place, "files"),
            "build": (*self.place, "build"),
        }


def check_component(routed: RoutedComponent, findings: Findings) -> None:
    """Report features of a component that do not exist here."""
    for key, message in _UNSUPPORTED_FEATURES.items():
        if getattr(routed.component, key, None):
            findings.problem(f"{routed.label}: {key}: {message}", (*routed.place, key))
    for name, value in routed.component.environment.items():
        if has_template(value):
            findings.warn(
                f"{routed.label}: environment: the handler gets the value of {name} as it is"
                " written: templates are not expanded there, neither by Spin nor here",
                (*routed.place, "environment", name),
            )
    for key, translate in _HOST_KEYS.items():
        for host in getattr(routed.component, key):
            try:
                translate(host)
            except ValueError as error:
                findings.problem(f"{routed.label}: {key}: {error}", (*routed.place, key))


def make_entry(
    routed: RoutedComponent, application: Application, document: TomlDocument, findings: Findings
) -> ModuleEntry | None:
    """Make the entry of a component, which has been checked, and a trigger.

    Returns:
        None if the trigger is reported.
    """
    executor = routed.trigger.executor
    route = routed.trigger.route
    if route is None:
        findings.warn(
            f"{routed.label} has a private route: it is not served, because components cannot"
            " call each other here",
            (*routed.trigger_place, "route"),
        )
        return None
    path = full_path(application.base, route)
    if problem := _unsupported_segment(path):
        message = f"{routed.label}: route: {route!r}: {problem}"
        findings.problem(message, (*routed.trigger_place, "route"))
        return None
    component, source = routed.component, routed.component.source
    entry = ModuleEntry(
        route=path,
        # The absolute path, because Spin does not search the working directory.
        module=source.url or str(_folder(document) / (source.path or "")),
        sha256=source.digest.removeprefix("sha256:") if source.digest else None,
        entrypoint=executor.entrypoint,
        argv=executor.argv,
        environment=component.environment,
        allowed_hosts=_allowed_hosts(component),
        build=_build_command(component.build) if component.build else None,
        watch=_watched(component.build) if component.build else [],
    )
    places = routed.key_places
    located = entry.model_copy(update=_limits(application.limits, component.tool.wagi)).located(
        document.location(*routed.place, name=routed.label),
        {key: document.location(*place, name=routed.label) for key, place in places.items()},
        _KEY_NAMES,
    )
    mounts = tuple(file.mount for file in component.files)
    files = FileMounts(mounts, tuple(component.exclude_files))
    spin_route = SpinRoute(application.base or "/", route, executor.type == "wagi")
    return located.with_component(spin_route, files)


def full_path(base: str, route: str) -> str:
    """Join the base path and a route, in which ``/*`` is another spelling of ``/...``."""
    if route.endswith("/*"):
        route = f"{route.removesuffix('*')}..."
    return f"{sanitize(base)}{sanitize(route)}" or "/"


def sanitize(path: str) -> str:
    """Write a part of a route with a slash at its start and without one at its end, as in Spin."""
    return f"/{path.removeprefix('/')}".removesuffix("/")


def _unsupported_segment(path: str) -> str:
    segments = path.split("/")
    for index, segment in enumerate(segments):
        if segment.startswith(":") or "*" in segment:
            parent = "/".join(segments[:index])
            return (
                f"a segment such as {segment!r} cannot match any value here: write {parent}/...,"
                " and read the rest of the path from PATH_INFO"
            )
    return ""


def _folder(document: TomlDocument) -> Path:
    return document.path.absolute().parent


def _allowed_hosts(component: Component) -> list[str]:
    """The hosts that a component may call, without those that are reported."""
    hosts: list[str] = []
    for key, translate in _HOST_KEYS.items():
        for text in getattr(component, key):
            with contextlib.suppress(ValueError):
                hosts += translate(text)
    return hosts


def _limits(*tables: LimitKeys) -> dict[str, object]:
    """The limits that tables set; later ones override earlier ones."""
    return {key: getattr(table, key) for table in tables for key in table.model_fields_set}


def _build_command(build: Build) -> str:
    commands = [build.command] if isinstance(build.command, str) else list(build.command)
    if build.workdir:
        commands.insert(0, f"cd {shlex.quote(build.workdir)}")
    return " && ".join(commands)


def _watched(build: Build) -> list[str]:
    return [posixpath.join(build.workdir or "", path) for path in build.watch or [_DEFAULT_WATCH]]
