"""The pod of deploy/chart/wagi as a real gateway: its command, its ConfigMap and its Secrets."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest
from wasmtime import wat2wasm

from tests.support.admin import Admin
from tests.support.helm import CHART, VALUES, Pod, content_of, find, render
from tests.support.registry import docker_config, login, registry_with_passwords
from tests.support.server import run_wagi
from tests.support.wat import ARGV, HELLO, TEXT_HEAD, printing

MODULES_TOML = '[[module]]\nroute = "/..."\nmodule = "hello.wat"\n'
ENVIRONMENT = ARGV.replace('"args_', '"environ_')
"""A module that prints its variables."""


def test_the_default_page(tmp_path: Path) -> None:
    with Pod(tmp_path, render()).serving() as server:
        response = server.get("/any/path")
        assert response.status == 200
        assert response.text == (
            "wagi is running. Set the value `modules` to serve handlers of your own.\n"
        )


def test_a_handler_and_a_page_of_a_configmap(tmp_path: Path) -> None:
    """The ConfigMap is valid and served; an update takes effect without a restart."""
    manifests = render("-f", CHART / "ci/minimal-values.yaml")
    pod = Pod(tmp_path, manifests)
    done = run_wagi(tmp_path, "check", pod.arguments[1])
    assert (done.returncode, done.stderr) == (0, "")
    with pod.serving() as server:
        assert server.get("/hello").text == "Hello from a ConfigMap!\n"
        page = server.get("/")
        assert (page.status, page.header("Content-Type")) == (200, "text/html; charset=utf-8")
        changed = content_of(find(manifests, "ConfigMap"))
        changed["hello.wat"] = printing(TEXT_HEAD + "changed")
        changed["public__index.html"] = "new"
        pod.write("modules", changed)
        server.wait_for_text("/hello", "changed")
        assert server.get("/").text == "new"


def test_a_binary_module(tmp_path: Path) -> None:
    """As base64 with line breaks, from a file."""
    wasm = bytes(wat2wasm(HELLO))
    (tmp_path / "hello.b64").write_bytes(base64.encodebytes(wasm))
    entry = "modules[0].route=/,modules[0].module=hello.wasm"
    file = f"binaryFiles.hello\\.wasm={tmp_path / 'hello.b64'}"
    manifests = render("--set", entry, "--set-file", file)
    assert content_of(find(manifests, "ConfigMap"))["hello.wasm"] == wasm
    with Pod(tmp_path / "root", manifests).serving() as server:
        assert server.get("/").text == "hello\n"


def test_probes_and_metrics(tmp_path: Path) -> None:
    """The paths of the probes, and the metrics of the example for KEDA."""
    manifests = render()
    (container,) = find(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    pod = Pod(tmp_path, manifests)
    admin = Admin(pod.admin_port)
    with pod.serving() as server:
        deadline = time.monotonic() + 60
        while admin.get(container["readinessProbe"]["httpGet"]["path"])[0] != 200:
            assert time.monotonic() < deadline, server.log
            time.sleep(0.05)
        for probe in ("startupProbe", "livenessProbe"):
            assert admin.get(container[probe]["httpGet"]["path"])[0] == 200
        metrics = admin.get("/metrics")[1]
        for name in ("wagi_guests_running", "wagi_queue_length"):
            assert f"\n{name} " in metrics
        assert server.get("/metrics").text.startswith("wagi is running")  # no metrics here


@pytest.mark.parametrize("path", VALUES, ids=lambda path: path.name)
def test_the_options_of_every_value_file_are_valid(tmp_path: Path, path: Path) -> None:
    """A real start; only what the ConfigMap would serve is replaced."""
    others = {
        "handlers": {"modules.toml": "", "handlers.env": "A=1\n"},
        "registry-credentials": {".dockerconfigjson": "{}"},
    }
    pod = Pod(tmp_path / "root", render("-f", path), others)
    pod.volumes["modules"].write({"modules.toml": MODULES_TOML, "hello.wat": HELLO})
    with pod.serving() as server:
        assert server.get("/").text == "hello\n"
        assert server.stop() == 0


def test_a_private_registry_and_variables_from_secrets(tmp_path: Path) -> None:
    """The Secrets of ``kubectl create secret docker-registry`` and ``generic --from-file``."""
    with registry_with_passwords(tmp_path) as registry:
        secret = login(registry.name)
        (tmp_path / "show.wasm").write_bytes(wat2wasm(ENVIRONMENT))
        reference = f"oci://{registry.name}/team/show:1.0"
        environment = docker_config(tmp_path / "docker", secret)
        done = run_wagi(tmp_path, "push", "show.wasm", reference, environment=environment)
        assert done.returncode == 0, done.stderr
        manifests = render(
            *("-f", CHART / "ci/registry-values.yaml"),
            *("--set", f"modules[0].route=/...,modules[0].module={reference}"),
        )
        others = {
            "registry-credentials": {".dockerconfigjson": json.dumps(secret)},
            "handlers": {"handlers.env": "TOKEN='a secret'\n"},
        }
        pod = Pod(tmp_path / "root", manifests, others)
        with pod.serving() as server:
            assert "TOKEN=a secret" in server.get("/").text
            pod.write("environment", {"handlers.env": "TOKEN=renewed\n"})
            deadline = time.monotonic() + 30
            while "TOKEN=renewed" not in server.get("/").text:
                assert time.monotonic() < deadline, server.log
                time.sleep(0.05)
