"""deploy/kustomize: the base equals the chart with its default values, and the overlay is valid."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.admin import Admin
from tests.support.helm import CHART, Manifest, Pod, find, parse_manifests, pod_specs, render
from tests.support.pod_security import violations
from tests.support.server import ROOT
from tests.support.toolchains import python_module, tool
from wagi import __version__

KUSTOMIZE = ROOT / "deploy/kustomize"
OVERLAY = KUSTOMIZE / "overlays/example"
OF_HELM = ("helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version")
"""Labels that only Helm sets."""


def built(folder: Path) -> list[Manifest]:
    done = subprocess.run(
        [tool("kubectl"), "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return parse_manifests(done.stdout)


def without_labels_of_helm(manifest: Manifest) -> Manifest:
    """Remove the labels from an object, and from the template of its pods."""
    template = manifest.get("spec", {}).get("template", {})
    for metadata in (manifest["metadata"], template.get("metadata", {})):
        for label in OF_HELM:
            metadata.get("labels", {}).pop(label, None)
    return manifest


@pytest.mark.parametrize("kind", ["Deployment", "Service", "ServiceAccount"])
def test_the_base_equals_the_chart(kind: str) -> None:
    base = find(built(KUSTOMIZE / "base"), kind)
    chart = without_labels_of_helm(find(render(), kind))
    if kind == "Deployment":  # a tag is for overlays, which name an image of theirs
        (container,) = chart["spec"]["template"]["spec"]["containers"]
        assert container["image"] == f"wagi:{__version__}"
        container["image"] = "wagi"
    assert base == chart


def test_the_base_has_nothing_else() -> None:
    kinds = sorted(manifest["kind"] for manifest in built(KUSTOMIZE / "base"))
    assert kinds == ["ConfigMap", "Deployment", "Service", "ServiceAccount"]


def test_the_base_serves_the_page_of_the_chart(tmp_path: Path) -> None:
    assert (KUSTOMIZE / "base/welcome.wat").read_text() == (CHART / "files/welcome.wat").read_text()
    with Pod(tmp_path, built(KUSTOMIZE / "base")).serving() as server:
        assert server.get("/").text.startswith("wagi is running.")


def test_the_overlay(tmp_path: Path) -> None:
    manifests = built(OVERLAY)
    assert {manifest["metadata"]["namespace"] for manifest in manifests} == {"web"}
    deployment = find(manifests, "Deployment")["spec"]
    (container,) = deployment["template"]["spec"]["containers"]
    assert deployment["replicas"] == 3
    assert container["image"] == f"registry.example.com/wagi:{__version__}"
    assert container["resources"]["requests"]["cpu"] == "2"
    pod = Pod(tmp_path, manifests)
    assert pod.arguments[-1] == "--workers=2"
    with pod.serving() as server:
        assert server.get("/hello").text == "Hello from a ConfigMap!\n"
        assert server.get("/").status == 404
        assert Admin(pod.admin_port).value("wagi_workers") == 2


@pytest.mark.parametrize("folder", [KUSTOMIZE / "base", OVERLAY], ids=lambda path: path.name)
def test_manifests_are_valid_and_pods_restricted(folder: Path) -> None:
    python_module("kubernetes_validate")
    from kubernetes_validate import validate

    manifests = built(folder)
    for manifest in manifests:
        for version in ("1.25", "1.37"):
            validate(manifest, version, strict=True)
    for spec in pod_specs(manifests):
        assert violations(spec) == []
