"""Container images that are built with buildah, and run with podman.

The base images are made from the packages of this machine's distribution, with mmdebstrap. Images
are kept in a storage of their own, so that those of the user stay as they are. All tests that use
it are in the xdist group ``containers``: podman fails ("layer not known", "image not known") while
another process builds or removes images.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.toolchains import CACHE, missing, tool
from tests.support.users import require_root

STORAGE = CACHE / "containers"
BASE = "localhost/base:2"
"""Python and certificates, such as an official image of Python has."""
BUILD_BASE = "localhost/build-base:2"
"""The same with a C compiler, systemd, kill and curl."""
_BASE_PACKAGES = "python3,python3-venv,ca-certificates"
_BUILD_PACKAGES = "gcc libc6-dev libpython3-dev systemd procps curl"
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
_NOT_IN_IMAGES = (
    "./proc/*",
    "./sys/*",
    "./dev/*",
    "./tmp/*",
    "./var/lib/apt/lists/*",
    "./var/cache/apt/*",
)


def podman(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run podman with the storage of the tests."""
    return _run([*_with_storage("podman"), "--cgroup-manager=cgroupfs", *arguments], check)


@contextmanager
def podman_process(arguments: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Run podman in the background, with its output in a pipe."""
    with subprocess.Popen(
        [*_with_storage("podman"), "--cgroup-manager=cgroupfs", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def build(folder: Path, *arguments: str) -> None:
    """Build an image; ``arguments`` are those of ``buildah build``."""
    isolation = ["--isolation", "oci", "--runtime", tool("runc"), "--network", "host"]
    command = [*_with_storage("buildah"), "build", *isolation, *_limits(), *arguments]
    _run(command, check=True, folder=folder)
    podman("image", "prune", "--force")  # the image that had the name before


def inspect(kind: str, name: str) -> Any:
    """Return what podman knows about an image or a container."""
    return json.loads(podman(kind, "inspect", name).stdout)[0]


def run_options(network: str = "host") -> list[str]:
    """Options of ``podman run``: a network, and limits that this machine allows."""
    return ["--network", network, *_limits()]


@contextmanager
def running(image: str, *options: str, network: str = "host") -> Iterator[str]:
    """Run a container in the background. Yields: its identifier."""
    done = podman("run", "--detach", *run_options(network), *options, image)
    identifier = done.stdout.strip()
    try:
        yield identifier
    finally:
        podman("rm", "--force", "--time", "0", identifier)


def logs(container: str) -> str:
    """What a container has written to stdout and stderr so far."""
    done = podman("logs", container)
    return done.stdout + done.stderr


def pip_arguments() -> list[str]:
    """Arguments of a build that make pip use the index and the certificate of this machine."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    arguments = ["--volume", f"{_folder('pip')}:/root/.cache/pip"]
    for key, variable in (("index-url", "PIP_INDEX_URL"), ("cert", "PIP_CERT")):
        if found := re.search(rf"\.{key}='(.*)'", listed):
            arguments += ["--build-arg", f"{variable}={found[1]}"]
            if key == "cert":
                arguments += ["--volume", f"{found[1]}:{found[1]}:ro"]
    return arguments


@cache
def require_containers() -> None:
    """Make the base images; skip or fail the test if containers do not run on this machine."""
    require_root()
    for name in ("buildah", "podman", "runc", "mmdebstrap"):
        tool(name)
    STORAGE.mkdir(parents=True, exist_ok=True)
    with (STORAGE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for image in (BASE, BUILD_BASE):
            if podman("image", "exists", image, check=False).returncode != 0:
                _make_base_images()
    done = podman("run", "--rm", *run_options(), "--read-only", BASE, "true", check=False)
    if done.returncode != 0:
        missing(f"podman cannot run containers on this machine: {done.stderr.strip()}")


def _make_base_images() -> None:
    sources = next(
        (
            path
            for path in map(
                Path, ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list")
            )
            if path.exists()
        ),
        None,
    )
    suite = re.search(r"^VERSION_CODENAME=(\w+)$", Path("/etc/os-release").read_text(), re.M)
    if sources is None or suite is None:
        missing("the base images are made of Debian packages: this machine does not run Debian")
    base, build_base = STORAGE / "base.tar", STORAGE / "build-base.tar"
    excluded = " ".join(f"--exclude='{path}'" for path in _NOT_IN_IMAGES)
    pack = f'tar -C "$1" --one-file-system {excluded} -cf'
    hooks = (
        f"{pack} {base} .",
        f'chroot "$1" apt-get install -qy --no-install-recommends {_BUILD_PACKAGES}',
        f"{pack} {build_base} .",
    )
    _run(
        [
            *(tool("mmdebstrap"), "--quiet", "--variant=minbase", f"--include={_BASE_PACKAGES}"),
            *(f"--dpkgopt=path-exclude={path}" for path in _LEFT_OUT),
            *("--dpkgopt=force-unsafe-io", "--format=null"),
            *(f"--customize-hook={hook}" for hook in hooks),
            *(suite[1], "-", str(sources)),
        ],
        check=True,
    )
    for path, image in ((base, BASE), (build_base, BUILD_BASE)):
        podman("import", "--quiet", str(path), image)
        path.unlink()


def _with_storage(name: str) -> list[str]:
    root = ["--root", str(STORAGE / "storage"), "--runroot", str(STORAGE / "run")]
    runtime = ["--runtime", tool("runc")] if name == "podman" else []
    return [tool(name), *root, *runtime]


def _limits() -> list[str]:
    """Limits that a container may have, where this machine allows less than the default."""
    options = []
    for name, number in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
        hard = resource.getrlimit(number)[1]
        limit = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
        options += ["--ulimit", f"{name}={limit}:{limit}"]
    return options


def _folder(name: str) -> Path:
    path = STORAGE / name
    path.mkdir(exist_ok=True)
    return path


def _run(
    command: Sequence[str], check: bool, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "TMPDIR": str(_folder("tmp"))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert not check or done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done


def get(port: int, path: str) -> tuple[int, bytes]:
    """Send a request; return the status and the body of the response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def wait_until_ready(container: str, port: int, path: str = "/hello") -> None:
    """Wait until a container responds with 200."""
    deadline = time.monotonic() + 120
    status = 0
    while status != 200:
        state = inspect("container", container)["State"]
        assert state["Running"], (state, logs(container))
        assert time.monotonic() < deadline, (status, logs(container))
        try:
            status, _ = get(port, path)
        except OSError:
            time.sleep(0.05)
