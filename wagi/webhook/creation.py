"""A new pod: the containers of its handlers become one, the gateway's. Pure.

Containers without an entry in the annotation, such as those that a service mesh injects, and init
containers stay as they are.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from wagi.routemap.pod_injection import MANIFEST
from wagi.routemap.pod_manifest import MODULES
from wagi.webhook.errors import Denied
from wagi.webhook.gateway import (
    MANIFEST_VOLUME,
    RESERVED_VOLUMES,
    GatewayOptions,
    gateway_container,
    gateway_volumes,
)
from wagi.webhook.manifest import check, dump, make_manifest

_TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
_ARCHITECTURE = ("kubernetes.io/arch", "beta.kubernetes.io/arch")
_CHANGED_FIELDS = ("nodeSelector", "securityContext", "automountServiceAccountToken")
"""The fields of ``spec`` that are changed, beside containers and volumes."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A pod as the webhook wants it.

    Attributes:
        pod: The pod.
        warnings: What its author should know; ``kubectl`` prints it.
    """

    pod: dict[str, Any]
    warnings: tuple[str, ...] = ()


def rewrite(pod: dict[str, Any], options: GatewayOptions) -> Rewritten:
    """Rewrite a new pod.

    Args:
        pod: A pod with the annotation of modules.
        options: How gateways run.

    Raises:
        Denied: The annotations are invalid, or a container has something that a handler cannot
            have.
    """
    pod = copy.deepcopy(pod)
    spec, annotations = pod["spec"], pod["metadata"]["annotations"]
    served = _names(annotations)
    handlers = [_without_token(item) for item in spec["containers"] if item["name"] in served]
    kept = {key: copy.deepcopy(spec[key]) for key in _CHANGED_FIELDS if spec.get(key) is not None}
    manifest = make_manifest(annotations, handlers, kept)
    address = check(manifest)
    if not handlers:
        raise Denied(f"{MODULES}: expected an entry for each handler's container, found none")
    _check_volumes(spec, handlers)
    gateway = gateway_container(handlers, spec, address, options)
    others = [item for item in spec["containers"] if item["name"] not in served]
    at = next(i for i, item in enumerate(spec["containers"]) if item["name"] in served)
    spec["volumes"] = [*_kept_volumes(spec, others), *gateway_volumes(spec)]
    spec["containers"] = [*others[:at], gateway, *others[at:]]
    spec["automountServiceAccountToken"] = False  # handlers cannot read a token
    if not others and not spec.get("initContainers"):
        context = spec.get("securityContext") or {}
        user = gateway["securityContext"].get("runAsUser", context.get("runAsUser"))
        spec["securityContext"] = {"fsGroup": user, **context}  # so that volumes are writable
    _remove_architecture(spec)
    annotations[MANIFEST] = dump(manifest)
    return Rewritten(pod, tuple(_warnings(handlers, others, spec)))


def is_rewritten(pod: Mapping[str, Any]) -> bool:
    """Whether a pod was rewritten before, such as one that was exported from a cluster."""
    volumes = pod["spec"].get("volumes") or ()
    has_volume = any(volume.get("name") == MANIFEST_VOLUME for volume in volumes)
    return has_volume and MANIFEST in (pod["metadata"].get("annotations") or {})


def _names(annotations: Mapping[str, str]) -> set[str]:
    """The names of the containers that have an entry; nothing if the annotation is invalid."""
    try:
        modules = json.loads(annotations[MODULES])
    except (ValueError, RecursionError):
        return set()  # ``check`` reports it
    return set(modules) if isinstance(modules, dict) else set()


def _without_token(container: dict[str, Any]) -> dict[str, Any]:
    """Remove the token of the service account, which the API server has added."""
    mounts = container.get("volumeMounts")
    if not mounts:
        return container
    kept = [mount for mount in mounts if mount.get("mountPath") != _TOKEN_FOLDER]
    return {**container, "volumeMounts": kept}


def _check_volumes(spec: Mapping[str, Any], handlers: list[dict[str, Any]]) -> None:
    names = {volume["name"] for volume in spec.get("volumes") or ()}
    for name in RESERVED_VOLUMES:
        if name in names:
            raise Denied(f"spec.volumes: the name {name!r} is reserved: rename the volume")
    for handler in handlers:
        for mount in handler.get("volumeMounts") or ():
            if mount["name"] not in names:
                place = f"container {handler['name']!r}: volumeMounts"
                raise Denied(f"{place}: the pod has no volume {mount['name']!r}")


def _kept_volumes(spec: Mapping[str, Any], others: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The volumes of the author: all but that of the token, if no container uses it any more."""
    token = {
        mount["name"]
        for container in spec["containers"]
        for mount in container.get("volumeMounts") or ()
        if mount.get("mountPath") == _TOKEN_FOLDER
    }
    for container in (*others, *(spec.get("initContainers") or ())):
        token -= {mount.get("name") for mount in container.get("volumeMounts") or ()}
    return [volume for volume in spec.get("volumes") or () if volume.get("name") not in token]


def _remove_architecture(spec: dict[str, Any]) -> None:
    """Remove what selects Krustlet's nodes."""
    selector = spec.get("nodeSelector") or {}
    for key in _ARCHITECTURE:
        if str(selector.get(key, "")).startswith("wasm32"):
            del selector[key]
    if selector.get("type") == "krustlet":
        del selector["type"]
    if "nodeSelector" in spec and not selector:
        del spec["nodeSelector"]


def _warnings(
    handlers: list[dict[str, Any]], others: list[dict[str, Any]], spec: Mapping[str, Any]
) -> Iterator[str]:
    for container in others:
        yield (
            f"container {container['name']!r} has no entry in {MODULES}: it runs as an ordinary"
            " container"
        )
    for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
        probed = [handler["name"] for handler in handlers if handler.get(kind)]
        for name in probed[1:]:
            yield f"container {name!r}: {kind}: ignored, that of {probed[0]!r} is used"
    if "wasm32" in json.dumps(spec.get("affinity") or {}):
        yield "spec.affinity: requires nodes of the architecture wasm32: remove it"
