"""A Kubernetes cluster on loopback: etcd, the API server and its controllers, and a node.

The programs of Kubernetes are those that .ci/kubernetes builds. All pods use the network of this
machine. The API server calls webhooks at localhost, because there is no kube-proxy for Services.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.nginx import free_port
from tests.support.toolchains import tool

_TOKENS = "admintoken,admin,admin,system:masters\nnodetoken,system:node:node1,node1,system:nodes\n"
_START_TIMEOUT_S = 90.0

Json = dict[str, Any]


@dataclass
class Cluster:
    """A running cluster.

    Attributes:
        folder: Everything that it writes.
        port: The port of the API server, at 127.0.0.1.
        kubeconfig: The configuration of its administrator.
    """

    folder: Path
    port: int
    kubeconfig: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of kubectl and helm."""
        home = str(self.folder / "home")
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": home}

    def kubectl(
        self, *arguments: str, given: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl; its result has the messages."""
        return self._run(tool("kubectl"), arguments, given)

    def helm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run helm; its result has the messages."""
        return self._run(tool("helm"), arguments, None)

    def _run(
        self, program: str, arguments: tuple[str, ...], given: str | None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *arguments],
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def do(self, *arguments: str, given: str | None = None) -> str:
        """Run kubectl, which has to succeed; return its output."""
        done = self.kubectl(*arguments, given=given)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def apply(self, manifest: Json | str, *arguments: str) -> str:
        """Apply a manifest; return the output of kubectl."""
        text = manifest if isinstance(manifest, str) else json.dumps(manifest)
        return self.do("apply", "-f", "-", *arguments, given=text)

    def get(self, *arguments: str) -> Json:
        """Read an object."""
        found: Json = json.loads(self.do("get", *arguments, "-o", "json"))
        return found

    def log(self, name: str) -> str:
        """The last lines of the log of a program."""
        return "\n".join((self.folder / f"{name}.log").read_text().splitlines()[-30:])

    def start(self, name: str, *command: str, environment: Mapping[str, str] | None = None) -> None:
        """Start a program; its log is NAME.log."""
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self, name: str) -> None:
        """Stop a program."""
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def wait_for(self, condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            for name, process in self.processes.items():
                assert process.poll() is None, f"{name} ended: {self.log(name)}"
            assert time.monotonic() < deadline, f"timeout: {what}"
            time.sleep(0.1)


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Run a cluster without nodes."""
    programs = [tool(name) for name in ("kube-apiserver", "etcd", "openssl", "kubectl", "helm")]
    etcd_port, peer_port, port = free_port(), free_port(), free_port()
    running = Cluster(folder, port, folder / "kubeconfig")
    (folder / "home").mkdir()
    key = folder / "sa.key"
    subprocess.run(
        [programs[2], "genrsa", "-out", str(key), "2048"], check=True, capture_output=True
    )
    (folder / "tokens.csv").write_text(_TOKENS)
    for name, token in (("kubeconfig", "admintoken"), ("node.kubeconfig", "nodetoken")):
        (folder / name).write_text(json.dumps(_kubeconfig(port, token)))
    with ExitStack() as stack:
        stack.callback(_stop_all, running)
        url, peer = f"http://127.0.0.1:{etcd_port}", f"http://127.0.0.1:{peer_port}"
        running.start(
            "etcd",
            programs[1],
            *("--data-dir", str(folder / "etcd"), "--unsafe-no-fsync"),
            *("--listen-client-urls", url, "--advertise-client-urls", url),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"default={peer}"),
        )
        running.start(
            "apiserver",
            programs[0],
            *("--etcd-servers", url, "--bind-address", "127.0.0.1", "--secure-port", str(port)),
            *("--cert-dir", str(folder / "certs"), "--insecure-port", "0"),
            *("--service-account-key-file", str(key)),
            *("--service-account-signing-key-file", str(key)),
            *("--service-account-issuer", "https://kubernetes.default.svc"),
            *("--token-auth-file", str(folder / "tokens.csv"), "--allow-privileged"),
            *("--authorization-mode", "Node,RBAC", "--service-cluster-ip-range", "10.96.0.0/16"),
            *("--enable-admission-plugins", "NodeRestriction"),
            *("--kubelet-preferred-address-types", "InternalIP"),
        )
        running.wait_for(lambda: _is_ready(port), "API server", _START_TIMEOUT_S)
        config = ("--kubeconfig", str(running.kubeconfig), "--leader-elect=false")
        running.start(
            "controller-manager",
            tool("kube-controller-manager"),
            *(*config, "--service-account-private-key-file", str(key), "--port", "0"),
            *("--bind-address", "127.0.0.1", "--secure-port", str(free_port())),
            *("--root-ca-file", str(folder / "certs/apiserver.crt")),
            "--controllers=*,-nodeipam,-attachdetach,-persistentvolume-binder",
        )
        running.start(
            "scheduler",
            tool("kube-scheduler"),
            *(*config, "--port", "0", "--bind-address", "127.0.0.1"),
            *("--secure-port", str(free_port())),
        )
        running.wait_for(
            lambda: running.kubectl("get", "serviceaccount", "default").returncode == 0,
            "default service account",
        )
        yield running


def _stop_all(running: Cluster) -> None:
    for name in reversed(list(running.processes)):
        running.stop(name)


def _kubeconfig(port: int, token: str) -> Json:
    server = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tests", "cluster": server}],
        "users": [{"name": "tests", "user": {"token": token}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
        "current-context": "tests",
    }


def _is_ready(port: int) -> bool:
    request = urllib.request.Request(
        f"https://127.0.0.1:{port}/readyz", headers={"Authorization": "Bearer admintoken"}
    )
    context = ssl._create_unverified_context()
    try:
        with urllib.request.urlopen(request, timeout=5, context=context) as response:
            return bool(response.read() == b"ok")
    except (urllib.error.URLError, OSError):
        return False
