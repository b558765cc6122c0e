"""What may change in a running pod, and what ``kubectl apply`` merges into it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tests.support.krustlet import OPTIONS, handler, pod_of, seed
from tests.support.reviews import Json, merged
from wagi.routemap.pod_injection import MANIFEST
from wagi.routemap.pod_manifest import DEFAULT_HOST, MODULES
from wagi.webhook.creation import rewrite
from wagi.webhook.errors import Denied
from wagi.webhook.patch import make_patch
from wagi.webhook.update import rewrite_update

pytestmark = pytest.mark.fast

APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def applied(author: Json) -> Json:
    """A manifest with the annotation that ``kubectl apply`` adds."""
    pod = copy.deepcopy(author)
    pod["metadata"].setdefault("annotations", {})[APPLIED] = json.dumps(author)
    return pod


def live_pod(author: Json) -> Json:
    return rewrite(applied(author), OPTIONS).pod


def apply(author: Json, changed: Json) -> Json:
    """Apply a manifest, change it and apply it again; return the pod."""
    live = live_pod(author)
    return rewrite_update(live, merged(live, applied(changed))).pod


def full_pod() -> Json:
    one = handler(
        env=[{"name": "A", "value": "a"}],
        volumeMounts=[{"name": "data", "mountPath": "/data"}],
        ports=[{"containerPort": 8080, "name": "web"}],
        resources={"limits": {"memory": "64Mi"}},
        securityContext={"runAsNonRoot": True},
    )
    two = handler("two", resources={"limits": {"memory": "64Mi"}}, env=[{"name": "A"}])
    selector = {"kubernetes.io/arch": "wasm32-wagi", "disk": "ssd"}
    data = {"name": "data", "emptyDir": {}}
    return pod_of(one, two, nodeSelector=selector, volumes=[data], securityContext={"fsGroup": 7})


@pytest.mark.parametrize("author", [seed(), full_pod()], ids=["seed", "full"])
def test_applying_again_changes_nothing(author: Json) -> None:
    assert apply(author, author) == live_pod(author)


def test_a_label_may_change() -> None:
    changed = seed()
    changed["metadata"]["labels"] = {"a": "b"}
    result = apply(seed(), changed)
    assert result["metadata"]["labels"] == {"a": "b"}
    assert result["spec"] == live_pod(seed())["spec"]


@pytest.mark.parametrize("index", [0, 1])
def test_an_image_may_change(index: int) -> None:
    author = full_pod()
    changed = copy.deepcopy(author)
    changed["spec"]["containers"][index]["image"] = "registry.example/new:2"
    result = apply(author, changed)
    assert result["spec"] == live_pod(author)["spec"]
    manifest = json.loads(result["metadata"]["annotations"][MANIFEST])
    assert manifest["spec"]["containers"][index]["image"] == "registry.example/new:2"
    again = rewrite_update(result, merged(result, applied(changed))).pod
    assert again == result


def test_kubectl_set_image() -> None:
    """It changes the image of the gateway's container, without the rest of the manifest."""
    live = live_pod(seed())
    new = copy.deepcopy(live)
    new["spec"]["containers"][0]["image"] = "registry.example/new:2"
    result = rewrite_update(live, new).pod
    assert result["spec"] == live["spec"]
    assert "registry.example/new:2" in result["metadata"]["annotations"][MANIFEST]


def test_a_route_may_change() -> None:
    changed = seed()
    changed["metadata"]["annotations"][MODULES] = '{"sample": {"route": "/new"}}'
    result = apply(seed(), changed)
    assert result["spec"] == live_pod(seed())["spec"]
    assert '\\"/new\\"' in result["metadata"]["annotations"][MANIFEST]


def test_the_manifest_cannot_be_changed_by_others() -> None:
    live = live_pod(seed())
    new = copy.deepcopy(live)
    new["metadata"]["annotations"][MANIFEST] = "{}"
    assert rewrite_update(live, new).pod == live


def test_an_invalid_annotation_is_denied() -> None:
    changed = seed()
    changed["metadata"]["annotations"][MODULES] = '{"sample": {"rout": "/"}}'
    with pytest.raises(Denied, match="unknown key 'rout': did you mean 'route'"):
        apply(seed(), changed)


