"""Pods that ``wagi webhook`` has rewritten: their handlers run in one container, the gateway's.

The kubelet resolves the variables and mounts the volumes of all handlers in that container:

======================== =======================================================================
variable ``X``           ``WAGI_POD_0_X`` for the first handler of the manifest, ``WAGI_POD_1_X``
                         for the second, and so on
volume ``data``          the directory ``/var/lib/wagi/volumes/data``
the manifest             the annotation ``wagi.dev/pod``, which a downward API volume makes a file
======================== =======================================================================

The manifest has the handlers' containers as their author wrote them, and the annotation
``wagi.dev/layout`` with the version of this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MANIFEST = "wagi.dev/pod"
LAYOUT = "wagi.dev/layout"
LAYOUT_VERSION = "1"
_VOLUMES = "/var/lib/wagi/volumes"


def variable_prefix(handler: int) -> str:
    """Return what the names of a handler's variables begin with in the gateway's container.

    Args:
        handler: The index of its container in the manifest.
    """
    return f"WAGI_POD_{handler}_"


def volume_path(volume: str) -> str:
    """Return where a volume is mounted in the gateway's container."""
    return f"{_VOLUMES}/{volume}"


def layout_of(manifest: Any) -> str | None:
    """Return the version of the layout of a rewritten pod; None for any other manifest."""
    value = manifest
    for key in ("metadata", "annotations", LAYOUT):
        value = value.get(key) if isinstance(value, dict) else None
    return None if value is None else str(value)


def resolve(manifest: dict[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    """Replace what the kubelet has resolved: variables by their values, volumes by directories.

    Args:
        manifest: The annotation of a rewritten pod.
        variables: The environment of the gateway's container.
    """
    spec = manifest.get("spec")
    containers = spec.get("containers") if isinstance(spec, dict) else None
    if not isinstance(containers, list):
        return manifest  # validation reports it
    resolved = [
        _resolve_container(container, variable_prefix(index), variables)
        for index, container in enumerate(containers)
    ]
    mounts = [mount for container in resolved for mount in _mounts(container)]
    names = dict.fromkeys(mount["name"] for mount in mounts)
    volumes = [{"name": name, "hostPath": {"path": volume_path(name)}} for name in names]
    return {**manifest, "spec": {"containers": resolved, "volumes": volumes}}


def _resolve_container(container: Any, prefix: str, variables: Mapping[str, str]) -> Any:
    if not isinstance(container, dict):
        return container
    kept = {key: container[key] for key in container if key not in ("envFrom", "resources")}
    # The kubelet leaves a reference to an unknown variable as it is.
    kept["env"] = [
        {"name": name.removeprefix(prefix), "value": value.replace(f"$({prefix}", "$(")}
        for name, value in sorted(variables.items())
        if name.startswith(prefix) and name != prefix
    ]
    return kept


def _mounts(container: Any) -> list[dict[str, Any]]:
    mounts = container.get("volumeMounts") if isinstance(container, dict) else None
    return [
        mount
        for mount in (mounts if isinstance(mounts, list) else ())
        if isinstance(mount, dict) and isinstance(mount.get("name"), str)
    ]
