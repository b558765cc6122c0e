"""Krustlet's pods and the chart on a real node, behind nginx and under load."""

from __future__ import annotations

import http.client
import itertools
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from wasmtime import wat2wasm

from tests.cluster.conftest import Installation
from tests.support.cluster import Cluster, Json
from tests.support.cluster_node import node, require_node
from tests.support.containers import podman, run_options
from tests.support.helm import CHART
from tests.support.image import IMAGE
from tests.support.krustlet import POD
from tests.support.nginx import example_site, free_port, nginx
from tests.support.registry import (
    PASSWORD,
    USER,
    Registry,
    docker_config,
    login,
    registry_with_passwords,
)
from tests.support.server import run_wagi, write_files
from tests.support.toolchains import HANDLERS, compiled, tool
from tests.support.wat import TEXT_HEAD, Program
from tests.support.webhooks import Webhook

pytestmark = pytest.mark.xdist_group("containers")

SECOND = bytes(wat2wasm(Program().write(f"{TEXT_HEAD}the second version\n").wat()))


@pytest.fixture(scope="module", autouse=True)
def _node(cluster: Cluster) -> Iterator[None]:
    require_node()
    with node(cluster):
        yield


@pytest.fixture(scope="module")
def registry(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A private registry with two versions of a module, and one that reads files.

    The default service account has its pull secret meanwhile.
    """
    folder = tmp_path_factory.mktemp("registry")
    first, show = (compiled(HANDLERS / name).read_bytes() for name in ("seed.rs", "show.c"))
    write_files(folder, {"1.wasm": first, "2.wasm": SECOND, "show.wasm": show})
    with registry_with_passwords(folder / "registry") as running:
        config = docker_config(folder / "docker", login(running.name))
        for file, image in (
            ("1.wasm", "sample:1.0.0"),
            ("2.wasm", "sample:2.0.0"),
            ("show.wasm", "show:1"),
        ):
            target = f"oci://{running.name}/{image}"
            done = run_wagi(folder, "push", file, target, environment=config)
            assert done.returncode == 0, done.stderr
        secret = ("create", "secret", "docker-registry", "registry")
        access = {"server": running.name, "username": USER, "password": PASSWORD}
        cluster.do(*secret, *(f"--docker-{key}={value}" for key, value in access.items()))
        account = {"imagePullSecrets": [{"name": "registry"}]}
        cluster.do("patch", "serviceaccount", "default", "--patch", json.dumps(account))
        yield running
        cluster.do("patch", "serviceaccount", "default", "--patch", '{"imagePullSecrets": null}')


@pytest.fixture(scope="module")
def webhook(installation: Installation) -> Iterator[Webhook]:
    options = ("--gateway-env", "WAGI_TRUSTED_PROXY=127.0.0.0/8")
    with installation.webhook(IMAGE, *options) as running:
        yield running


def get(port: int, path: str = "/", host: str = "127.0.0.1") -> tuple[int, str]:
    connection = http.client.HTTPConnection(host, port, timeout=60)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


@dataclass
class Load:
    """What the clients of a load test have got."""

    answers: list[tuple[int, str]]
    errors: list[str]


@contextmanager
def load(*targets: Callable[[], tuple[str, int]]) -> Iterator[Load]:
    """Send requests on new connections while the block runs.

    Args:
        *targets: For each client, a function that returns the address of the next request.
    """
    result = Load([], [])
    stopping = threading.Event()

    def send(target: Callable[[], tuple[str, int]]) -> None:
        while not stopping.is_set():
            host, port = target()
            try:
                result.answers.append(get(port, host=host))
            except OSError as error:
                result.errors.append(f"{host}: {error!r}")
            time.sleep(0.01)

    clients = [threading.Thread(target=send, args=(target,)) for target in targets]
    for client in clients:
        client.start()
    try:
        yield result
    finally:
        stopping.set()
        for client in clients:
            client.join()


def at(port: int) -> Callable[[], tuple[str, int]]:
    """A port of this machine, as the target of a load."""
    return lambda: ("127.0.0.1", port)


def status(cluster: Cluster, name: str) -> Json:
    """The status of the only container of a pod, with whether the pod is ready."""
    (container,) = cluster.get("pod", name)["status"].get("containerStatuses") or [{}]
    found: Json = container
    return found


def wait_until_ready(cluster: Cluster, name: str) -> None:
    def is_ready() -> bool:
        found = status(cluster, name)
        assert found.get("restartCount", 0) == 0, cluster.do("describe", "pod", name)
        return bool(found.get("ready"))

    cluster.wait_for(is_ready, f"{name} is ready", 90)


def test_krustlets_pod(
    cluster: Cluster, webhook: Webhook, registry: Registry, tmp_path: Path
) -> None:
    """Unchanged but for the registry, whose pull secret the service account has."""
    port = free_port()
    text = POD.replace("REGISTRY", registry.name).replace("PORT", str(port))
    wait_until_rewritten(cluster, text)
    cluster.apply(text)
    wait_until_ready(cluster, "sample")
    before = cluster.get("pod", "sample")
    assert before["status"]["phase"] == "Running"

    site, https = example_site(tmp_path, f"127.0.0.1:{port}")
    with nginx(tmp_path / "nginx", site):
        url = f"https://127.0.0.1:{https}/?name=seed"
        command = [tool("curl"), "-sSk", "-H", "X-Custom: yes", url]
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for line in (
        *("Hello, world!", "QUERY_STRING: name=seed", "REQUEST_METHOD: GET", "SCRIPT_NAME: /"),
        *("REQUEST_SCHEME: https", "REMOTE_ADDR: 127.0.0.1", "HTTP_X_CUSTOM: yes"),
        *("GATEWAY_INTERFACE: CGI/1.1", "SERVER_PROTOCOL: HTTP/1.1", "X_MATCHED_ROUTE: /"),
        *("SERVER_NAME: 127.0.0.1", f"SERVER_PORT: {https}", "CONTENT_LENGTH: 0"),
    ):
        assert f"{line}\n" in answer
    assert "WAGI_" not in answer

    cluster.apply(text)
    assert status(cluster, "sample") == before["status"]["containerStatuses"][0]

    with load(at(port), at(port)) as result:
        cluster.apply(text.replace("1.0.0", "2.0.0"))
        cluster.wait_for(lambda: "second" in get(port)[1], "the new answer", 120)
    assert result.errors == []
    assert {code for code, _ in result.answers} == {200}
    assert any("Hello" in answer for _, answer in result.answers)
    after = status(cluster, "sample")
    assert (after["restartCount"], after["ready"]) == (0, True)
    assert after["containerID"] == before["status"]["containerStatuses"][0]["containerID"]
    cluster.do("delete", "pod", "sample", "--wait=false")


def wait_until_rewritten(cluster: Cluster, text: str) -> None:
    """Wait until the API server calls the webhook."""

    def is_rewritten() -> bool:
        found = json.loads(cluster.apply(text, "--dry-run=server", "-o", "json"))
        return bool(found["spec"]["containers"][0]["image"] == IMAGE)

    cluster.wait_for(is_rewritten, "the webhook is called")


def test_secrets_and_config_maps(cluster: Cluster, webhook: Webhook, registry: Registry) -> None:
    """The kubelet resolves variables and mounts volumes; each handler sees its own."""
    port = free_port()
    cluster.do("create", "secret", "generic", "database", "--from-literal=password=s3cret")
    cluster.do("create", "configmap", "settings", "--from-literal=COLOR=red")
    password = {"secretKeyRef": {"name": "database", "key": "password"}}
    sample = {
        "name": "sample",
        "image": f"{registry.name}/sample:1.0.0",
        "env": [
            {"name": "PASSWORD", "valueFrom": password},
            {"name": "URL", "value": "db:$(PASSWORD)"},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
        "envFrom": [{"configMapRef": {"name": "settings"}}],
    }
    mounts = [{"name": "settings", "mountPath": "/settings"}, {"name": "data", "mountPath": "/d"}]
    show = {"name": "show", "image": f"{registry.name}/show:1", "volumeMounts": mounts}
    modules = {"sample": {"route": "/"}, "show": {"route": "/show"}}
    annotations = {
        "alpha.wagi.krustlet.dev/modules": json.dumps(modules),
        "alpha.wagi.krustlet.dev/default-host": f"127.0.0.1:{port}",
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "two", "annotations": annotations},
        "spec": {
            "hostNetwork": True,
            "containers": [sample, show],
            "volumes": [
                {"name": "settings", "configMap": {"name": "settings"}},
                {"name": "data", "emptyDir": {}},
            ],
        },
    }
    wait_until_rewritten(cluster, json.dumps(pod))
    cluster.apply(pod)
    wait_until_ready(cluster, "two")
    lines = get(port)[1].splitlines()
    assert {"PASSWORD: s3cret", "URL: db:s3cret", "POD: two", "COLOR: red"} <= set(lines)
    assert get(port, "/show?settings/COLOR") == (200, "red")
    assert get(port, "/show?+d/new") == (200, "0\n"), "the volume is writable"
    assert get(port, "/show?d/new") == (200, "written")
    change = '{"data": {"COLOR": "blue"}}'
    cluster.do("patch", "configmap", "settings", "--patch", change)
    cluster.wait_for(lambda: get(port, "/show?settings/COLOR")[1] == "blue", "the new value", 120)
    assert status(cluster, "two")["restartCount"] == 0
    cluster.do("delete", "pod", "two", "--wait=false")


def test_the_image_has_the_webhook() -> None:
    """With the package that creates certificates: it stops where it looks for its cluster."""
    done = podman("run", "--rm", *run_options(), IMAGE, "webhook", "--image", IMAGE, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no service account of a cluster" in done.stderr


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The values of a release with two pods."""
    repository, _, tag = IMAGE.partition(":")
    content = {
        "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
        "replicaCount": 2,
        "shutdownDelay": 2,
        "modules": [{"route": "/", "module": "hello.wat"}],
        "resources": None,
    }
    path = tmp_path_factory.mktemp("values") / "values.json"
    path.write_text(json.dumps(content))
    return path


class TestChart:
    """A release of the chart with two pods, whose Service the tests follow as kube-proxy does."""

    NAMESPACE = "apps"

    def install(self, cluster: Cluster, values: Path, text: str, *options: str) -> None:
        module = Program().write(f"{TEXT_HEAD}{text}\n").wat()
        files = json.dumps({"hello.wat": module})
        namespace = ("--namespace", self.NAMESPACE, "--create-namespace")
        release = ("gateway", str(CHART), "-f", str(values), "--set-json", f"files={files}")
        done = cluster.helm("upgrade", "--install", *release, *namespace, *options)
        assert done.returncode == 0, done.stderr + cluster.do("describe", "pods", *namespace[:2])

    def addresses(self, cluster: Cluster) -> list[str]:
        found = cluster.get("endpoints", "gateway-wagi", "-n", self.NAMESPACE)
        return [item["ip"] for part in found.get("subsets", []) for item in part["addresses"]]

    @contextmanager
    def load(self, cluster: Cluster) -> Iterator[Load]:
        """Send requests to all addresses of the Service in turn."""
        addresses = self.addresses(cluster)
        stopping = threading.Event()
        turn = itertools.count()

        def follow() -> None:
            while not stopping.wait(0.1):
                addresses[:] = self.addresses(cluster)

        def target() -> tuple[str, int]:
            current = list(addresses)
            return current[next(turn) % len(current)], 3000

        follower = threading.Thread(target=follow)
        follower.start()
        try:
            with load(target, target) as result:
                yield result
        finally:
            stopping.set()
            follower.join()

    def pods(self, cluster: Cluster) -> list[Json]:
        found: list[Json] = cluster.get("pods", "-n", self.NAMESPACE)["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def test_a_config_map_is_reloaded(self, cluster: Cluster, values: Path) -> None:
        """``helm upgrade`` gives a new answer without a restart, and no request is lost."""
        self.install(cluster, values, "first", "--wait", "--timeout", "150s")
        before = {pod["metadata"]["uid"] for pod in self.pods(cluster)}
        hosts = self.addresses(cluster)
        assert len(hosts) == len(before) == 2
        with self.load(cluster) as result:
            self.install(cluster, values, "second")
            cluster.wait_for(lambda: _all_answer(hosts, "second"), "the new answer", 120)
        assert result.errors == []
        assert set(result.answers) == {(200, "first\n"), (200, "second\n")}
        after = self.pods(cluster)
        assert {pod["metadata"]["uid"] for pod in after} == before
        assert [pod["status"]["containerStatuses"][0]["restartCount"] for pod in after] == [0, 0]

    def test_a_rollout_loses_no_request(self, cluster: Cluster, values: Path) -> None:
        self.install(cluster, values, "second", "--wait", "--timeout", "150s")
        before = {pod["metadata"]["uid"] for pod in self.pods(cluster)}
        deployment = ("deployment/gateway-wagi", "-n", self.NAMESPACE)
        with self.load(cluster) as result:
            cluster.do("rollout", "restart", *deployment)
            cluster.do("rollout", "status", *deployment, "--timeout", "150s")
            cluster.wait_for(lambda: len(self.pods(cluster)) == 2, "the old pods are gone", 60)
        assert result.errors == []
        assert set(result.answers) == {(200, "second\n")}
        assert not {pod["metadata"]["uid"] for pod in self.pods(cluster)} & before


def _all_answer(hosts: list[str], text: str) -> bool:
    return all(text in get(3000, host=host)[1] for host in hosts)
