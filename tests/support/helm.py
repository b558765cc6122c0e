"""The Helm chart, rendered by the real helm, and its pods as processes of this machine."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.support.configmap import ConfigMap
from tests.support.nginx import free_port
from tests.support.server import ROOT, Server, serving
from tests.support.toolchains import tool

CHART = ROOT / "deploy/chart/wagi"
VALUES = sorted((CHART / "ci").glob("*-values.yaml"))
Manifest = dict[str, Any]
Content = Mapping[str, str | bytes]


class _Loader(yaml.SafeLoader):
    """Rejects a key that occurs twice, as strict readers do."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(set(keys)) == len(keys), f"a key occurs twice: {keys}"
        return super().construct_mapping(node, deep)


def parse_manifests(text: str) -> list[Manifest]:
    """Read a YAML stream of Kubernetes objects."""
    return [manifest for manifest in yaml.load_all(text, _Loader) if manifest]


def helm(*arguments: str | Path, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run helm in a folder; its result has the messages."""
    command = [tool("helm"), *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )


def render(*options: str | Path, release: str = "wagi") -> list[Manifest]:
    """Render the chart with ``helm template`` and further options."""
    done = helm("template", release, CHART, *options)
    assert done.returncode == 0, done.stderr
    return parse_manifests(done.stdout)


def find(manifests: Sequence[Manifest], kind: str) -> Manifest:
    """Find the only object of a kind."""
    (found,) = (manifest for manifest in manifests if manifest["kind"] == kind)
    return found


def pod_specs(manifests: Sequence[Manifest]) -> list[Manifest]:
    """The specifications of all pods: of Pods, and in the templates of workloads."""
    specs = [manifest["spec"] for manifest in manifests if manifest["kind"] == "Pod"]
    workloads = [m["spec"] for m in manifests if "template" in m.get("spec", {})]
    return specs + [spec["template"]["spec"] for spec in workloads]


class Pod:
    """The gateway's pod of rendered manifests, with its volumes in a folder.

    Attributes:
        arguments: The arguments of the container, with paths in the folder and free ports.
        environment: Its variables.
        admin_port: The port of the admin listener.
        volumes: Its volumes of ConfigMaps and Secrets, by name.
    """

    def __init__(
        self,
        folder: Path,
        manifests: Sequence[Manifest],
        others: Mapping[str, Content] | None = None,
    ) -> None:
        """Write the volumes.

        Args:
            folder: Stands for the root of the container.
            manifests: What is rendered.
            others: The contents of Secrets and ConfigMaps that are not rendered, by name.
        """
        deployment = find(manifests, "Deployment")
        spec = deployment["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        contents = {**_config_maps(manifests), **(others or {})}
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        self._folder = folder
        self._items: dict[str, list[dict[str, str]]] = {}
        self.volumes: dict[str, ConfigMap] = {}
        for volume in spec["volumes"]:
            path = folder / mounts[volume["name"]].lstrip("/")
            path.mkdir(parents=True)
            if source := volume.get("configMap") or volume.get("secret"):
                self._items[volume["name"]] = source.get("items", [])
                self.volumes[volume["name"]] = ConfigMap(path)
                self.write(volume["name"], contents[source.get("name") or source["secretName"]])
        http, admin = (port["containerPort"] for port in container["ports"])
        self.admin_port = free_port()
        places = {
            f"--listen=:{http}": "--listen=127.0.0.1:0",
            f"--admin-listen=:{admin}": f"--admin-listen=127.0.0.1:{self.admin_port}",
        }
        assert set(places) <= set(container["args"])
        self.arguments = [
            self._place(places.get(argument, argument)) for argument in container["args"]
        ]
        self.environment = {
            variable["name"]: self._place(variable["value"])
            for variable in container.get("env", [])
            if "value" in variable
        }

    def write(self, volume: str, content: Content) -> None:
        """Write or update a volume from the keys of its ConfigMap or Secret."""
        items = self._items[volume] or [{"key": key, "path": key} for key in content]
        self.volumes[volume].write({item["path"]: content[item["key"]] for item in items})

    def _place(self, text: str) -> str:
        for path in ("/etc/wagi", "/var/cache/wagi"):
            text = text.replace(path, f"{self._folder}{path}")
        return text

    @contextmanager
    def serving(self) -> Iterator[Server]:
        """Run the command of the container."""
        command, *options = self.arguments
        assert command == "serve"
        environment = self.environment
        with serving(
            self._folder, None, *options, target=None, listen=None, environment=environment
        ) as server:
            yield server


def content_of(config_map: Manifest) -> dict[str, str | bytes]:
    """The keys of a ConfigMap."""
    binary = {k: base64.b64decode(v) for k, v in config_map.get("binaryData", {}).items()}
    return {**config_map["data"], **binary}


def _config_maps(manifests: Sequence[Manifest]) -> dict[str, Content]:
    return {m["metadata"]["name"]: content_of(m) for m in manifests if m["kind"] == "ConfigMap"}