def _change(path: str, value: Any) -> Json:
    author = full_pod()
    target: Any = author
    *parents, last = path.split("/")
    for part in parents:
        target = target[int(part) if part.isdigit() else part]
    if value is None:
        del target[last]
    else:
        target[last] = value
    return author


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("spec/containers/0/env", [{"name": "A", "value": "b"}], "spec.containers[one].env[A]"),
        ("spec/containers/0/env", [{"name": "B"}], "spec.containers[one].env[A]"),
        ("spec/containers/0/env", None, "spec.containers[one].env"),
        ("spec/containers/1/env", [{"name": "A"}, {"name": "N"}], "spec.containers[two].env[N]"),
        ("spec/containers/0/resources", {"limits": {"memory": "1Gi"}}, "[one].resources.limits"),
        ("spec/nodeSelector", {"disk": "hdd"}, "spec.nodeSelector"),
        ("spec/volumes", [{"name": "more", "emptyDir": {}}], "spec.volumes[data]"),
        ("spec/containers", [handler()], "spec.containers[one]"),
        ("metadata/annotations", {}, f"{MODULES} is removed"),
    ],
)
def test_other_changes_are_denied(path: str, value: Any, where: str) -> None:
    author, changed = full_pod(), _change(path, value)
    live = live_pod(author)
    new = merged(live, applied(changed))
    if path == "metadata/annotations":
        del new["metadata"]["annotations"][MODULES]
    with pytest.raises(Denied) as caught:
        rewrite_update(live, new)
    assert where in str(caught.value)
    assert "only images and the annotation of modules can change" in str(caught.value)


@pytest.mark.parametrize("field", ["env", "volumeMounts", "resources", "securityContext"])
def test_changes_of_the_pod_itself_are_denied(field: str) -> None:
    """As by ``kubectl edit``, without a record of what its author wrote."""
    live = rewrite(full_pod(), OPTIONS).pod
    new = copy.deepcopy(live)
    container = new["spec"]["containers"][0]
    if isinstance(container[field], list):
        container[field].append({"name": "new", "mountPath": "/new"})
    else:
        container[field]["new"] = "x"
    with pytest.raises(Denied, match=rf"spec.containers\[one\].{field}"):
        rewrite_update(live, new)


def test_another_address_is_denied() -> None:
    changed = seed()
    changed["metadata"]["annotations"][DEFAULT_HOST] = "0.0.0.0:80"
    with pytest.raises(Denied, match=f"{DEFAULT_HOST} is changed"):
        apply(seed(), changed)


def test_ordinary_containers_may_get_another_image() -> None:
    proxy = {"name": "proxy", "image": "registry.example/proxy:1"}
    author = pod_of(proxy, handler(), modules={"one": {"route": "/"}})
    changed = copy.deepcopy(author)
    changed["spec"]["containers"][0]["image"] = "registry.example/proxy:2"
    live = live_pod(author)
    result = rewrite_update(live, merged(live, changed)).pod
    assert result["spec"]["containers"][0]["image"] == "registry.example/proxy:2"
    assert result["spec"]["containers"][1] == live["spec"]["containers"][1]


def test_tolerations_are_left_to_the_api_server() -> None:
    changed = seed()
    changed["spec"]["tolerations"] = [{"key": "a", "operator": "Exists"}]
    assert apply(seed(), changed)["spec"]["tolerations"] == changed["spec"]["tolerations"]


def test_a_patch_has_only_what_changes() -> None:
    live = live_pod(seed())
    assert make_patch(live, rewrite_update(live, copy.deepcopy(live)).pod) == []
    new = copy.deepcopy(live)
    new["spec"]["containers"][0]["image"] = "registry.example/new:2"
    operations = make_patch(new, rewrite_update(live, new).pod)
    assert sorted(item["path"] for item in operations) == [
        "/metadata/annotations/wagi.dev~1pod",
        "/spec/containers",
    ]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"spec": 1}', "[" * 100_000])
def test_an_invalid_manifest_is_left_alone(text: str) -> None:
    """Nothing prevents an update of the pod, such as the removal of a finalizer."""
    live = live_pod(seed())
    live["metadata"]["annotations"][MANIFEST] = text
    rewritten = rewrite_update(live, live)
    assert rewritten.pod == live
    assert rewritten.warnings
