"""The admission webhook in deploy/chart/wagi, rendered by helm."""

from __future__ import annotations

import json

import pytest

from tests.support.helm import CHART, Manifest, find, helm, pod_specs, render
from tests.support.pod_security import violations
from tests.support.toolchains import python_module
from wagi import __version__

ALONE = ("--set", "webhook.enabled=true,gateway.enabled=false")


def webhook_of(*options: str) -> Manifest:
    (found,) = find(render(*ALONE, *options), "MutatingWebhookConfiguration")["webhooks"]
    assert isinstance(found, dict)
    return found


def test_nothing_by_default() -> None:
    assert not [item for item in render() if "webhook" in json.dumps(item["metadata"])]


def test_lint() -> None:
    done = helm("lint", "--strict", CHART, *ALONE)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("version", ["1.25", "1.29", "1.37"])
def test_the_schemas_of_kubernetes(version: str) -> None:
    python_module("kubernetes_validate")
    from kubernetes_validate import validate

    manifests = render(*ALONE, "--kube-version", f"{version}.0")
    assert len(manifests) == 9
    for manifest in manifests:
        validate(manifest, version, strict=True)


def test_pods_are_restricted() -> None:
    (spec,) = pod_specs(render(*ALONE))
    assert violations(spec) == []
    assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True


def test_its_service_selects_only_its_pods() -> None:
    manifests = render("--set", "webhook.enabled=true")
    deployments = {
        item["metadata"]["name"]: item["spec"]["template"]["metadata"]["labels"].items()
        for item in manifests
        if item["kind"] == "Deployment"
    }
    assert deployments.keys() == {"wagi", "wagi-webhook"}
    for service in (item for item in manifests if item["kind"] == "Service"):
        selector = service["spec"]["selector"].items()
        found = [name for name, labels in deployments.items() if selector <= labels]
        is_webhook = service["metadata"]["name"] == "wagi-webhook"
        assert found == ["wagi-webhook" if is_webhook else "wagi"]


def test_the_command_names_what_is_rendered() -> None:
    options = ("--set", "webhook.gatewayEnv.WAGI_TRUSTED_PROXY=10.0.0.0/8")
    manifests = render(*ALONE, *options)
    (spec,) = pod_specs(manifests)
    command, *arguments = spec["containers"][0]["args"]
    assert command == "webhook"
    given = dict(argument.removeprefix("--").split("=", 1) for argument in arguments)
    assert given["image"] == spec["containers"][0]["image"] == f"wagi:{__version__}"
    assert given["gateway-env"] == "WAGI_TRUSTED_PROXY=10.0.0.0/8"
    assert given["service"] == find(manifests, "Service")["metadata"]["name"]
    configuration = find(manifests, "MutatingWebhookConfiguration")
    assert given["configuration"] == configuration["metadata"]["name"]
    service = configuration["webhooks"][0]["clientConfig"]["service"]
    assert service["name"] == given["service"]


def test_the_least_rights() -> None:
    """For one secret and one configuration; only creating cannot be restricted to a name."""
    manifests = render(*ALONE)
    (spec,) = pod_specs(manifests)
    arguments = spec["containers"][0]["args"]
    role, cluster_role = (find(manifests, kind)["rules"] for kind in ("Role", "ClusterRole"))
    (secret,) = (item.split("=")[1] for item in arguments if item.startswith("--secret="))
    (name,) = (item.split("=")[1] for item in arguments if item.startswith("--configuration="))
    assert role == [
        {
            "apiGroups": [""],
            "resources": ["secrets"],
            "resourceNames": [secret],
            "verbs": ["get", "update"],
        },
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
    ]
    assert cluster_role == [
        {
            "apiGroups": ["admissionregistration.k8s.io"],
            "resources": ["mutatingwebhookconfigurations"],
            "resourceNames": [name],
            "verbs": ["get", "patch"],
        }
    ]


def test_the_configuration() -> None:
    webhook = webhook_of("--set", "webhook.excludedNamespaces={istio-system}")
    assert (webhook["failurePolicy"], webhook["sideEffects"]) == ("Ignore", "None")
    assert webhook["rules"][0]["resources"] == ["pods"]
    label, names = webhook["namespaceSelector"]["matchExpressions"]
    assert label == {"key": "wagi.dev/webhook", "operator": "NotIn", "values": ["disabled"]}
    assert {"kube-system", "istio-system"} <= set(names["values"])


def test_conditions_where_the_cluster_knows_them() -> None:
    assert "matchConditions" in webhook_of("--kube-version", "1.30.0")
    assert "matchConditions" not in webhook_of("--kube-version", "1.29.0")


def test_one_replica_can_be_evicted() -> None:
    kinds = [item["kind"] for item in render(*ALONE, "--set", "webhook.replicaCount=1")]
    assert "PodDisruptionBudget" not in kinds
    budget = find(render(*ALONE), "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1


def test_an_update_on_the_network_of_a_node() -> None:
    """Two pods on one node would need the same port."""

    def rolling(*options: str) -> object:
        return find(render(*ALONE, *options), "Deployment")["spec"]["strategy"]["rollingUpdate"]

    assert rolling() == {"maxSurge": 1, "maxUnavailable": 0}
    assert rolling("--set", "webhook.hostNetwork=true") == {"maxSurge": 0, "maxUnavailable": 1}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("webhook.failurePolicy=Maybe", "failurePolicy"),
        ("webhook.gatewayEnv.PATH=x", "PATH"),
        ("webhook.timeoutSeconds=60", "timeoutSeconds"),
        ("webhook.unknown=1", "unknown"),
    ],
)
def test_invalid_values(option: str, message: str) -> None:
    done = helm("template", "wagi", CHART, *ALONE, "--set", option)
    assert done.returncode != 0
    assert message in done.stderr
