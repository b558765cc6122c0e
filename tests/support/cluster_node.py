"""The node of a cluster: containerd and the kubelet, with the image of the gateway.

Pods have addresses of their own on a bridge, in network namespaces that containerd creates, or use
the network of this machine (``hostNetwork``).
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.cluster import Cluster, Json
from tests.support.containers import BASE, build, podman
from tests.support.image import IMAGE, wagi_image
from tests.support.nginx import free_port
from tests.support.toolchains import missing, tool

_SANDBOX_IMAGE = "localhost/sandbox:1"
_NODE = "node1"
_CNI_PROGRAMS = Path("/usr/lib/cni")
_CONTAINERD = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{sandbox}"
  stream_server_port = "0"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{programs}"
    conf_dir = "{folder}/cni"
"""
_NUMBER = 10 + os.getpid() % 200  # so that two clusters on a machine do not collide
_BRIDGE = f"wagi{_NUMBER}"
_SUBNET = f"10.213.{_NUMBER}.0/24"
_KUBELET = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "address": "127.0.0.1",
    "healthzBindAddress": "127.0.0.1",
    "healthzPort": 0,
    "readOnlyPort": 0,
    "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
    "authorization": {"mode": "AlwaysAllow"},
    "cgroupDriver": "cgroupfs",
    "cgroupsPerQOS": False,
    "enforceNodeAllocatable": [],
    "failSwapOn": False,
    "evictionHard": {f"{name}.available": "0%" for name in ("nodefs", "imagefs", "memory")},
    "imageGCHighThresholdPercent": 100,
    "imageGCLowThresholdPercent": 99,
    "makeIPTablesUtilChains": False,
    "syncFrequency": "1s",
    "configMapAndSecretChangeDetectionStrategy": "Watch",
}


def require_node() -> None:
    """Build the image; skip or fail the test if no node can run on this machine."""
    if not (_CNI_PROGRAMS / "bridge").exists():
        missing(f"{_CNI_PROGRAMS}/bridge is not installed")
    wagi_image()


@contextmanager
def node(cluster: Cluster) -> Iterator[None]:
    """Run a node."""
    folder = cluster.folder / "node"
    (folder / "cni").mkdir(parents=True)
    addresses = {"type": "host-local", "dataDir": str(folder / "addresses"), "subnet": _SUBNET}
    bridge = {"type": "bridge", "bridge": _BRIDGE, "isGateway": True, "ipam": addresses}
    network = {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}
    (folder / "cni/10-pods.conflist").write_text(json.dumps(network))
    places = {"folder": folder, "sandbox": _SANDBOX_IMAGE, "programs": _CNI_PROGRAMS}
    (folder / "containerd.toml").write_text(_CONTAINERD.format(**places))
    (folder / "kubelet.json").write_text(json.dumps({**_KUBELET, "port": free_port()}))
    address = str(folder / "containerd.sock")
    try:
        cluster.start("containerd", tool("containerd"), "-c", str(folder / "containerd.toml"))
        cluster.wait_for(lambda: _ctr(address, "version") is not None, "containerd")
        _import_images(folder, address)
        cluster.start(
            "kubelet",
            *(tool("kubelet"), "--config", str(folder / "kubelet.json")),
            *("--kubeconfig", str(cluster.folder / "node.kubeconfig")),
            *("--hostname-override", _NODE, "--root-dir", str(folder / "kubelet")),
            *("--cert-dir", str(folder / "pki"), "--container-runtime", "remote"),
            *("--container-runtime-endpoint", f"unix://{address}"),
        )
        cluster.wait_for(lambda: _is_ready(cluster), "the node is ready", 120)
        yield
    finally:
        _clean_up(cluster, folder, address)


def _import_images(folder: Path, address: str) -> None:
    (folder / "Containerfile").write_text(f'FROM {BASE}\nENTRYPOINT ["sleep", "infinity"]\n')
    build(folder, "--tag", _SANDBOX_IMAGE, ".")
    archive = folder / "image.tar"
    for image in (_SANDBOX_IMAGE, IMAGE):
        podman("save", "--quiet", "--format", "oci-archive", "-o", str(archive), image)
        done = _ctr(address, "images", "import", str(archive))
        assert done is not None, image
        archive.unlink()


def _ctr(address: str, *arguments: str) -> str | None:
    """Run containerd's client. Returns: its output; None if it fails."""
    command = [tool("ctr"), "--address", address, "--namespace", "k8s.io", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    return done.stdout if done.returncode == 0 else None


def _is_ready(cluster: Cluster) -> bool:
    nodes: list[Json] = cluster.get("nodes")["items"]
    conditions = [item for found in nodes for item in found["status"].get("conditions", ())]
    return any((item["type"], item["status"]) == ("Ready", "True") for item in conditions)


def _clean_up(cluster: Cluster, folder: Path, address: str) -> None:
    """Stop everything that the node runs, and remove its mounts."""
    for name in ("deployments", "pods"):
        cluster.kubectl("delete", name, "--all", "--all-namespaces", "--wait=false")
    if "kubelet" in cluster.processes:
        cluster.stop("kubelet")
    cluster.kubectl("delete", "node", _NODE)  # no later pod is assigned to it
    for container in (_ctr(address, "containers", "ls", "--quiet") or "").split():
        _ctr(address, "tasks", "kill", "--signal", "SIGKILL", container)
        _ctr(address, "tasks", "delete", "--force", container)
    if "containerd" in cluster.processes:
        cluster.stop("containerd")
    subprocess.run([tool("ip"), "link", "delete", _BRIDGE], capture_output=True, check=False)
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((path for path in mounts if path.startswith(f"{folder}/")), reverse=True):
        with suppress(subprocess.CalledProcessError):
            subprocess.run(["umount", "--lazy", mount], check=True, capture_output=True)
