"""deploy/Containerfile: what is in the image, and how it runs in a small container."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tomli
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.containers import (
    BASE,
    build,
    get,
    inspect,
    logs,
    podman,
    run_options,
    running,
    wait_until_ready,
)
from tests.support.image import LABELS, build_image
from tests.support.nginx import free_port
from tests.support.server import ROOT, write_files
from tests.support.shell import BLOCK
from tests.support.toolchains import tool
from tests.support.wat import HELLO, TEXT_HEAD, Program

CONTAINERFILE = ROOT / "deploy/Containerfile"
CONSTRAINTS = (ROOT / "deploy/constraints.txt").read_text()
PAGE = (ROOT / "docs/operations.md").read_text()
MAX_SIZE = 80_000_000
MAX_START_CPU_SECONDS = 2.0
PINNED = {canonicalize_name(name) for name in re.findall(r"^([\w.-]+)==", CONSTRAINTS, re.M)}
RESTRICTED = (
    *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--user", "65532:65532"),
)
BIG = Program().code("(drop (memory.grow (i32.const 512)))").write(TEXT_HEAD).sleep(300).wat()
MODULES: dict[str, str | bytes] = {
    "hello.wat": HELLO,
    "big.wat": BIG,
    "modules.toml": '[[module]]\nroute = "/hello"\nmodule = "hello.wat"\n'
    '[[module]]\nroute = "/big"\nmodule = "big.wat"\n',
}
containers = pytest.mark.xdist_group("containers")


def in_container(image: str, code: str) -> str:
    """Run Python code in the image as root, who can read everything."""
    options = ("--rm", "--user", "0", "--entrypoint", "python")
    return podman("run", *run_options(), *options, image, "-c", code).stdout


def test_hadolint() -> None:
    done = subprocess.run(
        [tool("hadolint"), str(CONTAINERFILE)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.fast
def test_the_constraints_satisfy_the_requirements() -> None:
    project = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = dict(re.findall(r"^([\w.-]+)==(\S+)$", CONSTRAINTS, re.M))
    pinned = {canonicalize_name(name): version for name, version in versions.items()}
    extras = project["optional-dependencies"]
    for text in (*project["dependencies"], *extras["webhook"], *extras["uvloop"]):
        requirement = Requirement(text)
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), text


@containers
def test_two_builds_have_the_same_layers(image: str) -> None:
    second = build_image("localhost/wagi:second")
    first_layers, second_layers = (
        inspect("image", name)["RootFS"]["Layers"] for name in (image, second)
    )
    assert first_layers == second_layers


@containers
def test_the_configuration(image: str) -> None:
    found = inspect("image", image)
    config = found["Config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["wagi"]
    labels = {key.rpartition(".")[2]: value for key, value in config["Labels"].items()}
    for key, value in LABELS.items():
        assert labels[key.lower()] == value
    assert labels["title"] == "wagi"
    assert labels["licenses"] == "Apache-2.0"
    # The index may contain credentials.
    assert "PIP_" not in json.dumps(found)
    assert found["Size"] - inspect("image", BASE)["Size"] <= MAX_SIZE


@containers
def test_the_contents(image: str) -> None:
    code = """if True:
        import importlib.metadata, importlib.util, json, os, stat, sys
        from pathlib import Path
        faults = []
        for folder, folders, files in os.walk("/"):
            if folder == "/":
                folders[:] = set(folders) - {"proc", "sys", "dev"}
            for name in folders + files:
                path = os.path.join(folder, name)
                status = os.lstat(path)
                if stat.S_ISLNK(status.st_mode):
                    continue
                sticky = status.st_mode & stat.S_ISVTX
                if status.st_mode & stat.S_IWOTH and not sticky:
                    faults.append(("writable", path))
                if path.startswith("/opt/") and (status.st_uid or status.st_mode & 0o6022):
                    faults.append(("mode", path))
                if path.startswith(("/root/", "/src", "/tools", "/tmp/")) and name[0] != ".":
                    faults.append(("left over", path))
        for path in Path("/opt/wagi").rglob("*.pyc"):
            if path.read_bytes()[4:8] != b"\\x01\\0\\0\\0":  # valid whatever the source's time
                faults.append(("bytecode", str(path)))
        for name in ("pip", "setuptools"):
            if importlib.util.find_spec(name):
                faults.append(("module", name))
        names = {item.metadata["Name"]: item.version for item in importlib.metadata.distributions()}
        sbom = json.loads(Path("/opt/wagi/share/wagi/sbom.cdx.json").read_text())
        print(json.dumps([faults, names, sbom]))
    """
    faults, names, sbom = json.loads(in_container(image, code))
    assert faults == []
    components = {item["name"]: item["version"] for item in sbom["components"]}
    assert sbom["bomFormat"] == "CycloneDX"
    assert components == names
    assert {canonicalize_name(name) for name in names} - PINNED == {"wagi"}
    version = podman("run", "--rm", *run_options(), *RESTRICTED, image, "--version").stdout
    assert "core: compiled\n" in version


@containers
def test_it_runs_within_64_mib(image: str, tmp_path: Path) -> None:
    """Read-only, and ready after less than two seconds of one processor."""
    write_files(tmp_path, MODULES)
    port = free_port()
    options = (
        *(*RESTRICTED, "--memory", "64m", "--cpus", "1", "--env", f"PORT={port}"),
        *("--volume", f"{readable(tmp_path)}:/srv/wagi:ro"),
    )
    with running(image, *options) as container:
        wait_until_ready(container, port)
        (usage,) = json.loads(podman("stats", "--no-stream", "--format", "json", container).stdout)
        assert seconds(usage["cpu_time"]) <= MAX_START_CPU_SECONDS
        for _ in range(300):
            assert get(port, "/hello") == (200, b"hello\n")
        podman("stop", "--time", "40", container)
        state = inspect("container", container)["State"]
        assert (state["ExitCode"], state["OOMKilled"]) == (0, False), logs(container)
        assert "warning" not in logs(container)


def readable(folder: Path) -> Path:
    """Let every user read the files of a test, which is in a private folder of root."""
    for path in (folder, *folder.parents):
        if path.owner() == "root" and path.is_relative_to("/tmp") and path != Path("/tmp"):
            path.chmod(path.stat().st_mode | 0o055)
    return folder


def seconds(text: str) -> float:
    """Convert a duration such as 1m2.5s or 850.3ms."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "µs": 1e-6, "us": 1e-6}
    found = re.findall(r"([\d.]+)(ms|µs|us|h|m|s)", text)
    assert found, text
    return sum(float(number) * units[unit] for number, unit in found)


