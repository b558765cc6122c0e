"""deploy/chart/wagi, rendered by helm: what Kubernetes gets, and what it rejects."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import tomli
import yaml

from docs import chart
from tests.support.helm import CHART, VALUES, Manifest, find, helm, pod_specs, render
from tests.support.pod_security import violations
from tests.support.server import ROOT
from tests.support.toolchains import python_module
from wagi import __version__

VERSIONS = [f"1.{minor}" for minor in range(25, 38)]
WITHOUT_SCHEMA = {"HTTPRoute", "ServiceMonitor", "ScaledObject"}
"""Kinds that extensions define; Kubernetes has no schema of them."""


def values(path: Path) -> str:
    return path.name.removesuffix("-values.yaml")


each_file = pytest.mark.parametrize("path", [None, *VALUES], ids=lambda p: p and values(p))


def rendered(path: Path | None) -> list[Manifest]:
    return render(*file_option(path))


def file_option(path: Path | None) -> list[str]:
    return ["-f", str(path)] if path else []


def test_there_are_value_files_for_the_usual_cases() -> None:
    names = {values(path) for path in VALUES}
    assert names >= {"minimal", "full", "existing-configmap", "registry", "toml", "keda"}


@each_file
def test_lint(path: Path | None) -> None:
    done = helm("lint", "--strict", CHART, *file_option(path))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


@pytest.fixture(scope="module")
def distinct() -> list[Manifest]:
    """The manifests of all value files, without those that are equal."""
    manifests = [m for path in (None, *VALUES) for m in rendered(path)]
    return list({json.dumps(m): m for m in manifests}.values())


@pytest.mark.parametrize("version", VERSIONS)
def test_the_schemas_of_kubernetes(distinct: list[Manifest], version: str) -> None:
    python_module("kubernetes_validate")
    from kubernetes_validate import validate

    checked = [m for m in distinct if m["kind"] not in WITHOUT_SCHEMA]
    assert len(checked) > 20
    for manifest in checked:
        validate(manifest, version, strict=True)


@each_file
def test_pods_are_restricted_and_have_no_token(path: Path | None) -> None:
    specs = pod_specs(rendered(path))
    assert len(specs) == 2  # the gateway, and the pod of helm test
    for spec in specs:
        assert violations(spec) == []
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert [m for m in container.get("volumeMounts", []) if "subPath" in m] == []


def test_accounts_have_no_token_either() -> None:
    assert find(render(), "ServiceAccount")["automountServiceAccountToken"] is False


@each_file
def test_no_secret_is_rendered(path: Path | None) -> None:
    """Secrets are named, never part of values, which Helm stores and prints."""
    assert not [m for m in rendered(path) if m["kind"] == "Secret"]


@each_file
def test_services_select_the_gateway_alone(path: Path | None) -> None:
    """Not the pod of helm test, nor other pods of the release; the admin port is separate."""
    manifests = rendered(path)
    pods = [m["metadata"]["labels"] for m in manifests if m["kind"] == "Pod"]
    gateway = find(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    services = [m for m in manifests if m["kind"] == "Service"]
    assert services
    for service in services:
        selector = service["spec"]["selector"].items()
        assert selector <= gateway.items()
        assert not [labels for labels in pods if selector <= labels.items()]
    (public,) = (s for s in services if not s["metadata"]["name"].endswith("-metrics"))
    assert [port["targetPort"] for port in public["spec"]["ports"]] == ["http"]


def test_the_full_values_change_every_default() -> None:
    """So that the other tests cover every value of the chart."""
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    full = yaml.safe_load((CHART / "ci/full-values.yaml").read_text())
    elsewhere = {
        *("existingConfigMap", "registrySecret", "environmentSecret", "rollOnConfigChange"),
        *("workers", "hostNetwork", "webhook", "securityContext", "readinessProbe"),
    }
    assert defaults.keys() - full.keys() == elsewhere
    others = {key for path in VALUES for key in yaml.safe_load(path.read_text())}
    assert elsewhere - others == {"hostNetwork", "webhook", "securityContext", "readinessProbe"}


class TestDeployment:
    def container(self, *options: str | Path) -> Manifest:
        spec = find(render(*options), "Deployment")["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        assert isinstance(container, dict)
        return container

    @pytest.mark.parametrize(
        ("resources", "workers"),
        [
            ({}, 1),
            ({"requests": {"cpu": "500m"}}, 1),
            ({"requests": {"cpu": "1001m"}}, 2),
            ({"requests": {"cpu": 2}}, 2),
            ({"requests": {"cpu": "2.5"}}, 3),
            ({"requests": {"cpu": None}, "limits": {"cpu": "4"}}, 4),
            ({"requests": {"cpu": "16"}, "limits": {"cpu": "32"}}, 16),
        ],
    )
    def test_workers_follow_the_cpu_request(
        self, resources: dict[str, object], workers: int
    ) -> None:
        options = ["--set-json", f"resources={json.dumps(resources)}"]
        assert f"--workers={workers}" in self.container(*options)["args"]
        assert "--workers=7" in self.container(*options, "--set", "workers=7")["args"]

    def test_without_any_resources(self) -> None:
        container = self.container("--set", "resources=null")
        assert "--workers=1" in container["args"]
        assert "resources" not in container

    @pytest.mark.parametrize("path", VALUES, ids=values)
    def test_the_grace_period_exceeds_the_drain(self, path: Path) -> None:
        spec = find(rendered(path), "Deployment")["spec"]["template"]["spec"]
        options = dict(a.split("=", 1) for a in spec["containers"][0]["args"] if "=" in a)
        drain = float(options["--shutdown-delay"]) + float(options["--shutdown-timeout"])
        assert spec["terminationGracePeriodSeconds"] >= drain + 5

    def test_probes_use_the_admin_port(self) -> None:
        container = self.container()
        assert [port["name"] for port in container["ports"]] == ["http", "admin"]
        paths = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
        for probe, path in paths.items():
            assert container[probe]["httpGet"] == {"path": path, "port": "admin"}

    def test_the_hash_of_the_configuration(self) -> None:
        """Without it, a changed ConfigMap is reloaded."""
        option = ("--set", "rollOnConfigChange=true,modules[0].route=/,modules[0].module=a.wat")

        def checksum(*more: str) -> object:
            template = find(render(*option, *more), "Deployment")["spec"]["template"]
            assert "--reload-on-change" not in template["spec"]["containers"][0]["args"]
            return template["metadata"]["annotations"]["checksum/config"]

        first = checksum("--set", "files.a=x")
        assert first == checksum("--set", "files.a=x")
        assert first != checksum("--set", "files.a=y")
        assert "--reload-on-change" in self.container()["args"]
        assert "annotations" not in find(render(), "Deployment")["spec"]["template"]["metadata"]

    def test_replicas_are_omitted_if_something_else_scales(self) -> None:
        def replicas(*options: str) -> object:
            return find(render(*options), "Deployment")["spec"].get("replicas", "omitted")

        assert replicas() == 1
        assert replicas("--set", "replicaCount=0") == 0
        assert replicas("--set", "replicaCount=null") == "omitted"
        assert replicas("--set", "autoscaling.enabled=true") == "omitted"

    def test_strategies(self) -> None:
        """The default of ``rollingUpdate`` does not remain in a strategy that rejects it."""
        found = find(render("--set", "strategy.type=Recreate"), "Deployment")["spec"]
        assert found["strategy"] == {"type": "Recreate"}
        assert "strategy" not in find(render("--set", "strategy=null"), "Deployment")["spec"]

    def test_the_network_of_the_node(self) -> None:
        for spec in pod_specs(render("--set", "hostNetwork=true")):
            assert (spec["hostNetwork"], spec["dnsPolicy"]) == (True, "ClusterFirstWithHostNet")
        spec, _ = pod_specs(render("--set", "hostNetwork=true,dnsPolicy=Default"))
        assert spec["dnsPolicy"] == "Default"

    def test_an_image_by_digest(self) -> None:
        digest = "sha256:" + "0" * 64
        options = ("--set", f"image.repository=r.example/wagi,image.tag=v1,image.digest={digest}")
        assert self.container(*options)["image"] == f"r.example/wagi@{digest}"
        assert self.container()["image"] == f"wagi:{__version__}"

    @pytest.mark.parametrize(
        ("value", "expected"),
        [("", []), ("text", ["--access-log=text"]), ("off", ["--access-log=off"])],
    )
    def test_the_access_log(self, tmp_path: Path, value: str, expected: list[str]) -> None:
        file = tmp_path / "values.yaml"
        file.write_text("accessLog: " + (value or '""') + "\n")
        arguments = self.container("-f", file)["args"]
        assert [a for a in arguments if a.startswith("--access-log")] == expected
        assert "--log-format=json" in arguments

    def test_labels_of_pods_cannot_break_the_selector(self) -> None:
        manifest = find(rendered(CHART / "ci/full-values.yaml"), "Deployment")["spec"]
        labels = manifest["template"]["metadata"]["labels"]
        assert manifest["selector"]["matchLabels"].items() <= labels.items()
        assert labels["team"] == "web"

    def test_the_gateway_can_be_left_out(self) -> None:
        """For a release with nothing but the webhook."""
        assert render("--set", "gateway.enabled=false") == []


class TestNetworkPolicy:
    def policy(self, *options: str) -> Manifest:
        spec = find(render("--set", "networkPolicy.enabled=true", *options), "NetworkPolicy")
        assert isinstance(spec["spec"], dict)
        return spec["spec"]

    def test_no_rule_allows_everything(self) -> None:
        """A rule without ``from`` or ``to`` would allow all peers."""
        for more in ([], ["-f", str(CHART / "ci/registry-values.yaml")]):
            policy = self.policy(*more)
            assert policy["policyTypes"] == ["Ingress", "Egress"]
            assert all(rule["from"] and rule["ports"] for rule in policy["ingress"])
            assert all(rule["to"] for rule in policy["egress"])

    def test_defaults(self) -> None:
        policy = self.policy()
        (rule,) = policy["ingress"]
        assert rule["from"] == [{"podSelector": {}}]
        assert [port["port"] for port in rule["ports"]] == ["http"]
        (rule,) = policy["egress"]
        assert {port["port"] for port in rule["ports"]} == {53}

    def test_metrics_are_for_the_peers_that_are_named(self) -> None:
        path = CHART / "ci/registry-values.yaml"
        requests, metrics = self.policy("-f", str(path))["ingress"]
        found = yaml.safe_load(path.read_text())["networkPolicy"]
        assert (requests["ports"][0]["port"], requests["from"]) == ("http", found["ingressFrom"])
        assert (metrics["ports"][0]["port"], metrics["from"]) == ("admin", found["metricsFrom"])

    def test_without_any_peer(self) -> None:
        assert self.policy("--set", "networkPolicy.allowSameNamespace=false")["ingress"] == []

    def test_a_peer_without_a_selector_is_rejected(self) -> None:
        done = helm("template", CHART, "--set-json", "networkPolicy.ingressFrom=[{}]")
        assert "at '/networkPolicy/ingressFrom/0': minProperties" in done.stderr


REJECTED = [
    ({"replicas": 2}, "additional properties 'replicas' not allowed"),
    ({"image": {"name": "x"}}, "at '/image': additional properties 'name' not allowed"),
    ({"replicaCount": "two"}, "at '/replicaCount': got string, want null or integer"),
    ({"workers": -1}, "at '/workers': minimum: got -1, want 0"),
    ({"accessLog": "xml"}, "at '/accessLog': value must be one of '', 'text', 'json', 'off'"),
    ({"trustedProxies": ["example.com"]}, "at '/trustedProxies/0': 'example.com' does not match"),
    ({"memoryBudget": "much"}, "at '/memoryBudget': 'much' does not match pattern"),
    ({"resources": {"requests": {"cpu": "two"}}}, "'two' does not match pattern"),
    ({"modules": [{"route": "/", "modul": "a"}]}, "additional properties 'modul' not allowed"),
    ({"modules": [{"route": "/"}]}, "at '/modules/0': missing property 'module'"),
    ({"modules": [{"static": "a"}]}, "at '/modules/0': missing property 'route'"),
    ({"moduleDefaults": {"timeout": "5"}}, "at '/moduleDefaults/timeout': got string, want number"),
    ({"files": {"../escape": ""}}, "'../escape' does not match pattern"),
    ({"files": {"/etc/passwd": ""}}, "'/etc/passwd' does not match pattern"),
    ({"binaryFiles": {"a": "?"}}, "at '/binaryFiles/a': '?' does not match pattern"),
    ({"fullnameOverride": "a\nb: c"}, "at '/fullnameOverride': 'a\\nb: c' does not match pattern"),
    ({"existingConfigMap": "a: b"}, "at '/existingConfigMap': 'a: b' does not match pattern"),
    ({"registrySecret": {"password": "x"}}, "at '/registrySecret': got object, want string"),
    ({"podAnnotations": {"a": True}}, "at '/podAnnotations/a': got boolean, want string"),
    ({"extraArgs": "--workers 2"}, "at '/extraArgs': got string, want array"),
    (
        {"modules": "#", "files": {"a.wasm": "x"}},
        "files: a.wasm is binary: put it into binaryFiles, as base64",
    ),
    ({"modules": "#", "files": {"a": "\0asm"}}, "files: a is binary: put it into binaryFiles"),
    ({"extraArgs": ["\x7f"]}, "at '/extraArgs/0': '\\x7f' does not match pattern"),
    ({"image": {"tag": 1.0}}, "at '/image/tag': got number, want string"),
    (
        {"modules": "#", "files": {"modules.toml": "x"}},
        "files, binaryFiles: modules.toml: another file has the key modules.toml in the ConfigMap",
    ),
    (
        {"modules": "#", "files": {"a/b": "x"}, "binaryFiles": {"a__b": "AA=="}},
        "files, binaryFiles: a__b: another file has the key a__b in the ConfigMap",
    ),
    (
        {"modules": "#", "files": {"a": "x", "a/b": "z"}},
        "files, binaryFiles: a is a file, so there cannot be a/b",
    ),
    ({"modules": "[[module]\n"}, "modules: not valid TOML: "),
    (
        {"modules": "#", "files": {"a": "x" * 1024 * 1100}},
        "they have 1100 KiB, but a ConfigMap holds at most 1024 KiB: push modules to a registry",
    ),
    (
        {"existingConfigMap": "a", "files": {"a": "x"}},
        "existingConfigMap: it takes the place of modules, moduleDefaults, files and binaryFiles",
    ),
    (
        {"existingConfigMap": "a", "rollOnConfigChange": True},
        "rollOnConfigChange: it has no effect on existingConfigMap",
    ),
    (
        {"moduleDefaults": {"timeout": 5}},
        "modules: it is empty, so moduleDefaults, files and binaryFiles have no effect: add",
    ),
    (
        {"modules": "[[module]]", "moduleDefaults": {"timeout": 5}},
        "moduleDefaults: modules is a string, so write the table [defaults] in it",
    ),
    (
        {"terminationGracePeriodSeconds": 20},
        "terminationGracePeriodSeconds: 20 is less than shutdownDelay + shutdownTimeout = 35",
    ),
    (
        {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 2}},
        "autoscaling: maxReplicas is less than minReplicas",
    ),
    (
        {"autoscaling": {"enabled": True, "targetCPUUtilizationPercentage": None}},
        "autoscaling: set targetCPUUtilizationPercentage",
    ),
]


@pytest.mark.parametrize(("changes", "message"), REJECTED, ids=lambda v: str(v)[:40])
def test_wrong_values_are_rejected(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(changes))
    done = helm("template", CHART, "-f", file)
    assert done.returncode == 1
    assert message in done.stderr


class TestInjection:
    """Values that look like YAML, templates or TOML stay values."""

    NASTY = (
        "\"quoted\" 'single' \\ {{ .Release.Name }} ${HOME} $(VAR) # no comment",
        "two\nlines: [\n---\nkind: Pod",
        "on",
        "0x1F",
        "null",
        "- &anchor *alias !tag | > % @ `",
        "ü 日本 \u2028",
    )

    @pytest.mark.parametrize("text", NASTY)
    def test_texts(self, tmp_path: Path, text: str) -> None:
        given = {
            "modules": [{"route": "/", "module": "m.wat", "environment": {"A": text, text: "B"}}],
            "files": {"m.wat": text},
            "podAnnotations": {"a": text},
            "extraEnv": [{"name": "A", "value": text}],
            "extraArgs": [text],
            "ingress": {"enabled": True, "annotations": {"a": text}},
        }
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump(given))
        manifests = render("-f", file)
        assert len(manifests) == len(render("--set", "ingress.enabled=true"))
        data = find(manifests, "ConfigMap")["data"]
        assert data["m.wat"] == text
        (entry,) = tomli.loads(data["modules.toml"])["module"]
        assert entry["environment"] == {"A": text, text: "B"}
        template = find(manifests, "Deployment")["spec"]["template"]
        assert template["metadata"]["annotations"] == {"a": text}
        (container,) = template["spec"]["containers"]
        assert container["env"] == [{"name": "A", "value": text}]
        assert container["args"][-1] == text
        assert find(manifests, "Ingress")["metadata"]["annotations"] == {"a": text}

    @pytest.mark.parametrize("name", ["on", "null", "1234", "0x1f", "1e3"])
    def test_names_that_look_like_other_types(self, name: str) -> None:
        for manifest in render("--set-string", "nameOverride=no", release=name):
            metadata = manifest["metadata"]
            assert all(isinstance(value, str) for value in metadata["labels"].values())
            assert isinstance(metadata["name"], str)
            assert metadata["labels"]["app.kubernetes.io/instance"] == name


def test_the_names_of_a_long_release() -> None:
    """Names of Services have at most 63 characters."""
    for manifest in render("-f", CHART / "ci/keda-values.yaml", release="r" * 53):
        assert len(manifest["metadata"]["name"]) <= 64 - (manifest["kind"] != "Pod")


class TestAutoscaling:
    def test_keda_scales_the_deployment_by_metrics_that_exist(self) -> None:
        page = (CHART / "examples/keda.yaml").read_text()
        scaled = yaml.safe_load(page)
        manifests = rendered(CHART / "ci/keda-values.yaml")
        deployment = find(manifests, "Deployment")
        assert scaled["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
        assert "replicas" not in deployment["spec"]
        assert not [m for m in manifests if m["kind"] == "HorizontalPodAutoscaler"]
        services = {m["metadata"]["name"] for m in manifests if m["kind"] == "Service"}
        assert set(re.findall(r'service="([^"]+)"', page)) <= services
        named = set(re.findall(r"\bwagi_\w+", page))
        assert named == {"wagi_guests_running", "wagi_queue_length"}

    def test_the_monitor_selects_the_service_of_metrics(self) -> None:
        manifests = rendered(CHART / "ci/keda-values.yaml")
        spec = find(manifests, "ServiceMonitor")["spec"]
        (service,) = (
            m
            for m in manifests
            if m["kind"] == "Service"
            and spec["selector"]["matchLabels"].items() <= m["metadata"]["labels"].items()
        )
        (endpoint,) = spec["endpoints"]
        (port,) = service["spec"]["ports"]
        assert (endpoint["port"], endpoint["path"]) == (port["name"], "/metrics")
        assert port["targetPort"] == "admin"


class TestNotes:
    def notes(self, *options: str) -> str:
        done = helm("install", "wagi", CHART, "--dry-run=client", *options)
        assert done.returncode == 0, done.stderr
        return done.stdout.partition("\nNOTES:\n")[2]

    def test_the_way_to_a_request(self) -> None:
        found = self.notes()
        assert found.startswith("The gateway serves a page that confirms the installation.")
        assert "port-forward --namespace default service/wagi 8080:80" in found
        assert "WARNING" not in found
        found = self.notes("-f", str(CHART / "ci/registry-values.yaml"))
        assert found.startswith("Requests:\n  https://www.example.com/\n")
        assert "WARNING" not in found

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ("ingress.enabled=true", "trustedProxies is empty"),
            ("trustedProxies={0.0.0.0/0}", "trustedProxies contains every address"),
            ("networkPolicy.enabled=true", "allows no connections to registries"),
            ("cache.persistence.enabled=true,replicaCount=2", "without ReadWriteMany"),
            ("gateway.enabled=false", ""),
        ],
    )
    def test_warnings(self, values: str, words: str) -> None:
        assert words in self.notes("--set", values)


@pytest.mark.fast
class TestMetadata:
    def test_the_version_is_that_of_the_gateway(self) -> None:
        found = yaml.safe_load((CHART / "Chart.yaml").read_text())
        assert (found["appVersion"], found["name"]) == (__version__, "wagi")

    def test_every_value_has_a_description(self) -> None:
        described = {name.split(".")[0] for name, _, _ in chart.values()}
        assert described == set(yaml.safe_load((CHART / "values.yaml").read_text()))

    def test_every_value_is_in_the_schema(self) -> None:
        schema = json.loads((CHART / "values.schema.json").read_text())
        values = yaml.safe_load((CHART / "values.yaml").read_text())
        assert set(schema["properties"]) == {*values, "global"}

    def test_no_subpath(self) -> None:
        for path in (ROOT / "deploy").rglob("*"):
            if path.suffix in (".yaml", ".tpl") and path.name != "values.yaml":
                assert "subPath" not in path.read_text(), path
