"""An update of a rewritten pod: images and the annotation of modules may change. Pure.

A client such as ``kubectl apply`` merges what its author wrote into the pod that the webhook made:
the author's image into the gateway's container, for example. What comes from the manifest in the
annotation is therefore no change, and is reverted. The gateway reads a changed manifest without a
restart.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

from wagi.routemap.pod_injection import MANIFEST
from wagi.routemap.pod_manifest import DEFAULT_HOST, MODULES
from wagi.webhook.creation import Rewritten
from wagi.webhook.errors import Denied
from wagi.webhook.gateway import is_gateway
from wagi.webhook.manifest import check, dump, make_manifest

_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_KEYS = ("mountPath", "containerPort", "name")
"""The keys by which items of lists are merged."""
_FIXED_FIELDS = ("volumes", "nodeSelector", "securityContext", "automountServiceAccountToken")
_MUTABLE_FIELDS = ("tolerations", "activeDeadlineSeconds", "terminationGracePeriodSeconds")
_HINT = (
    "only images and the annotation of modules can change while the pod runs: delete the pod and"
    " create it again, as kubectl replace --force does"
)
_ABSENT: Any = object()


def rewrite_update(old: dict[str, Any], new: dict[str, Any]) -> Rewritten:
    """Rewrite an update of a pod that ``creation.rewrite`` made.

    Args:
        old: The pod as it is.
        new: The pod as the client wants it.

    Raises:
        Denied: It changes something else than images and the annotation of modules.
    """
    stored = _stored_manifest(old)
    gateway = next((item for item in old["spec"]["containers"] if is_gateway(item)), None)
    if stored is None or gateway is None:
        return Rewritten(
            new, (f"{MANIFEST}: not a manifest of wagi webhook: the pod is not updated",)
        )
    _check_applied(old, new)
    author = stored["spec"]
    handlers = {container["name"]: container for container in author["containers"]}
    pod = copy.deepcopy(new)
    spec = pod["spec"]
    images: dict[str, str] = {}
    others = []
    for container in spec["containers"]:
        name = container["name"]
        if name not in handlers:
            others.append(container)
            continue
        live = gateway if name == gateway["name"] else {}
        if container.get("image") not in (None, "", live.get("image")):
            images[name] = container["image"]
        _check_unchanged(container, live, handlers[name], f"spec.containers[{name}]")
    _merge_containers(spec, old["spec"], others)
    for field in _FIXED_FIELDS:
        value = spec.pop(field, _ABSENT)
        live = old["spec"].get(field, _ABSENT)
        if value is not _ABSENT and (path := _changed(value, live, author.get(field), field)):
            raise Denied(f"spec.{path}: {_HINT}")
        if live is not _ABSENT:
            spec[field] = live
    pod["metadata"].setdefault("annotations", {})[MANIFEST] = _update_manifest(
        stored, pod["metadata"]["annotations"], images
    )
    return Rewritten(pod)


def _stored_manifest(pod: Mapping[str, Any]) -> dict[str, Any] | None:
    """The manifest in the annotation; None if it is not a valid one."""
    try:
        manifest = json.loads(pod["metadata"]["annotations"][MANIFEST])
        containers = manifest["spec"]["containers"]
        if all(isinstance(item["name"], str) for item in containers):
            assert isinstance(manifest["metadata"]["annotations"], dict)
            return dict(manifest)
    except (ValueError, KeyError, TypeError, AssertionError, RecursionError):
        pass
    return None


def _update_manifest(
    stored: dict[str, Any], annotations: Mapping[str, str], images: Mapping[str, str]
) -> str:
    author = stored["spec"]
    known = stored["metadata"]["annotations"]
    if MODULES not in annotations:
        raise Denied(f"metadata.annotations: {MODULES} is removed: {_HINT}")
    if annotations.get(DEFAULT_HOST) != known.get(DEFAULT_HOST):
        raise Denied(f"metadata.annotations: {DEFAULT_HOST} is changed: {_HINT}")
    handlers = [
        {**container, "image": images.get(container["name"], container.get("image", ""))}
        for container in author["containers"]
    ]
    kept = {key: value for key, value in author.items() if key != "containers"}
    manifest = make_manifest(annotations, handlers, kept)
    if manifest != stored:
        check(manifest)
    return dump(manifest)


def _merge_containers(
    spec: dict[str, Any], old: Mapping[str, Any], others: list[dict[str, Any]]
) -> None:
    """Restore the gateway's container; ordinary containers may change as in any pod."""
    named = {container["name"]: container for container in others}
    merged = [
        container if is_gateway(container) else named.pop(container["name"])
        for container in old["containers"]
        if is_gateway(container) or container["name"] in named
    ]
    spec["containers"] = [*merged, *named.values()]


