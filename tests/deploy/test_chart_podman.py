"""The chart with the image of deploy/Containerfile, played by podman: a restricted container."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.support.containers import get, inspect, logs, podman, run_options, wait_until_ready
from tests.support.helm import Manifest, find, render
from tests.support.nginx import free_port

NAME = "wagi-pod-0-wagi"
"""How podman names the container of the Deployment."""


def played(image: str, http: int, admin: int) -> list[Manifest]:
    """The ConfigMap and the Deployment, without what this podman does not support."""
    repository, _, tag = image.rpartition(":")
    manifests = render(
        *("--set-string", f"image.repository={repository},image.tag={tag}"),
        *("--set", f"containerPorts.http={http},containerPorts.admin={admin}"),
        *("--set", "image.pullPolicy=Never,hostNetwork=true,shutdownDelay=0"),
    )
    deployment = find(manifests, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    for key in ("ports", "startupProbe", "livenessProbe", "readinessProbe"):
        del container[key]
    return [find(manifests, "ConfigMap"), deployment]


@pytest.mark.xdist_group("containers")
def test_the_pod(image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    http, admin = free_port(), free_port()
    file = tmp_path / "pod.yaml"
    file.write_text(yaml.safe_dump_all(played(image, http, admin)))
    # `kube play` has no options for limits: they are settings of podman.
    limits = [value for value in run_options() if "=" in value]
    (tmp_path / "containers.conf").write_text(
        f"[containers]\ndefault_ulimits = {json.dumps(limits)}\n"
    )
    monkeypatch.setenv("CONTAINERS_CONF", str(tmp_path / "containers.conf"))
    try:
        podman("kube", "play", "--network", "host", str(file))
        wait_until_ready(NAME, admin, "/readyz")
        status, body = get(http, "/")
        assert (status, body[:16]) == (200, b"wagi is running.")
        found = inspect("container", NAME)
        assert found["EffectiveCaps"] in ([], None)
        assert found["HostConfig"]["ReadonlyRootfs"] is True
        assert found["HostConfig"]["Memory"] == 512 << 20
        ids = podman("exec", NAME, "id", "-u").stdout + podman("exec", NAME, "id", "-g").stdout
        assert ids == "65532\n65532\n"
        assert '"warning"' not in logs(NAME)
        # The command of the pod of helm test.
        pod = find(render("--set", f"service.port={http}"), "Pod")["spec"]["containers"][0]
        command = [*pod["command"], *pod["args"]]
        command[-1] = command[-1].replace("wagi", "localhost")
        done = podman("exec", NAME, *command)
        assert done.stdout == f"200 http://localhost:{http}/healthz\n"
    finally:
        podman("kube", "down", str(file), check=False)
        podman("volume", "rm", "--force", "wagi", check=False)
