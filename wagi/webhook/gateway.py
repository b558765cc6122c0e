"""The container of the gateway, made of the containers of the handlers. Pure.

The kubelet does for this container what it would do for those of the handlers: it resolves
variables from secrets and ConfigMaps, mounts volumes, reserves resources and runs probes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wagi.config.values import HostPort
from wagi.routemap.pod_injection import MANIFEST, variable_prefix, volume_path
from wagi.webhook.errors import Denied
from wagi.webhook.quantities import add_quantities, parse_quantity

MANIFEST_VOLUME, CACHE_VOLUME, TMP_VOLUME = "wagi-pod", "wagi-cache", "wagi-tmp"
REGISTRIES_VOLUME = "wagi-registries"
RESERVED_VOLUMES = (MANIFEST_VOLUME, CACHE_VOLUME, TMP_VOLUME, REGISTRIES_VOLUME)
_MANIFEST_FOLDER, _MANIFEST_FILE = "/etc/wagi/pod", "pod.yaml"
_REGISTRIES_FOLDER = "/etc/wagi/registries"
_CACHE_FOLDER = "/var/cache/wagi"
_USER = 65532  # without root's rights; the "nonroot" of distroless images
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_MAX_DELAY_S = 5  # until load balancers have noticed that the pod ends
_EXIT_S = 5  # between the end of the drain and the kubelet's SIGKILL
_REFERENCE = re.compile(r"\$\$|\$\(([^()]+)\)")
"""A reference to another variable in a value; two dollar signs stand for one."""


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """How the operator wants gateways to run.

    Attributes:
        image: The image of the gateway.
        pull_policy: When the kubelet pulls it.
        variables: Variables of the gateway's container, which set its options.
    """

    image: str
    pull_policy: str = "IfNotPresent"
    variables: Mapping[str, str] | None = None


def gateway_container(
    handlers: Sequence[dict[str, Any]],
    spec: Mapping[str, Any],
    address: HostPort,
    options: GatewayOptions,
) -> dict[str, Any]:
    """Return the container that takes the place of the handlers' containers.

    Args:
        handlers: The containers of the handlers, in the order of the manifest.
        spec: The pod's ``spec`` as its author wrote it.
        address: The address in the annotation.
        options: The operator's options.

    Raises:
        Denied: A container has something that a handler cannot have.
    """
    resources = _resources(handlers)
    on_host = bool(spec.get("hostNetwork"))
    container = {
        "name": handlers[0]["name"],
        "image": options.image,
        "imagePullPolicy": options.pull_policy,
        "args": ["serve", f"{_MANIFEST_FOLDER}/{_MANIFEST_FILE}"],
        "env": [
            *_options(spec, address, resources, options),
            *(variable for index in range(len(handlers)) for variable in _env(handlers, index)),
        ],
        "envFrom": [
            source for index in range(len(handlers)) for source in _env_from(handlers, index)
        ],
        "ports": _ports(handlers, address, on_host),
        "volumeMounts": _mounts(handlers, spec),
        "resources": resources,
        "securityContext": _security(handlers, spec),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "readinessProbe": _readiness(address, on_host),
        **_probes(handlers),
    }
    return {key: value for key, value in container.items() if value != []}


def gateway_volumes(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the volumes that the gateway needs beside those of the handlers.

    Args:
        spec: The pod's ``spec`` as its author wrote it.
    """
    field = {"apiVersion": "v1", "fieldPath": f"metadata.annotations['{MANIFEST}']"}
    items = [{"path": _MANIFEST_FILE, "fieldRef": field}]
    volumes: list[dict[str, Any]] = [
        {"name": MANIFEST_VOLUME, "downwardAPI": {"items": items, "defaultMode": 0o644}},
        {"name": CACHE_VOLUME, "emptyDir": {}},
        {"name": TMP_VOLUME, "emptyDir": {}},
    ]
    # As for the kubelet, a pull secret that does not exist is no error.
    secrets = [
        {
            "secret": {
                "name": secret["name"],
                "optional": True,
                "items": [{"key": ".dockerconfigjson", "path": f"{index}.json"}],
            }
        }
        for index, secret in enumerate(spec.get("imagePullSecrets") or ())
    ]
    if secrets:
        projected = {"sources": secrets, "defaultMode": 0o444}
        volumes.append({"name": REGISTRIES_VOLUME, "projected": projected})
    return volumes


def is_gateway(container: Mapping[str, Any]) -> bool:
    """Whether a container is the one that ``gateway_container`` made."""
    mounts = container.get("volumeMounts") or ()
    return any(mount.get("name") == MANIFEST_VOLUME for mount in mounts)


