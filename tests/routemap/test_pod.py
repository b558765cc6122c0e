"""Pod manifests: supported fields, and messages for unsupported ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.route_maps import POD
from wagi.config.values import HostPort
from wagi.errors import ConfigurationError
from wagi.routemap.entries import RouteMap
from wagi.routemap.pod import read_pods

pytestmark = pytest.mark.fast


def read(folder: Path, text: str = POD) -> RouteMap:
    path = folder / "pod.yaml"
    path.write_text(text)
    return read_pods(path)


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read(folder, text)
    assert caught.value.exit_status == 2
    return [str(problem).removeprefix(f"{folder}/") for problem in caught.value.problems]


def test_all_supported_fields(tmp_path: Path) -> None:
    """Routes have the order of the annotation."""
    found = read(tmp_path, POD)
    second, first = found.modules
    assert (second.route, second.entrypoint, second.allowed_hosts) == (
        "/second/...", "run", ["https://a.b"],
    )  # fmt: skip
    assert (second.module, second.pull) == ("oci:registry.example/second", "never")
    assert (first.route, first.entrypoint) == ("/", "_start")
    assert (first.module, first.pull) == ("oci:registry.example/first:1.0.0", "if-not-present")
    assert first.environment == {"GREETING": "hi", "EMPTY": ""}
    assert {guest: (v.path, v.readonly) for guest, v in first.volumes.items()} == {
        "/data": ("/srv/data", True),
        "/again": ("/srv/data", False),
    }
    assert (found.listen, found.default_host) == (HostPort("0.0.0.0", 3001), "0.0.0.0:3001")
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("image", "policy", "pull"),
    [
        ("r.example/a:1", "", "if-not-present"),
        ("r.example/a", "", "always"),
        ("r.example:5000/a", "", "always"),
        ("r.example/a:latest", "", "always"),
        ("r.example/a@sha256:" + "0" * 64, "", "if-not-present"),
        ("r.example/a:latest", "IfNotPresent", "if-not-present"),
        ("r.example/a:1", "Always", "always"),
    ],
)
def test_the_pull_policy(tmp_path: Path, image: str, policy: str, pull: str) -> None:
    """The default is that of Kubernetes."""
    text = POD.replace("registry.example/second", image).replace("Never", policy or '""')
    found = read(tmp_path, text)
    assert found.modules[0].pull == pull


def test_a_container_without_an_entry_is_a_warning(tmp_path: Path) -> None:
    found = read(tmp_path, POD.replace('"first": {"route": "/"}', "").replace("]},", "]}"))
    assert len(found.modules) == 1
    (warning,) = found.warnings
    assert str(warning).endswith(
        "pod.yaml:15: container 'first': not served: it has no entry in"
        " alpha.wagi.krustlet.dev/modules"
    )


def test_a_handler_that_checks_credentials(tmp_path: Path) -> None:
    text = POD.replace('"entrypoint": "run"', '"pass_authorization": true')
    second, first = read(tmp_path, text).modules
    assert (second.pass_authorization, first.pass_authorization) == (True, None)


def test_the_default_address(tmp_path: Path) -> None:
    found = read(tmp_path, re.sub(r".*default-host.*\n", "", POD))
    assert found.listen == HostPort("127.0.0.1", 3000)


def test_several_documents(tmp_path: Path) -> None:
    other = POD.replace("first", "third").replace("second", "fourth").replace('"/"', '"/third"')
    found = read(tmp_path, f"---\n{POD}---\n{other}---\n")
    entries = found.modules
    assert [entry.route for entry in entries] == ["/second/...", "/", "/fourth/...", "/third"]
    text = f"{POD}---\n{other.replace('3001', '3002')}"
    (problem,) = problems(tmp_path, text)
    assert problem == (
        "pod.yaml:39: alpha.wagi.krustlet.dev/default-host: 0.0.0.0:3002 here and 0.0.0.0:3001 in"
        " line 6: the pods of a file are served together, on one address"
    )


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("kind: Pod", "kind: Service", 2, "expected a pod (apiVersion: v1, kind: Pod), found v1/S"),
        (POD, "just text", 1, "expected a pod (apiVersion: v1, kind: Pod), found something else"),
        (POD, "", None, "expected a v1/Pod, found no document"),
        (POD, "a: [1", 1, "not valid YAML"),
        (POD, "a: !!python/object:os.system x", 1, "not valid YAML"),
        ("name: first\n      image", "name: 5\n      image", 15,
         "spec.containers[0].name: expected a string, found 5"),
        ("  containers:", "  container:", 7, "there is no container 'second'"),
        ('"first": {"route": "/"}', "oops", 7, "modules: not valid JSON: "),
        ('"first": {"route": "/"}', '"first": {"route": 5}', 7,
         "modules: first: route: expected a string, found 5"),
        ('"first": {"route"', '"first": {"rout": 1, "route"', 7, "first: unknown key 'rout'"),
        ('"first": {"route"', '"fist": {"route"', 7, "modules: there is no container 'fist'"),
        ('["https://a.b"]', '"https://a.b"', 7,
         "second: allowed_hosts: expected an array, found 'https://a.b'"),
        ("|\n      {", ">\n      [", 7, "modules: not valid JSON"),
        ("0.0.0.0:3001", "nonsense", 6, "default-host: expected ADDRESS:PORT, found 'nonsense'"),
        ("0.0.0.0:3001", ":3001", 6, "default-host: expected ADDRESS:PORT"),
        ("value: hi", "value: 5", 18,
         "container 'first': env 'GREETING': value: expected a string, found 5"),
        ("value: hi", "valueFrom: {secretKeyRef: {}}", 18, "env 'GREETING': valueFrom: it needs"),
        ("imagePullPolicy: Never", "imagePullPolicy: Sometimes", 25,
         "imagePullPolicy: expected 'Always', 'IfNotPresent' or 'Never', found 'Sometimes'"),
        ("image: registry.example/second", "image: ''", 24, "image: expected REGISTRY/NAME:TAG"),
        ("hostPath: {path: /srv/data, type: Directory}", "secret: {secretName: x}", 27,
         "volume 'data': expected hostPath with a path, found secret: other volumes need a"),
        ("{name: data, mountPath: /again}", "{name: dat, mountPath: /x}", 22,
         "volumeMounts 'dat': the pod has no such volume"),
        ("mountPath: /again", "mountPath: /again, subPath: x", 22,
         "volumeMounts 'data': unsupported key 'subPath': define a volume for the directory"),
        ("hostNetwork: true", "imagePullSecrets: [{name: x}]", 13,
         "spec.imagePullSecrets: they need a cluster"),
        ("hostNetwork: true", "initContainers: [{name: x}]", 13, "initContainers: containers"),
        ("imagePullPolicy: Never", "args: [x]", 25, "args: a handler's arguments come from"),
        ("imagePullPolicy: Never", "envFrom: [{}]", 25, "envFrom: config maps and secrets need"),
        ("name: second\n", "name: first\n", 23,
         "container 'first': there is another container with this name"),
        ("name: second\n", "name: ''\n", 23, "name: expected a non-empty string, found ''"),
        ("  annotations:", "  annotation:", 3, "required key 'alpha.wagi.krustlet.dev/modules' is"),
        ("\nspec:\n", "\nspec: x\nother:\n", 12, "spec: expected a mapping, found 'x'"),
        ("name: GREETING", "name: 'A=B'", 17, "container 'first': environment: "),
    ],
)  # fmt: skip
def test_unsupported_fields(
    tmp_path: Path, old: str, new: str, line: int | None, message: str
) -> None:
    assert old in POD
    found = problems(tmp_path, POD.replace(old, new))
    place = "pod.yaml: " if line is None else f"pod.yaml:{line}: "
    assert any(text.startswith(place) and message in text for text in found), found


def test_null_is_the_same_as_absent(tmp_path: Path) -> None:
    text = POD.replace("imagePullPolicy: Never", "env: ~\n      args: ~\n      volumeMounts:")
    entry = read(tmp_path, text).modules[0]
    assert (entry.environment, entry.volumes, entry.pull) == ({}, {}, "always")


def test_all_mistakes_are_reported_in_the_order_of_their_lines(tmp_path: Path) -> None:
    text = POD.replace("value: hi", "value: 5").replace("/again}", "/again, subPath: x}")
    found = problems(tmp_path, text.replace("hostNetwork: true", "initContainers: [x]"))
    assert [problem.split(":")[1] for problem in found] == ["13", "18", "22"]


def test_deeply_nested_rules(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, POD.replace('"first": {"route": "/"}', "[" * 100_000))
    assert problem.startswith("pod.yaml:7: alpha.wagi.krustlet.dev/modules: not valid JSON: ")


def test_resources_are_a_warning(tmp_path: Path) -> None:
    found = read(
        tmp_path, POD.replace("imagePullPolicy: Never", "resources: {limits: {memory: 1Gi}}")
    )
    (warning,) = found.warnings
    assert "pod.yaml:25: container 'second': resources are ignored" in str(warning)


def test_aliases_do_not_explode(tmp_path: Path) -> None:
    """The "billion laughs" attack."""
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60)]
    assert "expected a pod" in problems(tmp_path, "\n".join(lines))[0]
    pod = ["apiVersion: v1", "kind: Pod", *lines, "spec: {containers: [*a59], volumes: *a59}"]
    assert len(problems(tmp_path, "\n".join(pod))) == 4
