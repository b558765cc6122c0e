"""A new pod becomes a pod of the gateway."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.krustlet import OPTIONS, handler, pod_of, seed
from tests.support.reviews import Json
from wagi.routemap.pod_injection import MANIFEST
from wagi.routemap.pod_manifest import DEFAULT_HOST, MODULES
from wagi.webhook.creation import rewrite
from wagi.webhook.errors import Denied
from wagi.webhook.gateway import GatewayOptions

pytestmark = pytest.mark.fast

TOKEN = {"name": "token-x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}


def gateway_of(pod: Json) -> Json:
    containers = rewrite(pod, OPTIONS).pod["spec"]["containers"]
    return next(item for item in containers if item["image"] == OPTIONS.image)


def variables_of(container: Json) -> dict[str, Any]:
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container["env"]}


def test_krustlets_pod() -> None:
    pod = seed()
    result = rewrite(pod, OPTIONS).pod
    spec = result["spec"]
    (gateway,) = spec["containers"]
    assert gateway["name"] == "sample"
    assert gateway["image"] == OPTIONS.image
    assert gateway["args"] == ["serve", "/etc/wagi/pod/pod.yaml"]
    assert variables_of(gateway)["WAGI_LISTEN"] == "0.0.0.0:3001"
    assert gateway["ports"] == [{"containerPort": 3001, "protocol": "TCP", "hostPort": 3001}]
    assert gateway["readinessProbe"]["httpGet"]["host"] == "127.0.0.1"
    assert spec["hostNetwork"] is True
    assert "nodeSelector" not in spec
    assert spec["automountServiceAccountToken"] is False
    manifest = json.loads(result["metadata"]["annotations"][MANIFEST])
    assert manifest["spec"]["containers"] == pod["spec"]["containers"]
    assert pod == seed(), "the argument is changed"


def test_the_result_is_restricted() -> None:
    """As the pod security standard "restricted" requires."""
    result = rewrite(pod_of(handler(securityContext={"privileged": True})), OPTIONS).pod
    (gateway,) = result["spec"]["containers"]
    assert gateway["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert result["spec"]["securityContext"] == {"fsGroup": 65532}


@pytest.mark.parametrize("where", ["pod", "container"])
def test_a_user_of_its_own(where: str) -> None:
    context = {"runAsUser": 1000}
    pod = (
        pod_of(handler(), securityContext=context)
        if where == "pod"
        else pod_of(handler(securityContext=context))
    )
    spec = rewrite(pod, OPTIONS).pod["spec"]
    own = spec["containers"][0]["securityContext"].get("runAsUser")
    assert (own or spec["securityContext"]["runAsUser"]) == 1000
    assert spec["securityContext"]["fsGroup"] == 1000


def test_root_is_not_kept() -> None:
    gateway = gateway_of(pod_of(handler(securityContext={"runAsUser": 0})))
    assert gateway["securityContext"]["runAsUser"] == 65532


def test_variables_are_left_to_the_kubelet() -> None:
    secret = {"secretKeyRef": {"name": "database", "key": "password"}}
    one = handler(
        env=[
            {"name": "HOST", "value": "db"},
            {"name": "PASSWORD", "valueFrom": secret},
            {"name": "URL", "value": "$(HOST):$(KUBERNETES_SERVICE_HOST) $$(HOST) $(URL)"},
            {"name": "EMPTY"},
        ]
    )
    two = handler(
        "two",
        env=[{"name": "HOST", "value": "$(LATER)"}],
        envFrom=[
            {"configMapRef": {"name": "settings"}},
            {"secretRef": {"name": "s"}, "prefix": "S_"},
        ],
    )
    gateway = gateway_of(pod_of(one, two))
    variables = variables_of(gateway)
    assert variables["WAGI_POD_0_HOST"] == "db"
    assert variables["WAGI_POD_0_PASSWORD"] == secret
    assert (
        variables["WAGI_POD_0_URL"]
        == "$(WAGI_POD_0_HOST):$(KUBERNETES_SERVICE_HOST) $$(HOST) $(URL)"
    )
    assert variables["WAGI_POD_0_EMPTY"] is None
    assert variables["WAGI_POD_1_HOST"] == "$(WAGI_POD_1_LATER)"
    assert gateway["envFrom"] == [
        {"configMapRef": {"name": "settings"}, "prefix": "WAGI_POD_1_"},
        {"secretRef": {"name": "s"}, "prefix": "WAGI_POD_1_S_"},
    ]


def test_resource_fields_name_the_gateways_container() -> None:
    field = {"resourceFieldRef": {"resource": "limits.memory", "containerName": "two"}}
    gateway = gateway_of(pod_of(handler(), handler("two", env=[{"name": "M", "valueFrom": field}])))
    found = variables_of(gateway)["WAGI_POD_1_M"]
    assert found == {"resourceFieldRef": {"resource": "limits.memory", "containerName": "one"}}


def test_volumes_are_mounted_once() -> None:
    volumes = [{"name": "data", "emptyDir": {}}, {"name": "settings", "configMap": {"name": "c"}}]
    one = handler(
        volumeMounts=[
            {"name": "data", "mountPath": "/data"},
            {"name": "settings", "mountPath": "/etc/a", "readOnly": True},
        ]
    )
    two = handler("two", volumeMounts=[{"name": "data", "mountPath": "/in", "readOnly": True}])
    result = rewrite(pod_of(one, two, volumes=volumes), OPTIONS).pod
    mounts = result["spec"]["containers"][0]["volumeMounts"]
    assert {"name": "data", "mountPath": "/var/lib/wagi/volumes/data"} in mounts
    settings = {"name": "settings", "mountPath": "/var/lib/wagi/volumes/settings", "readOnly": True}
    assert settings in mounts
    assert [item["name"] for item in result["spec"]["volumes"]] == [
        *("data", "settings", "wagi-pod", "wagi-cache", "wagi-tmp")
    ]


def test_pull_secrets_are_mounted() -> None:
    pod = pod_of(handler(), imagePullSecrets=[{"name": "first"}, {"name": "second"}])
    result = rewrite(pod, OPTIONS).pod
    (gateway,) = result["spec"]["containers"]
    (volume,) = [v for v in result["spec"]["volumes"] if v["name"] == "wagi-registries"]
    assert [source["secret"]["name"] for source in volume["projected"]["sources"]] == [
        *("first", "second")
    ]
    assert variables_of(gateway)["WAGI_REGISTRY_CONFIG"] == "/etc/wagi/registries"
    assert result["spec"]["imagePullSecrets"] == pod["spec"]["imagePullSecrets"]


def test_the_token_is_removed() -> None:
    """Handlers cannot read it. Another container keeps it."""
    volumes = [{"name": "token-x", "secret": {"secretName": "token-x"}}]
    alone = pod_of(handler(volumeMounts=[TOKEN]), volumes=volumes)
    assert "token-x" not in json.dumps(rewrite(alone, OPTIONS).pod["spec"])
    proxy = {"name": "proxy", "image": "registry.example/proxy", "volumeMounts": [TOKEN]}
    modules = {"one": {"route": "/"}}
    together = pod_of(handler(volumeMounts=[TOKEN]), proxy, modules=modules, volumes=volumes)
    spec = rewrite(together, OPTIONS).pod["spec"]
    assert TOKEN in spec["containers"][1]["volumeMounts"]
    assert TOKEN not in spec["containers"][0]["volumeMounts"]
    assert volumes[0] in spec["volumes"]


def test_containers_without_an_entry_are_ordinary() -> None:
    proxy = {"name": "proxy", "image": "registry.example/proxy"}
    modules = {"one": {"route": "/1"}, "two": {"route": "/2"}}
    pod = pod_of(proxy, handler(), handler("two"), modules=modules)
    rewritten = rewrite(pod, OPTIONS)
    assert [item["name"] for item in rewritten.pod["spec"]["containers"]] == ["proxy", "one"]
    assert rewritten.pod["spec"]["containers"][0] == proxy
    assert rewritten.warnings == (
        f"container 'proxy' has no entry in {MODULES}: it runs as an ordinary container",
    )


def test_resources_are_added() -> None:
    one = handler(resources={"limits": {"memory": "64Mi"}, "requests": {"cpu": "500m"}})
    two = handler("two", resources={"limits": {"memory": "0.5Gi"}, "requests": {"cpu": "1"}})
    gateway = gateway_of(pod_of(one, two))
    assert gateway["resources"] == {
        "limits": {"memory": "576Mi"},
        "requests": {"cpu": "1500m"},
    }
    assert variables_of(gateway)["WAGI_WORKERS"] == "2"


def test_a_handler_without_a_limit_has_none() -> None:
    one = handler(resources={"limits": {"memory": "64Mi", "cpu": "2"}})
    assert gateway_of(pod_of(one))["resources"] == {"limits": {"memory": "64Mi", "cpu": "2"}}
    assert "WAGI_WORKERS" not in variables_of(gateway_of(pod_of(one)))
    assert gateway_of(pod_of(one, handler("two")))["resources"] == {}


def test_probes_and_ports_are_kept() -> None:
    probe = {"httpGet": {"path": "/one", "port": "web"}, "periodSeconds": 7}
    one = handler(ports=[{"containerPort": 3000, "name": "web"}], livenessProbe=probe)
    gateway = gateway_of(pod_of(one))
    assert gateway["livenessProbe"] == probe
    assert gateway["ports"] == [{"containerPort": 3000, "name": "web"}]
    assert gateway["readinessProbe"]["httpGet"] == {
        "path": "/healthz",
        "port": 3000,
        "scheme": "HTTP",
    }


def test_several_probes_of_a_kind() -> None:
    one, two = (
        handler(name, readinessProbe={"httpGet": {"path": f"/{name}", "port": 3000}})
        for name in ("one", "two")
    )
    rewritten = rewrite(pod_of(one, two), OPTIONS)
    (gateway,) = rewritten.pod["spec"]["containers"]
    assert gateway["readinessProbe"]["httpGet"]["path"] == "/one"
    assert rewritten.warnings == (
        "container 'two': readinessProbe: ignored, that of 'one' is used",
    )


@pytest.mark.parametrize(("grace", "expected"), [(None, (5, 20)), (60, (5, 50)), (4, (1, 1))])
def test_the_drain_ends_before_the_grace_period(
    grace: int | None, expected: tuple[int, int]
) -> None:
    pod = pod_of(handler(), terminationGracePeriodSeconds=grace)
    variables = variables_of(gateway_of(pod))
    found = variables["WAGI_SHUTDOWN_DELAY"], variables["WAGI_SHUTDOWN_TIMEOUT"]
    assert found == tuple(map(str, expected))


def test_options_of_the_operator_take_precedence() -> None:
    options = GatewayOptions("wagi", variables={"WAGI_WORKERS": "3", "WAGI_LOG_DIR": "/tmp/logs"})
    (gateway,) = rewrite(pod_of(handler()), options).pod["spec"]["containers"]
    variables = variables_of(gateway)
    assert (variables["WAGI_WORKERS"], variables["WAGI_LOG_DIR"]) == ("3", "/tmp/logs")
    assert len(variables) == len(gateway["env"]), "a variable is there twice"


def test_other_selectors_are_kept() -> None:
    selector = {"kubernetes.io/arch": "amd64", "disk": "ssd", "type": "krustlet"}
    spec = rewrite(pod_of(handler(), nodeSelector=selector), OPTIONS).pod["spec"]
    assert spec["nodeSelector"] == {"kubernetes.io/arch": "amd64", "disk": "ssd"}


def test_affinity_for_krustlets_nodes_is_a_warning() -> None:
    term = {"matchExpressions": [{"key": "kubernetes.io/arch", "values": ["wasm32-wagi"]}]}
    affinity = {"nodeAffinity": {"required": [term]}}
    (warning,) = rewrite(pod_of(handler(), affinity=affinity), OPTIONS).warnings
    assert warning.startswith("spec.affinity: ")


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ('{"one": {"rout": "/"}}', "one: unknown key 'rout': did you mean 'route'?"),
        ('{"one": {"route": "x"}}', """one: route: expected a path that begins with "/", found"""),
        ('{"one": {"route": "/", "allowed_hosts": ["ftp://x"]}}', "one: allowed_hosts: 'ftp://x'"),
        ('{"two": {"route": "/"}}', "there is no container 'two'"),
        ('{"one": 5}', "one: expected a mapping, found 5"),
        ("{one: 5}", "not valid JSON: Expecting property name enclosed in double quotes"),
        ("[" * 100_000, "not valid JSON"),
        ("{}", "expected an entry for each handler's container, found none"),
        ("[]", "expected a mapping, found an array"),
    ],
)
def test_invalid_annotations(annotation: str, message: str) -> None:
    pod = pod_of(handler())
    pod["metadata"]["annotations"][MODULES] = annotation
    with pytest.raises(Denied) as caught:
        rewrite(pod, OPTIONS)
    assert f"{MODULES}: {message}" in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_two_modules_with_one_route() -> None:
    modules = {"one": {"route": "/"}, "two": {"route": "/"}}
    with pytest.raises(Denied, match="two: route: '/' is already the route of 'one'"):
        rewrite(pod_of(handler(), handler("two"), modules=modules), OPTIONS)


@pytest.mark.parametrize("address", ["0.0.0.0", ":3000", "a b:1", "0.0.0.0:0", "0.0.0.0:99999"])
def test_invalid_addresses(address: str) -> None:
    pod = pod_of(handler())
    pod["metadata"]["annotations"][DEFAULT_HOST] = address
    with pytest.raises(Denied, match=DEFAULT_HOST):
        rewrite(pod, OPTIONS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image": "Not An Image"}, "container 'one': image: "),
        ({"command": ["x"]}, "a handler has no command"),
        ({"args": ["x"]}, "a handler's arguments come from the request"),
        ({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "x"}]}, "subPath"),
        ({"livenessProbe": {"exec": {"command": ["x"]}}}, "livenessProbe.exec"),
        ({"lifecycle": {"preStop": {"exec": {"command": ["x"]}}}}, "lifecycle"),
        ({"resources": {"limits": {"cpu": "much"}}}, "expected a quantity such as 500m or 64Mi"),
    ],
)
def test_what_a_handler_cannot_have(fields: Json, message: str) -> None:
    with pytest.raises(Denied) as caught:
        rewrite(pod_of(handler(**fields)), OPTIONS)
    assert message in str(caught.value)


def test_a_mount_without_a_volume() -> None:
    """Such as one of those that the webhook adds, with the pull secrets."""
    pod = pod_of(handler(volumeMounts=[{"name": "wagi-registries", "mountPath": "/r"}]))
    with pytest.raises(Denied, match="the pod has no volume 'wagi-registries'"):
        rewrite(pod, OPTIONS)


def test_a_long_annotation_has_a_short_message() -> None:
    pod = pod_of(handler(), modules={"x" * 100_000: {"route": "/"}})
    with pytest.raises(Denied) as caught:
        rewrite(pod, OPTIONS)
    assert len(str(caught.value)) < 1100


def test_reserved_volumes() -> None:
    pod = pod_of(handler(), volumes=[{"name": "wagi-tmp", "emptyDir": {}}])
    with pytest.raises(Denied, match="'wagi-tmp' is reserved: rename the volume"):
        rewrite(pod, OPTIONS)
