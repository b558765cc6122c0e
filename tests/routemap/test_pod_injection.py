"""The manifest of a rewritten pod, with the variables and volumes of the gateway's container."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wagi.errors import ConfigurationError
from wagi.routemap.pod import read_pods
from wagi.routemap.pod_injection import LAYOUT, LAYOUT_VERSION, resolve
from wagi.routemap.pod_manifest import MODULES

pytestmark = pytest.mark.fast


def manifest(layout: str = LAYOUT_VERSION, **fields: Any) -> dict[str, Any]:
    modules = {"one": {"route": "/1"}, "two": {"route": "/2"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"annotations": {LAYOUT: layout, MODULES: json.dumps(modules)}},
        "spec": {
            "containers": [
                {"name": "one", "image": "registry.example/one:1", **fields},
                {
                    "name": "two",
                    "image": "registry.example/two:1",
                    "env": [{"name": "X", "valueFrom": {"secretKeyRef": {}}}],
                    "envFrom": [{"secretRef": {"name": "s"}}],
                    "volumeMounts": [{"name": "data", "mountPath": "/in", "readOnly": True}],
                    "resources": {"limits": {"memory": "64Mi"}},
                },
            ]
        },
    }


def test_variables_and_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAGI_POD_0_A", "first")
    monkeypatch.setenv("WAGI_POD_1_A", "second")
    monkeypatch.setenv("WAGI_POD_1_S_X.Y", "$(WAGI_POD_1_NONE)")
    monkeypatch.setenv("WAGI_POD_10_A", "eleventh")
    path = tmp_path / "pod.yaml"
    path.write_text(json.dumps(manifest()))
    one, two = read_pods(path).modules
    assert one.environment == {"A": "first"}
    assert two.environment == {"A": "second", "S_X.Y": "$(NONE)"}
    (volume,) = two.volumes.values()
    assert (volume.path, volume.readonly) == ("/var/lib/wagi/volumes/data", True)
    assert not read_pods(path).warnings


def test_commands_are_still_errors(tmp_path: Path) -> None:
    path = tmp_path / "pod.yaml"
    path.write_text(json.dumps(manifest(command=["x"])))
    with pytest.raises(ConfigurationError, match="a handler has no command"):
        read_pods(path)


def test_another_layout(tmp_path: Path) -> None:
    path = tmp_path / "pod.yaml"
    path.write_text(json.dumps(manifest(layout="2")))
    with pytest.raises(ConfigurationError, match=r"wagi\.dev/layout: expected '1', found '2'"):
        read_pods(path)


@pytest.mark.parametrize(
    "spec", [None, [], {}, {"containers": {}}, {"containers": [1, {"volumeMounts": 1}]}]
)
def test_invalid_manifests_are_left_to_validation(tmp_path: Path, spec: Any) -> None:
    invalid = {**manifest(), "spec": spec}
    assert resolve(invalid, {})
    path = tmp_path / "pod.yaml"
    path.write_text(json.dumps(invalid))
    with pytest.raises(ConfigurationError):
        read_pods(path)
