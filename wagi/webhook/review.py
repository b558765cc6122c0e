"""AdmissionReviews of pods: a review goes in, and its response comes out. Pure."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from wagi.routemap.pod_manifest import MODULES
from wagi.webhook.creation import Rewritten, is_rewritten, rewrite
from wagi.webhook.errors import Denied, InvalidReview
from wagi.webhook.gateway import GatewayOptions
from wagi.webhook.patch import make_patch
from wagi.webhook.update import rewrite_update

_UNTOUCHED_NAMESPACES = ("kube-system", "kube-public", "kube-node-lease")
_MAX_WARNING = 256  # characters; the API server shortens longer ones


class _Fields(BaseModel):
    """A part of a review; what is not declared is passed on as it is."""

    model_config = ConfigDict(extra="ignore", frozen=True)


_Object = dict[str, Any]


class _Named(_Fields):
    name: StrictStr


class _Variable(_Named):
    value: StrictStr | None = None
    valueFrom: dict[str, _Object | None] | None = None


class _Source(_Fields):
    prefix: StrictStr | None = None


class _Port(_Fields):
    containerPort: StrictInt
    protocol: StrictStr | None = None


class _Mount(_Named):
    mountPath: StrictStr


class _Resources(_Fields):
    limits: dict[str, str | float] | None = None
    requests: dict[str, str | float] | None = None


class _Security(_Fields):
    runAsUser: StrictInt | None = None
    runAsGroup: StrictInt | None = None


class _Container(_Named):
    image: StrictStr | None = None
    env: list[_Variable] | None = None
    envFrom: list[_Source] | None = None
    ports: list[_Port] | None = None
    volumeMounts: list[_Mount] | None = None
    resources: _Resources | None = None
    securityContext: _Security | None = None
    livenessProbe: _Object | None = None
    readinessProbe: _Object | None = None
    startupProbe: _Object | None = None


class _Spec(_Fields):
    containers: list[_Container]
    initContainers: list[_Container] | None = None
    volumes: list[_Named] | None = None
    imagePullSecrets: list[_Named] | None = None
    nodeSelector: dict[str, StrictStr] | None = None
    securityContext: _Security | None = None
    terminationGracePeriodSeconds: StrictInt | None = Field(None, ge=0)


class _Metadata(_Fields):
    name: StrictStr = ""
    generateName: StrictStr = ""
    annotations: dict[StrictStr, StrictStr] | None = None
    deletionTimestamp: Any = None


class _Pod(_Fields):
    metadata: _Metadata
    spec: _Spec


class _Resource(_Fields):
    group: str
    resource: str


class _Request(_Fields):
    uid: StrictStr
    operation: StrictStr
    resource: _Resource
    subResource: StrictStr = ""
    namespace: StrictStr = ""
    object: _Object | None = None
    oldObject: _Object | None = None


class _Review(_Fields):
    apiVersion: Literal["admission.k8s.io/v1"]
    kind: Literal["AdmissionReview"]
    request: _Request


@dataclass(frozen=True, slots=True)
class ReviewResponse:
    """The response to a review.

    Attributes:
        review: The AdmissionReview with the response.
        log: What happened, for the log; empty if the pod is not rewritten.
    """

    review: dict[str, Any]
    log: str = ""


def answer(content: bytes, options: GatewayOptions) -> ReviewResponse:
    """Answer a review.

    Args:
        content: The AdmissionReview as JSON.
        options: How gateways run.

    Raises:
        InvalidReview: It is not a review of a pod.
    """
    try:
        request = _Review.model_validate(json.loads(content)).request
    except ValidationError as error:
        raise InvalidReview(f"not an AdmissionReview of v1: {_first_error(error)}") from None
    except (ValueError, RecursionError):
        raise InvalidReview("expected an AdmissionReview as JSON") from None
    response: dict[str, Any] = {"uid": request.uid, "allowed": True}
    log = ""
    if _concerns(request):
        pod = _valid_pod(request.object, "object")
        where = f"{request.operation} {request.namespace}/{_name(pod)}"
        try:
            rewritten = _rewrite(request, pod, options)
        except Denied as error:
            status = {"code": 400, "reason": "BadRequest", "message": str(error)}
            response |= {"allowed": False, "status": status}
            log = f"{where}: denied: {error}"
        else:
            if operations := make_patch(pod, rewritten.pod):
                patch = base64.b64encode(json.dumps(operations).encode()).decode()
                response |= {"patchType": "JSONPatch", "patch": patch}
                log = f"{where}: rewritten"
            if rewritten.warnings:
                response["warnings"] = [text[:_MAX_WARNING] for text in rewritten.warnings]
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
    return ReviewResponse(review, log)


def _concerns(request: _Request) -> bool:
    is_pod = (request.resource.group, request.resource.resource) == ("", "pods")
    return (
        is_pod
        and not request.subResource
        and request.namespace not in _UNTOUCHED_NAMESPACES
        and request.operation in ("CREATE", "UPDATE")
    )


def _rewrite(request: _Request, pod: dict[str, Any], options: GatewayOptions) -> Rewritten:
    is_ours = MODULES in (pod["metadata"].get("annotations") or {})
    if request.operation == "CREATE":
        if is_ours and not is_rewritten(pod):
            return rewrite(pod, options)
    elif not pod["metadata"].get("deletionTimestamp"):
        old = _valid_pod(request.oldObject, "oldObject")
        if is_rewritten(old):
            return rewrite_update(old, pod)
        if is_ours:
            message = f"{MODULES}: the pod was not created with it: delete and create it again"
            return Rewritten(pod, (message,))
    return Rewritten(pod)


def _valid_pod(value: dict[str, Any] | None, name: str) -> dict[str, Any]:
    if value is None:
        raise InvalidReview(f"request.{name}: expected a pod")
    try:
        _Pod.model_validate(value)
    except ValidationError as error:
        raise InvalidReview(f"request.{name}: not a pod: {_first_error(error)}") from None
    return value


def _name(pod: dict[str, Any]) -> str:
    metadata = pod["metadata"]
    return metadata.get("name") or f"{metadata.get('generateName', '')}*"


def _first_error(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}" if place else first["msg"]
