"""``wagi webhook`` with a real API server, installed by the chart and with its rights."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator

import pytest

from tests.cluster.conftest import CONFIGURATION, NAME, NAMESPACE, Installation
from tests.support.cluster import Cluster
from tests.support.krustlet import POD
from tests.support.nginx import free_port
from tests.support.pod_security import violations
from tests.support.webhooks import IMAGE, Webhook

pytestmark = pytest.mark.xdist_group("containers")

MANIFEST = r"{.metadata.annotations.wagi\.dev/pod}"


@pytest.fixture(scope="module")
def webhook(installation: Installation) -> Iterator[Webhook]:
    with installation.webhook(IMAGE) as running:
        wait_until_called(installation.cluster)
        yield running


@pytest.fixture(autouse=True)
def _no_pods(cluster: Cluster) -> None:
    cluster.do("delete", "pod", "--all", "--force")


def pod(tag: str = "1.0.0", name: str = "sample") -> str:
    text = POD.replace("REGISTRY", "registry.example").replace("PORT", "3001")
    return text.replace("name: sample\n  ann", f"name: {name}\n  ann").replace("1.0.0", tag)


def wait_until_called(cluster: Cluster) -> None:
    """Wait until the API server trusts the webhook; until then, it ignores it."""

    def is_called() -> bool:
        text = cluster.apply(pod(name="probe"), "--dry-run=server", "-o", "json")
        return bool(json.loads(text)["spec"]["containers"][0]["image"] == IMAGE)

    cluster.wait_for(is_called, "the webhook is called")


def version(cluster: Cluster, name: str = "sample") -> str:
    return cluster.do("get", "pod", name, "-o", "jsonpath={.metadata.resourceVersion}")


def test_applying_the_pod_of_krustlet(cluster: Cluster, webhook: Webhook) -> None:
    """Created, then applied again without a change, then with another tag."""
    assert cluster.apply(pod()) == "pod/sample created\n"
    created = cluster.get("pod", "sample")
    (container,) = created["spec"]["containers"]
    assert (container["name"], container["image"]) == ("sample", IMAGE)
    assert "nodeSelector" not in created["spec"]
    assert [mount["name"] for mount in container["volumeMounts"]] == [
        *("wagi-pod", "wagi-cache", "wagi-tmp")
    ]
    cluster.apply(pod())
    assert cluster.get("pod", "sample") == created
    cluster.apply(pod("2.0.0"))
    updated = cluster.get("pod", "sample")
    assert updated["spec"] == created["spec"]
    assert "registry.example/sample:2.0.0" in updated["metadata"]["annotations"]["wagi.dev/pod"]
    before = version(cluster)
    cluster.apply(pod("2.0.0"))
    assert version(cluster) == before


def test_kubectl_set_image(cluster: Cluster, webhook: Webhook) -> None:
    cluster.apply(pod())
    cluster.do("set", "image", "pod/sample", "sample=registry.example/sample:3")
    assert cluster.get("pod", "sample")["spec"]["containers"][0]["image"] == IMAGE
    assert "sample:3" in cluster.do("get", "pod", "sample", "-o", f"jsonpath={MANIFEST}")


def test_server_side_apply(cluster: Cluster, webhook: Webhook) -> None:
    options = ("--server-side", "--force-conflicts")
    cluster.apply(pod(), *options)
    cluster.apply(pod(), *options)
    before = cluster.get("pod", "sample")["spec"]
    cluster.apply(pod("2.0.0"), *options)
    assert cluster.get("pod", "sample")["spec"] == before
    assert "sample:2.0.0" in cluster.do("get", "pod", "sample", "-o", f"jsonpath={MANIFEST}")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"route"', '"rout"', "sample: unknown key 'rout': did you mean 'route'?"),
        ('{"route": "/"}', "{", "not valid JSON"),
        (":3001", "", "expected ADDRESS:PORT, found '0.0.0.0'"),
        ("image: registry", "command: [x]\n      image: registry", "a handler has no command"),
    ],
)
def test_the_author_sees_what_is_wrong(
    cluster: Cluster, webhook: Webhook, old: str, new: str, message: str
) -> None:
    done = cluster.kubectl("apply", "-f", "-", given=pod().replace(old, new))
    assert done.returncode == 1
    prefix = 'admission webhook "pods.wagi.dev" denied the request: '
    assert prefix in done.stderr
    assert message in done.stderr.partition(prefix)[2]


def test_other_changes_are_rejected(cluster: Cluster, webhook: Webhook) -> None:
    cluster.apply(pod())
    before = version(cluster)
    changed = pod().replace("hostNetwork: true", "hostNetwork: false")
    done = cluster.kubectl("apply", "-f", "-", given=changed)
    assert "spec.hostNetwork: only images and the annotation of modules can change" in done.stderr
    assert version(cluster) == before


def test_all_kinds_of_variables_and_volumes_are_valid(cluster: Cluster, webhook: Webhook) -> None:
    """The API server accepts what the webhook makes of them, and it is restricted."""
    fields = {
        "env": [
            {"name": "A", "value": "$(B)"},
            {"name": "dotted.name", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
        ],
        "envFrom": [{"secretRef": {"name": "s"}}, {"configMapRef": {"name": "c"}, "prefix": "C_"}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "ports": [{"containerPort": 8080, "name": "web"}],
        "resources": {"requests": {"cpu": "250m"}, "limits": {"memory": "64Mi"}},
        "livenessProbe": {"httpGet": {"path": "/", "port": "web"}},
    }
    names = ("one", "two")
    containers = [{"name": name, "image": f"r.example/{name}:1", **fields} for name in names]
    containers[1]["livenessProbe"] = {"httpGet": {"path": "/two", "port": 8080}}
    modules = {name: {"route": f"/{name}"} for name in names}
    annotations = {
        "alpha.wagi.krustlet.dev/modules": json.dumps(modules),
        "alpha.wagi.krustlet.dev/default-host": "0.0.0.0:8080",
    }
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "full", "annotations": annotations},
        "spec": {
            "containers": containers,
            "imagePullSecrets": [{"name": "registry"}],
            "volumes": [{"name": "data", "configMap": {"name": "c", "optional": True}}],
        },
    }
    done = cluster.kubectl("apply", "-f", "-", given=json.dumps(manifest))
    assert done.returncode == 0, done.stderr
    assert "Warning: container 'two': livenessProbe: ignored" in done.stderr
    created = cluster.get("pod", "full")
    (container,) = created["spec"]["containers"]
    assert container["resources"] == {
        "limits": {"memory": "128Mi"},
        "requests": {"cpu": "500m", "memory": "128Mi"},
    }
    assert violations(created["spec"]) == []
    cluster.apply(manifest)
    assert cluster.get("pod", "full") == created


def test_namespaces_opt_out(cluster: Cluster, webhook: Webhook) -> None:
    cluster.do("create", "namespace", "plain")
    cluster.do("label", "namespace", "plain", "wagi.dev/webhook=disabled")
    for namespace in ("plain", "kube-system"):
        text = cluster.apply(pod(), "-n", namespace, "--dry-run=server", "-o", "json")
        image = json.loads(text)["spec"]["containers"][0]["image"]
        assert image == "registry.example/sample:1.0.0"


def test_a_new_authority_is_trusted(
    cluster: Cluster, installation: Installation, webhook: Webhook
) -> None:
    """If the secret is lost, all replicas agree on a new authority, beside the earlier one."""
    secret = ("secret", NAME, "-n", NAMESPACE)
    first = cluster.get(*secret)["data"]
    options = ("--certificate-lifetime", "60")
    with (
        installation.webhook(IMAGE, *options, port=free_port()) as second,
        installation.webhook(IMAGE, *options, port=free_port()) as third,
    ):
        assert cluster.get(*secret)["data"] == first, "replicas share the authority"
        cluster.do("delete", *secret)
        for replica in (second, third):
            replica.wait_for_log("issued a certificate for wagi-webhook.wagi.svc\n", 60)
        cluster.wait_for(lambda: _replaced(cluster, first), "a new authority", 60)
        cluster.apply(pod())
        assert cluster.get("pod", "sample")["spec"]["containers"][0]["image"] == IMAGE


def _replaced(cluster: Cluster, first: dict[str, str]) -> bool:
    done = cluster.kubectl("get", "secret", NAME, "-n", NAMESPACE, "-o", "json")
    if done.returncode != 0:
        return False
    data = json.loads(done.stdout)["data"]
    configuration = cluster.get("mutatingwebhookconfiguration", CONFIGURATION)
    bundle = configuration["webhooks"][0]["clientConfig"]["caBundle"]
    trusted = [base64.b64decode(text) for text in (bundle, data["ca.crt"], first["ca.crt"])]
    return trusted[0] == trusted[1] + trusted[2]


def test_a_certificate_is_renewed_without_a_restart(
    cluster: Cluster, installation: Installation, webhook: Webhook
) -> None:
    """No pod of a whole lifetime misses the webhook."""
    port = free_port()
    with installation.webhook(IMAGE, "--certificate-lifetime", "10", port=port) as short:
        address = f"https://localhost:{port}/mutate"
        _redirect(cluster, address)
        try:
            wait_until_called(cluster)
            begin = time.monotonic()
            number = 0
            while time.monotonic() - begin < 15 or short.log.count("issued a certificate") < 3:
                assert time.monotonic() - begin < 120, short.log
                text = cluster.apply(pod(name=f"n{number}"), "--dry-run=server", "-o", "json")
                assert json.loads(text)["spec"]["containers"][0]["image"] == IMAGE
                number += 1
        finally:
            _redirect(cluster, f"https://localhost:{installation.port}/mutate")


def _redirect(cluster: Cluster, url: str) -> None:
    patch = [{"op": "replace", "path": "/webhooks/0/clientConfig/url", "value": url}]
    cluster.do(
        *("patch", "mutatingwebhookconfiguration", CONFIGURATION, "--type=json"),
        *("--patch", json.dumps(patch)),
    )


def test_a_missing_right_is_reported(cluster: Cluster, installation: Installation) -> None:
    """The log names the right that is missing; the webhook starts when it has that right."""
    binding = ("rolebinding", NAME, "-n", NAMESPACE)
    saved = cluster.get(*binding)
    cluster.do("delete", *binding)
    with installation.webhook(IMAGE, port=free_port(), wait=False) as webhook:
        try:
            webhook.wait_for_log(f'secrets "{NAME}" is forbidden')
        finally:
            for key in ("uid", "resourceVersion", "creationTimestamp"):
                saved["metadata"].pop(key)
            cluster.apply(saved)
        webhook.wait_until_listening()


def test_the_bundle_is_a_certificate(cluster: Cluster, webhook: Webhook) -> None:
    trusted = cluster.get("mutatingwebhookconfiguration", CONFIGURATION)
    bundle = base64.b64decode(trusted["webhooks"][0]["clientConfig"]["caBundle"])
    assert bundle.startswith(b"-----BEGIN CERTIFICATE-----")