def _check_applied(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Compare what ``kubectl apply`` has recorded: only this shows what its author has removed."""
    before, after = (_applied_spec(pod) for pod in (old, new))
    if before is None or after is None or before == after:
        return
    for field in before.keys() | after.keys():
        if field in _MUTABLE_FIELDS:
            continue
        first, second = (_without_images(spec.get(field)) for spec in (before, after))
        if path := _difference(first, second, field):
            raise Denied(f"spec.{path}: {_HINT}")


def _applied_spec(pod: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        spec = json.loads(pod["metadata"]["annotations"][_APPLIED])["spec"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return spec if isinstance(spec, dict) else None


def _without_images(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return [
        {key: field for key, field in item.items() if key != "image"}
        if isinstance(item, dict)
        else item
        for item in value
    ]


def _check_unchanged(
    container: Mapping[str, Any],
    live: Mapping[str, Any],
    author: Mapping[str, Any],
    path: str,
) -> None:
    fields = {key: value for key, value in container.items() if key != "image"}
    if place := _changed(fields, live, author, path):
        raise Denied(f"{place}: {_HINT}")


def _changed(value: Any, live: Any, author: Any, path: str) -> str:
    """Find what is neither in the pod nor in what its author wrote.

    Args:
        value: The value in an update.
        live: The value in the pod.
        author: The value in the manifest.
        path: The path of the value.

    Returns:
        The path of what has changed; empty if nothing has.
    """
    if value in (live, author):
        return ""
    if isinstance(value, dict):
        pairs: Iterator[tuple[str, Any, Any, Any]] = (
            (f"{path}.{key}", item, _member(live, key), _member(author, key))
            for key, item in value.items()
        )
    elif isinstance(value, list):
        pairs = (
            (f"{path}[{_label(item)}]", item, _same(live, item), _same(author, item))
            for item in value
        )
    else:
        return path
    for place, item, in_pod, written in pairs:
        if found := _changed(item, in_pod, written, place):
            return found
    return ""


def _difference(before: Any, after: Any, path: str) -> str:
    """Find where two values differ; empty if they are equal."""
    if before == after:
        return ""
    if isinstance(before, dict) and isinstance(after, dict):
        return next(
            found
            for key in sorted(before.keys() | after.keys())
            if (found := _difference(before.get(key), after.get(key), f"{path}.{key}"))
        )
    if isinstance(before, list) and isinstance(after, list):
        for first, second in ((before, after), (after, before)):
            for item in first:
                other = _same(second, item)
                if other is _ABSENT:
                    return f"{path}[{_label(item)}]"
                if found := _difference(item, other, f"{path}[{_label(item)}]"):
                    return found
    return path


def _member(value: Any, key: str) -> Any:
    return value.get(key, _ABSENT) if isinstance(value, dict) else _ABSENT


def _same(items: Any, item: Any) -> Any:
    """The item of a list that is merged with another one."""
    if not isinstance(items, list):
        return _ABSENT
    if item in items:
        return item
    identity = _identity(item)
    found = (other for other in items if identity is not None and _identity(other) == identity)
    return next(found, _ABSENT)


def _identity(item: Any) -> tuple[str, Any] | None:
    if not isinstance(item, dict):
        return None
    return next(((key, item[key]) for key in _KEYS if key in item), None)


def _label(item: Any) -> str:
    identity = _identity(item)
    return str(identity[1]) if identity else str(item)[:40]
