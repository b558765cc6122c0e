"""The chart and the overlay of kustomize with a real API server: install, upgrade, roll back.

The server is too old for policy/v1 and autoscaling/v2: tests/deploy/test_chart.py checks those.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cluster import Cluster
from tests.support.helm import CHART, VALUES
from tests.support.server import ROOT

pytestmark = pytest.mark.xdist_group("containers")

NAMESPACE = "chart"
SUPPORTED = ("existing-configmap", "minimal", "toml")


def upgrade(cluster: Cluster, *options: str) -> None:
    """Install or upgrade the release ``wagi``."""
    where = ("--namespace", NAMESPACE, "--create-namespace")
    done = cluster.helm("upgrade", "--install", "wagi", str(CHART), *where, *options)
    assert done.returncode == 0, done.stderr


def get(cluster: Cluster, kind: str, path: str) -> str:
    return cluster.do("get", kind, "wagi", "-n", NAMESPACE, "-o", f"jsonpath={path}")


@pytest.fixture(autouse=True)
def _no_release(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.helm("uninstall", "wagi", "--namespace", NAMESPACE)


@pytest.mark.parametrize("name", SUPPORTED)
def test_an_installation(cluster: Cluster, name: str) -> None:
    (path,) = (path for path in VALUES if path.name == f"{name}-values.yaml")
    upgrade(cluster, "-f", str(path))
    assert get(cluster, "deployment", "{.spec.template.spec.enableServiceLinks}") == "false"


def test_a_change_of_handlers_restarts_nothing(cluster: Cluster) -> None:
    """Only the ConfigMap changes; a roll-back restores it."""
    generation = "{.metadata.generation}"
    content = r"{.data.modules\.toml}"

    def entry(route: str) -> tuple[str, str]:
        return "--set", f"modules[0].route={route},modules[0].module=a.wat,files.a\\.wat=(module)"

    upgrade(cluster, *entry("/one"))
    before = get(cluster, "deployment", generation)
    upgrade(cluster, *entry("/two"))
    assert 'route = "/two"' in get(cluster, "configmap", content)
    assert get(cluster, "deployment", generation) == before
    done = cluster.helm("rollback", "wagi", "--namespace", NAMESPACE)
    assert done.returncode == 0, done.stderr
    assert 'route = "/one"' in get(cluster, "configmap", content)
    assert get(cluster, "deployment", generation) == before
    upgrade(cluster, *entry("/two"), "--set", "rollOnConfigChange=true")
    assert get(cluster, "deployment", generation) != before


def test_an_upgrade_keeps_what_an_autoscaler_has_set(cluster: Cluster) -> None:
    upgrade(cluster, "--set", "replicaCount=null")
    cluster.do("scale", "deployment/wagi", "--replicas=5", "-n", NAMESPACE)
    upgrade(cluster, "--set", "replicaCount=null,logFormat=text")
    assert get(cluster, "deployment", "{.spec.replicas}") == "5"
    assert "--log-format=text" in get(cluster, "deployment", "{..args}")


def test_the_overlay_of_kustomize(cluster: Cluster) -> None:
    overlay = str(ROOT / "deploy/kustomize/overlays/example")
    cluster.do("create", "namespace", "web")
    assert "deployment.apps/wagi created" in cluster.do("apply", "-k", overlay)
    assert "unchanged" in cluster.do("apply", "-k", overlay)
    cluster.do("delete", "namespace", "web", "--wait=false")