@containers
def test_probes_and_the_memory_budget_in_256_mib(image: str, tmp_path: Path) -> None:
    """Many guests of 32 MiB wait or are rejected; the kernel kills no process."""
    write_files(tmp_path, MODULES)
    port, admin = free_port(), free_port()
    options = (
        *(*RESTRICTED, "--memory", "256m", "--env", f"PORT={port}"),
        *("--env", f"WAGI_ADMIN_LISTEN=127.0.0.1:{admin}"),
        *("--volume", f"{readable(tmp_path)}:/srv/wagi:ro"),
    )
    with running(image, *options) as container:
        wait_until_ready(container, admin, "/readyz")
        assert get(port, "/hello") == (200, b"hello\n")
        assert get(admin, "/livez")[0] == 200
        metrics = get(admin, "/metrics")[1].decode()
        (budget,) = re.findall(r"^wagi_memory_budget_bytes (\S+)", metrics, re.M)
        assert 32 << 20 < float(budget) < 220 << 20
        with ThreadPoolExecutor(32) as pool:
            statuses = [status for status, _ in pool.map(lambda _: get(port, "/big"), range(64))]
        assert set(statuses) <= {200, 503}
        assert statuses.count(200) > 4
        assert get(port, "/hello") == (200, b"hello\n")
        state = inspect("container", container)["State"]
        assert (state["Running"], state["OOMKilled"]) == (True, False), logs(container)
        metrics = get(admin, "/metrics")[1].decode()
        assert re.findall(r"^wagi_worker_deaths_total (\S+)", metrics, re.M) == ["0.0"]


@containers
def test_the_page_shows_an_image_with_handlers(image: str, tmp_path: Path) -> None:
    """The Containerfile and the command of the page: modules are compiled in the build."""
    (text,) = (text for _, name, text in BLOCK.findall(PAGE) if name == "Containerfile")
    assert text.startswith("FROM wagi\n")
    write_files(tmp_path, MODULES | {"Containerfile": text.replace("FROM wagi", f"FROM {image}")})
    build(tmp_path, "--timestamp", "0", "--tag", "localhost/site", ".")
    (shown,) = re.findall(r"^\$ podman run ((?:.*\\\n)*.*site)$", PAGE, re.M)
    options = shlex.split(shown.replace("\\\n", " "))
    assert [option for option in RESTRICTED if option not in options] == []
    port, admin = free_port(), free_port()
    assert options.pop() == "site"
    while "--publish" in options:  # the container has the network of this machine
        at = options.index("--publish")
        del options[at : at + 2]
    options[options.index("WAGI_ADMIN_LISTEN=:9464")] = f"WAGI_ADMIN_LISTEN=127.0.0.1:{admin}"
    with running("localhost/site", *options, "--env", f"PORT={port}") as container:
        wait_until_ready(container, admin, "/readyz")
        assert get(port, "/hello") == (200, b"hello\n")
        # Both modules have been compiled before.
        listed = podman("exec", container, "ls", "/var/cache/wagi/artefacts").stdout.split()
        assert len(listed) >= 2
        assert "warning" not in logs(container)
