"""The manifest in the annotation of a rewritten pod: what the gateway serves. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from wagi.config.values import HostPort
from wagi.errors import ConfigurationError
from wagi.outbound.destinations import Destinations
from wagi.routemap.entries import ModuleEntry
from wagi.routemap.pod import read_pod
from wagi.routemap.pod_injection import LAYOUT, LAYOUT_VERSION
from wagi.routemap.pod_manifest import DEFAULT_HOST, MODULES
from wagi.routing import RoutePattern
from wagi.sources.errors import SourceError
from wagi.sources.references import parse_reference
from wagi.webhook.errors import Denied

_MAX_PROBLEMS = 5  # in a message
_MAX_LENGTH = 1000  # characters of a message


def make_manifest(
    annotations: Mapping[str, str], handlers: Sequence[dict[str, Any]], kept: Mapping[str, Any]
) -> dict[str, Any]:
    """Make the manifest.

    Args:
        annotations: The annotations of the pod.
        handlers: The containers of the handlers.
        kept: Other fields of ``spec`` that the webhook changes, as their author wrote them.
    """
    ours = {LAYOUT: LAYOUT_VERSION}
    ours |= {key: annotations[key] for key in (MODULES, DEFAULT_HOST) if key in annotations}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"annotations": ours},
        "spec": {"containers": list(handlers), **kept},
    }


def dump(manifest: Mapping[str, Any]) -> str:
    """Write a manifest; one that was read and not changed is written as it was."""
    return json.dumps(manifest, separators=(",", ":"), ensure_ascii=False)


def check(manifest: dict[str, Any]) -> HostPort:
    """Check that the gateway would serve a manifest.

    Returns:
        The address in its annotation, or the default of Krustlet's provider.

    Raises:
        Denied: It would not; the message is for the author of the pod.
    """
    try:
        route_map = read_pod(manifest)
    except ConfigurationError as error:
        raise Denied(_join([problem.message for problem in error.problems])) from None
    problems: list[str] = []
    routes: dict[str, str] = {}
    names = json.loads(manifest["metadata"]["annotations"][MODULES])
    for name, entry in zip(names, route_map.modules, strict=True):
        problems += _problems_of(entry, name)
        if entry.route in routes:
            reason = f"{entry.route!r} is already the route of {routes[entry.route]!r}"
            problems.append(f"{MODULES}: {name}: route: {reason}")
        routes.setdefault(entry.route, name)
    address = route_map.listen
    assert address is not None  # a pod has one
    if not address.port:
        problems.append(f"{DEFAULT_HOST}: expected a port from 1 to 65535, found {address}")
    if problems:
        raise Denied(_join(problems))
    return address


def _problems_of(entry: ModuleEntry, name: str) -> list[str]:
    """What is wrong with an entry apart from its form, which the reader has checked."""
    problems = []
    try:
        RoutePattern.parse(entry.route)
    except ValueError as error:
        problems.append(f"{MODULES}: {name}: route: {error}")
    try:
        Destinations(tuple(entry.allowed_hosts))
    except ValueError as error:
        problems.append(f"{MODULES}: {name}: allowed_hosts: {error}")
    try:
        parse_reference(entry.module)
    except SourceError as error:
        problems.append(f"container {name!r}: image: {error}")
    return problems


def _join(problems: Sequence[str]) -> str:
    shown = list(dict.fromkeys(problems))
    rest = len(shown) - _MAX_PROBLEMS
    text = "; ".join([*shown[:_MAX_PROBLEMS], *([f"and {rest} more"] if rest > 0 else [])])
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}…"
