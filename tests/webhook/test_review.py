"""Reviews: which pods are rewritten, the response, and hostile input."""

from __future__ import annotations

import contextlib
import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.krustlet import OPTIONS, seed
from tests.support.reviews import Json, patched, review
from wagi.routemap.pod_injection import MANIFEST
from wagi.routemap.pod_manifest import MODULES
from wagi.webhook.creation import rewrite
from wagi.webhook.errors import InvalidReview
from wagi.webhook.review import answer

pytestmark = pytest.mark.fast


def respond(value: Json) -> Json:
    result = answer(json.dumps(value).encode(), OPTIONS).review
    assert (result["apiVersion"], result["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response: Json = result["response"]
    assert response["uid"] == value["request"]["uid"]
    return response


def test_a_new_pod_is_patched() -> None:
    response = respond(review(seed()))
    assert response["allowed"] is True
    assert response["patchType"] == "JSONPatch"
    assert patched(seed(), response) == rewrite(seed(), OPTIONS).pod


def test_a_pod_without_annotations_is_untouched() -> None:
    pod = seed()
    del pod["metadata"]["annotations"]
    assert respond(review(pod)) == {"uid": review(pod)["request"]["uid"], "allowed": True}


def test_an_invalid_pod_is_denied() -> None:
    pod = seed()
    pod["metadata"]["annotations"][MODULES] = "{}"
    result = answer(json.dumps(review(pod)).encode(), OPTIONS)
    response = result.review["response"]
    assert response["allowed"] is False
    assert response["status"]["code"] == 400
    assert MODULES in response["status"]["message"]
    assert result.log == f"CREATE default/sample: denied: {response['status']['message']}"


@pytest.mark.parametrize("namespace", ["kube-system", "kube-public", "kube-node-lease"])
def test_namespaces_of_kubernetes_are_untouched(namespace: str) -> None:
    assert "patch" not in respond(review(seed(), namespace=namespace))


def test_an_exported_pod_is_untouched() -> None:
    """It was rewritten before: ``kubectl get -o yaml``, then ``kubectl create``."""
    assert "patch" not in respond(review(rewrite(seed(), OPTIONS).pod))


def test_an_update_is_reverted() -> None:
    live = rewrite(seed(), OPTIONS).pod
    new = copy.deepcopy(live)
    new["spec"]["containers"][0]["image"] = "registry.example/sample:2"
    result = patched(new, respond(review(new, "UPDATE", live)))
    assert result["spec"] == live["spec"]
    assert "sample:2" in result["metadata"]["annotations"][MANIFEST]


def test_a_pod_that_is_deleted_is_untouched() -> None:
    live = rewrite(seed(), OPTIONS).pod
    new = copy.deepcopy(live)
    new["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    new["spec"]["containers"][0]["image"] = "x"
    assert "patch" not in respond(review(new, "UPDATE", live))


def test_a_pod_from_before_the_webhook() -> None:
    (warning,) = respond(review(seed(), "UPDATE", seed()))["warnings"]
    assert "delete and create it again" in warning


@pytest.mark.parametrize(
    "change",
    [
        {"subResource": "status"},
        {"operation": "DELETE", "object": None},
        {"resource": {"group": "apps", "version": "v1", "resource": "deployments"}},
    ],
)
def test_other_requests_are_allowed(change: Json) -> None:
    value = review(seed())
    value["request"] |= change
    assert respond(value).keys() == {"uid", "allowed"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        b"[]",
        b"null",
        b"{}",
        b"\xff",
        b"[" * 1_000_000,
        b'{"a":' * 500_000,
        b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}',
        b'{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{}}',
    ],
)
def test_what_is_no_review(content: bytes) -> None:
    with pytest.raises(InvalidReview) as caught:
        answer(content, OPTIONS)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("object", None),
        ("object", {}),
        ("object", {"metadata": {}, "spec": {}}),
        ("object/metadata", []),
        ("object/metadata/annotations", {"a": 1}),
        ("object/spec", "x"),
        ("object/spec/containers", {}),
        ("object/spec/containers", [1]),
        ("object/spec/containers", [{"image": "x"}]),
        ("object/spec/containers/0/env", [{"value": "x"}]),
        ("object/spec/containers/0/volumeMounts", "x"),
        ("object/spec/volumes", [None]),
        ("object/spec/terminationGracePeriodSeconds", -1),
    ],
)
def test_what_is_no_pod(path: str, value: Any) -> None:
    content = review(seed())
    target: Any = content["request"]
    *parents, last = path.split("/")
    for part in parents:
        target = target[int(part) if part.isdigit() else part]
    target[last] = value
    with pytest.raises(InvalidReview, match=r"request\.object: "):
        answer(json.dumps(content).encode(), OPTIONS)


_KEYS = st.sampled_from(["name", "limits", "prefix", "exec", "valueFrom", "mountPath", "value"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=8,
)
_FIELDS = [
    *("env", "envFrom", "ports", "volumeMounts", "resources", "securityContext", "image", "name"),
    *("livenessProbe", "lifecycle", "imagePullPolicy", "command"),
]


@given(st.dictionaries(st.sampled_from(_FIELDS), _JSON), st.booleans())
def test_any_container_is_answered(fields: Json, is_update: bool) -> None:
    """Whatever a client sends, the result is a response or InvalidReview."""
    pod = seed()
    pod["spec"]["containers"][0] |= fields
    value = review(pod, "UPDATE", rewrite(seed(), OPTIONS).pod) if is_update else review(pod)
    with contextlib.suppress(InvalidReview):
        respond(value)
