"""docs/kubernetes.md: its values are valid, and its figures are those of a real pod."""

from __future__ import annotations

import base64
import json
import re
import shlex
import time
from pathlib import Path

import pytest
import yaml

from tests.support.admin import Admin
from tests.support.helm import CHART, VALUES, Pod, find, helm, pod_specs, render
from tests.support.pod_security import violations
from tests.support.server import ROOT, Server
from tests.support.shell import BLOCK
from wagi.config.resources import memory_for_guests

PAGE = (ROOT / "docs/kubernetes.md").read_text()
EXAMPLES = {name: text for language, name, text in BLOCK.findall(PAGE) if language == "yaml"}
MIB = 1024**2


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_of_values(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(EXAMPLES[name])
    for spec in pod_specs(render("-f", tmp_path / name)):
        assert violations(spec) == []


def test_commands(tmp_path: Path) -> None:
    """Each command of helm is accepted; installations are only rendered."""
    (tmp_path / "values.yaml").write_text(EXAMPLES["values.yaml"])
    commands = [shlex.split(line) for line in re.findall(r"^helm (.*)$", PAGE, re.MULTILINE)]
    assert {command[0] for command in commands} == {"install", "test", "upgrade", "rollback"}
    (tmp_path / "hello.b64").write_text(base64.encodebytes(b"x" * 1000).decode())
    for command, *arguments in commands:
        if command in ("install", "upgrade"):
            name, chart, *options = arguments
            assert (name, ROOT / chart) == ("wagi", CHART)
            done = helm("template", name, CHART, *options, folder=tmp_path)
            assert done.returncode == 0, (command, done.stderr)


@pytest.mark.fast
def test_values_and_files_that_it_names_exist() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    tables = PAGE.split("These values matter most")[1].split("## Size")[0]
    named = set(re.findall(r"`(\w+)`", re.sub(r"(?m)\|[^|\n]*\|$", "", tables)))
    assert named
    assert named <= values.keys()
    for path in re.findall(r"`(deploy/[\w/.-]+)`", PAGE):
        assert (ROOT / path).exists(), path
    assert (CHART / "examples/keda.yaml").exists()


def _private_memory(server: Server) -> int:
    """Bytes of memory of a server that cannot be taken back: not that of files."""
    pids = [server.process.pid, *server.workers]
    text = "".join(Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids)
    return sum(map(int, re.findall(r"^Pss_(?:Anon|Shmem): +(\d+) kB", text, re.MULTILINE))) * 1024


@pytest.mark.parametrize("workers", [1, 4])
def test_memory_of_a_pod(tmp_path: Path, workers: int) -> None:
    """The figures of the page; what is reserved for the gateway is enough."""
    base, each = map(int, re.findall(r"about (\d+) MiB, (\d+) MiB for each worker", PAGE)[0])
    pod = Pod(tmp_path, render("--set", f"workers={workers}"))
    with pod.serving() as server:
        admin = Admin(pod.admin_port)
        deadline = time.monotonic() + 30
        while admin.get("/readyz")[0] != 200 or admin.value("wagi_workers") != workers:
            assert time.monotonic() < deadline, server.log
            time.sleep(0.1)
        for _ in range(20):
            assert server.get("/").status == 200
        found = _private_memory(server) / MIB
    assert 0.6 < found / (base + each * workers) < 1.4
    reserved = 128 + 32 * workers
    assert found < reserved


def test_the_budget_of_the_default_limit(tmp_path: Path) -> None:
    limits = yaml.safe_load((CHART / "values.yaml").read_text())["resources"]["limits"]
    assert limits["memory"] == "512Mi"
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 8388608 kB\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory.max").write_text(f"{512 * MIB}\n")
    budget = memory_for_guests(1, tmp_path, helpers=2) // MIB
    assert f"it is\n  {budget} MiB" in PAGE


def test_metrics_and_ports_that_it_names() -> None:
    deployment = find(render(), "Deployment")
    assert deployment["metadata"]["name"] == "wagi"
    ports = json.dumps(deployment["spec"]["template"]["spec"]["containers"][0]["ports"])
    (port,) = re.findall(r"port-forward deployment/wagi (\d+)", PAGE)
    assert f'"containerPort": {port}' in ports
    assert VALUES