def _options(
    spec: Mapping[str, Any],
    address: HostPort,
    resources: Mapping[str, Any],
    options: GatewayOptions,
) -> list[dict[str, str]]:
    """The variables that set the options of ``wagi serve``."""
    grace = spec.get("terminationGracePeriodSeconds")
    grace = 30 if grace is None else int(grace)
    delay = min(_MAX_DELAY_S, grace // 4)
    values = {
        "WAGI_LISTEN": str(address) if spec.get("hostNetwork") else f":{address.port}",
        "WAGI_LOG_DIR": "none",
        "WAGI_MODULE_CACHE": f"{_CACHE_FOLDER}/modules",
        "WAGI_ARTEFACT_CACHE": f"{_CACHE_FOLDER}/artefacts",
        "WAGI_RELOAD_ON_CHANGE": "true",
        "WAGI_SHUTDOWN_DELAY": str(delay),
        "WAGI_SHUTDOWN_TIMEOUT": str(max(1, grace - delay - _EXIT_S)),
    }
    if spec.get("imagePullSecrets"):
        values["WAGI_REGISTRY_CONFIG"] = _REGISTRIES_FOLDER
    if "cpu" not in (resources.get("limits") or {}):
        # Without a limit, the default is a worker for each core of the node.
        requested = parse_quantity((resources.get("requests") or {}).get("cpu", "0"))
        values["WAGI_WORKERS"] = str(max(1, math.ceil(requested)))
    values |= options.variables or {}
    return [{"name": name, "value": value} for name, value in values.items()]


def _env(handlers: Sequence[dict[str, Any]], index: int) -> list[dict[str, Any]]:
    """The variables of a handler, as the gateway's container has them."""
    handler, prefix = handlers[index], variable_prefix(index)
    names = {container["name"] for container in handlers}
    known: set[str] = set()
    variables = []
    for variable in handler.get("env") or ():
        copy = {**variable, "name": prefix + variable["name"]}
        if isinstance(copy.get("value"), str):
            is_known = None if handler.get("envFrom") else known
            copy["value"] = _rename_references(copy["value"], prefix, is_known)
        field = (copy.get("valueFrom") or {}).get("resourceFieldRef")
        if field and field.get("containerName") in names:
            field = {**field, "containerName": handlers[0]["name"]}
            copy["valueFrom"] = {**copy["valueFrom"], "resourceFieldRef": field}
        known.add(variable["name"])
        variables.append(copy)
    return variables


def _rename_references(value: str, prefix: str, known: set[str] | None) -> str:
    """Rename the variables that a value refers to.

    Args:
        value: The value, with references such as ``$(HOST)``.
        prefix: What the new names begin with.
        known: The variables to rename, None for all; the kubelet knows others, such as those of
            services.
    """

    def rename(match: re.Match[str]) -> str:
        name = match[1]
        return f"$({prefix}{name})" if name and (known is None or name in known) else match[0]

    return _REFERENCE.sub(rename, value)


def _env_from(handlers: Sequence[dict[str, Any]], index: int) -> list[dict[str, Any]]:
    prefix = variable_prefix(index)
    return [
        {**source, "prefix": prefix + (source.get("prefix") or "")}
        for source in handlers[index].get("envFrom") or ()
    ]


def _ports(
    handlers: Sequence[dict[str, Any]], address: HostPort, on_host: bool
) -> list[dict[str, Any]]:
    ports: dict[tuple[object, object], dict[str, Any]] = {}
    for handler in handlers:
        for port in handler.get("ports") or ():
            ports.setdefault((port.get("containerPort"), port.get("protocol", "TCP")), port)
    served = {"containerPort": address.port, "protocol": "TCP"}
    if on_host:
        served["hostPort"] = address.port
    ports.setdefault((address.port, "TCP"), served)
    return list(ports.values())


def _mounts(handlers: Sequence[dict[str, Any]], spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    writable: dict[str, bool] = {}
    for handler in handlers:
        for mount in handler.get("volumeMounts") or ():
            name = mount["name"]
            writable[name] = writable.get(name, False) or not mount.get("readOnly")
    mounts: list[dict[str, Any]] = [
        {"name": MANIFEST_VOLUME, "mountPath": _MANIFEST_FOLDER, "readOnly": True},
        {"name": CACHE_VOLUME, "mountPath": _CACHE_FOLDER},
        {"name": TMP_VOLUME, "mountPath": "/tmp"},
    ]
    if spec.get("imagePullSecrets"):
        mount = {"name": REGISTRIES_VOLUME, "mountPath": _REGISTRIES_FOLDER, "readOnly": True}
        mounts.append(mount)
    for name, is_writable in writable.items():
        mount = {"name": name, "mountPath": volume_path(name)}
        mounts.append(mount if is_writable else {**mount, "readOnly": True})
    return mounts


def _resources(handlers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The resources of all handlers together; one without a limit makes it unlimited."""
    total: dict[str, Any] = {}
    for kind in ("limits", "requests"):
        given = [((handler.get("resources") or {}).get(kind) or {}) for handler in handlers]
        names = dict.fromkeys(name for values in given for name in values)
        try:
            sums = {
                name: add_quantities([values[name] for values in given if name in values])
                for name in names
                if kind == "requests" or all(name in values for values in given)
            }
        except ValueError as error:
            raise Denied(f"spec.containers: resources.{kind}: {error}") from None
        if sums:
            total[kind] = sums
    return total


def _security(handlers: Sequence[dict[str, Any]], spec: Mapping[str, Any]) -> dict[str, Any]:
    """The security context, which fulfills the pod security standard "restricted"."""
    context: dict[str, Any] = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    own = handlers[0].get("securityContext") or {}
    for key in ("runAsUser", "runAsGroup"):
        if own.get(key):
            context[key] = own[key]
    if "runAsUser" not in context and not (spec.get("securityContext") or {}).get("runAsUser"):
        context["runAsUser"] = _USER
    return context


def _readiness(address: HostPort, on_host: bool) -> dict[str, Any]:
    request = {"path": "/healthz", "port": address.port, "scheme": "HTTP"}
    if on_host:  # the address may be one that the pod's own does not lead to
        any_host = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}
        request["host"] = any_host.get(address.host, address.address)
    return {"httpGet": request, "periodSeconds": 2}


def _probes(handlers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The probes of the handlers; of several of a kind, the first."""
    probes: dict[str, Any] = {}
    for handler in handlers:
        for kind in _PROBES:
            probe = handler.get(kind)
            if not probe:
                continue
            if "exec" in probe:
                raise Denied(
                    f"spec.containers: {handler['name']}: {kind}.exec: a handler has no processes:"
                    " use httpGet"
                )
            probes.setdefault(kind, probe)
        if handler.get("lifecycle"):
            raise Denied(
                f"spec.containers: {handler['name']}: lifecycle: a handler runs for one request:"
                " remove it"
            )
    return probes
