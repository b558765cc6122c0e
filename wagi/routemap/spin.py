"""spin.toml: the components of Spin's WAGI executor as entries of a route map.

Components of other executors, and features that CGI programs cannot use here, are errors that name
them and what to do instead; they are never ignored silently.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any

from wagi.config.validation import KeyPath
from wagi.errors import ConfigurationError
from wagi.routemap.entries import Entry, LimitKeys, RouteMap
from wagi.routemap.findings import Findings
from wagi.routemap.location import Location
from wagi.routemap.spin_component import (
    Application,
    RoutedComponent,
    check_component,
    make_entry,
)
from wagi.routemap.spin_manifest import INLINE, Component, HttpTrigger, ManifestV1, ManifestV2
from wagi.routemap.toml_document import TomlDocument

_VERSION_KEYS = ("spin_manifest_version", "spin_version")
_VERSIONS: Mapping[tuple[type, object], type[ManifestV1 | ManifestV2]] = {
    (str, "1"): ManifestV1,
    (int, 2): ManifestV2,
}
_UNSUPPORTED_TRIGGER_KEYS = {
    "static_response": "serve the response from a handler, or from the server in front",
    "components": "call what they do from the component itself",
    "dependencies": "compile them into the module",
}


def spin_route_map(document: TomlDocument) -> RouteMap:
    """Make the route map of a spin.toml.

    Raises:
        ConfigurationError: With every mistake in the file, and everything that is not supported.
    """
    content = document.content
    manifest = document.validate(_model(document), _name, lambda path: _label(content, path))
    findings = Findings(document)
    if manifest.variables:
        findings.warn("variables are not supported: they have no effect", ("variables",))
    if isinstance(manifest, ManifestV1):
        application = Application(manifest.trigger.base, LimitKeys())
        components = _components_of_version_1(manifest, document, findings)
    else:
        options = manifest.application
        application = Application(options.trigger.http.base, options.tool.wagi)
        components = _components_of_version_2(manifest, document, findings)
    for routed in {routed.place: routed for routed in components}.values():
        check_component(routed, findings)
    entries = [make_entry(routed, application, document, findings) for routed in components]
    return RouteMap(
        sorted((entry for entry in entries if entry), key=_precedence),
        document.path.absolute().parent,
        Location(document.path),
        warnings=findings.warnings(),
    )


def _precedence(entry: Entry) -> tuple[bool, int]:
    """Exact routes come first, then those with the longest prefix."""
    is_wildcard = entry.route.endswith("/...")
    return is_wildcard, -len(entry.route) if is_wildcard else 0


def _components_of_version_1(
    manifest: ManifestV1, document: TomlDocument, findings: Findings
) -> list[RoutedComponent]:
    places: dict[str, KeyPath] = {}
    components = []
    for index, component in enumerate(manifest.component):
        place = ("component", index)
        label = _component_label(component.id)
        if component.id in places:
            first = document.location(*places[component.id], "id")
            findings.problem(f"{label}: {first} already has this id", (*place, "id"))
        places.setdefault(component.id, place)
        trigger_place = (*place, "trigger")
        components.append(
            RoutedComponent(label, component, place, component.trigger, trigger_place)
        )
    return components


def _components_of_version_2(
    manifest: ManifestV2, document: TomlDocument, findings: Findings
) -> list[RoutedComponent]:
    other_triggers = manifest.trigger.model_extra or {}
    for name in other_triggers:
        findings.problem(_unsupported_trigger(name), ("trigger", name))
    components = []
    for index, trigger in enumerate(manifest.trigger.http):
        place = ("trigger", "http", index)
        label = _label(document.content, place)
        _check_trigger(trigger, label, place, findings)
        component = trigger.component
        component_place: KeyPath = (*place, "component")
        if isinstance(component, Component):
            label = _label(document.content, (*place, INLINE))
        elif component in manifest.component:
            label, component_place = _component_label(component), ("component", component)
            component = manifest.component[component]
        else:
            if component:
                hint = _suggest_component(component, manifest.component)
                message = f"{label}: there is no component {component!r}: {hint}"
                findings.problem(message, component_place)
            continue
        components.append(RoutedComponent(label, component, component_place, trigger, place))
    used = {routed.place for routed in components}
    for name in manifest.component:
        if ("component", name) not in used and not other_triggers:
            message = f"component {name!r} has no trigger: it is not served"
            findings.warn(message, ("component", name))
    return components


def _check_trigger(trigger: HttpTrigger, label: str, place: KeyPath, findings: Findings) -> None:
    for key, hint in _UNSUPPORTED_TRIGGER_KEYS.items():
        if getattr(trigger, key):
            findings.problem(f"{label}: {key} is not supported: {hint}", (*place, key))
    if trigger.component == "" and not trigger.static_response:
        findings.problem(f"{label}: required key 'component' is missing", place)


def _suggest_component(name: str, known: Mapping[str, Component]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {nearest[0]!r}?" if nearest else f"expected a table [component.{name}]"


def _model(document: TomlDocument) -> type[ManifestV1 | ManifestV2]:
    """Choose the model of a manifest by its version."""
    content = document.content
    key = next((key for key in _VERSION_KEYS if key in content), None)
    version = content.get(key) if key else None
    model = _VERSIONS.get((type(version), version)) if isinstance(version, str | int) else None
    if key is None or model is None:
        found = "none" if key is None else f"{key} = {json.dumps(version, default=str)}"
        raise ConfigurationError(
            document.location(key or _VERSION_KEYS[0]).problem(
                f'expected spin_manifest_version = "1" or spin_manifest_version = 2, found {found}'
            )
        )
    trigger = content.get("trigger")
    if model is ManifestV1 and isinstance(trigger, dict) and trigger.get("type", "http") != "http":
        problem = _unsupported_trigger(str(trigger["type"]))
        raise ConfigurationError(document.location("trigger", "type").problem(problem))
    return model


def _unsupported_trigger(name: str) -> str:
    nearest = difflib.get_close_matches(name, ("http",), n=1)
    hint = "did you mean 'http'?" if nearest else "remove it, or keep serving it with Spin"
    return f"trigger {name!r}: only http triggers are supported: {hint}"


def _name(path: KeyPath) -> str:
    """The name of a key in a message, which has the label of its component already."""
    start = 3 if path[:2] == ("trigger", "http") else 2 if path[:1] == ("component",) else 0
    if path[start : start + 2] == ("component", INLINE):
        start += 2
    keys = [key for key in path[start:] if isinstance(key, str) and key != INLINE]
    return ".".join(keys) or ".".join(key for key in path if isinstance(key, str))


def _label(content: Mapping[str, Any], path: KeyPath) -> str:
    """The component or trigger that has a key, for messages; empty for none."""
    if len(path) < 2 or path[0] not in ("component", "trigger"):
        return ""
    if path[:2] == ("trigger", "http") and len(path) > 2:
        trigger = content["trigger"]["http"][path[2]]
        route = trigger.get("route") if isinstance(trigger, dict) else None
        label = f"trigger.http {route!r}" if isinstance(route, str) else "trigger.http"
        return f"{label}: component" if INLINE in path else label
    if path[0] != "component":
        return ""
    item = content["component"][path[1]]
    return _component_label(item.get("id", "") if isinstance(path[1], int) else path[1])


def _component_label(name: str) -> str:
    return f"component {name!r}" if name else "component"
