"""The Pod Security Standard "restricted", which includes "baseline", for Linux.

https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"),
    *("persistentVolumeClaim", "projected", "secret"),
}


def violations(spec: dict[str, Any]) -> list[str]:
    """Check the specification of a pod.

    Returns:
        What the standard does not allow, with its place; empty for a pod that complies.
    """
    return [*_of_pod(spec), *_of_containers(spec)]


def _of_pod(spec: dict[str, Any]) -> Iterator[str]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield f"{key}: must not be set"
    for volume in spec.get("volumes", []):
        if kinds := volume.keys() - {"name"} - _VOLUMES:
            yield f"volumes.{volume['name']}: {min(kinds)} is not allowed"
    if spec.get("securityContext", {}).get("sysctls"):
        yield "securityContext.sysctls: must not be set"


def _of_containers(spec: dict[str, Any]) -> Iterator[str]:
    of_pod = spec.get("securityContext", {})
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        name = container["name"]
        context = container.get("securityContext", {})
        effective = {**of_pod, **context}
        capabilities = context.get("capabilities", {})
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: allowPrivilegeEscalation must be false"
        if context.get("privileged") or "procMount" in context:
            yield f"{name}: privileged and procMount must not be set"
        if "ALL" not in capabilities.get("drop", []):
            yield f"{name}: capabilities.drop must contain ALL"
        if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
            yield f"{name}: capabilities.add may contain NET_BIND_SERVICE only"
        if effective.get("runAsNonRoot") is not True or effective.get("runAsUser") == 0:
            yield f"{name}: must run as a user other than root"
        if effective.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{name}: seccompProfile.type must be RuntimeDefault or Localhost"
        if any(port.get("hostPort") for port in container.get("ports", [])):
            yield f"{name}: hostPort must not be set"
