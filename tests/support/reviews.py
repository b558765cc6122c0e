"""AdmissionReviews as the API server sends them, and what it does with the response."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

Json = dict[str, Any]


def review(
    pod: Json, operation: str = "CREATE", old: Json | None = None, namespace: str = "default"
) -> Json:
    """Return the review of a pod."""
    request: Json = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "name": pod["metadata"].get("name", ""),
        "namespace": namespace,
        "operation": operation,
        "userInfo": {"username": "admin", "groups": ["system:masters"]},
        "object": pod,
        "oldObject": old,
        "dryRun": False,
        "options": {"kind": f"{operation.title()}Options", "apiVersion": "meta.k8s.io/v1"},
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def patched(pod: Json, response: Json) -> Json:
    """Apply the patch of a response to a pod."""
    result = copy.deepcopy(pod)
    for operation in json.loads(base64.b64decode(response.get("patch", "W10="))):
        *parents, last = [
            part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
        ]
        target = result
        for part in parents:
            target = target[part]
        if operation["op"] == "remove":
            del target[last]
        else:
            assert operation["op"] == "add"
            target[last] = operation["value"]
    return result


def merged(live: Json, applied: Json) -> Json:
    """Merge what its author wrote into a pod, as ``kubectl apply`` does.

    Items of lists are merged by their key (strategic merge patch).
    """
    result = copy.deepcopy(live)
    for key, value in applied.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        elif isinstance(value, list) and isinstance(result.get(key), list) and key in _MERGE_KEYS:
            result[key] = _merged_lists(result[key], value, _MERGE_KEYS[key])
        else:
            result[key] = value
    return result


_MERGE_KEYS = {
    "containers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
    "imagePullSecrets": "name",
}


def _merged_lists(live: list[Json], applied: list[Json], key: str) -> list[Json]:
    names = {item[key]: item for item in applied}
    known = {item[key] for item in live}
    result = [merged(item, names[item[key]]) if item[key] in names else item for item in live]
    return [*result, *(item for item in applied if item[key] not in known)]
