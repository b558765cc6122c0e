"""The seed case: a Rust program in a registry, run from a pod manifest, behind nginx."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.krustlet import POD
from tests.support.nginx import example_site, free_port, nginx
from tests.support.registry import registry
from tests.support.server import run_wagi, serving, write_files
from tests.support.toolchains import HANDLERS, compiled, tool


def test_the_seed_case(tmp_path: Path) -> None:
    module = compiled(HANDLERS / "seed.rs").read_bytes()
    write_files(tmp_path, {"sample.wasm": module})
    environment = {"WAGI_MODULE_CACHE": str(tmp_path / "cache")}
    with registry(tmp_path / "registry") as running:
        target = f"oci://{running.name}/sample:1.0.0"
        pushed = run_wagi(tmp_path, "push", "--layout", "wasm-to-oci", "sample.wasm", target)
        assert pushed.returncode == 0, pushed.stderr
        port = free_port()
        pod = POD.replace("REGISTRY", running.name).replace("PORT", str(port))
        write_files(tmp_path, {"pod.yaml": pod})
        with serving(tmp_path, target="pod.yaml", listen=None, environment=environment) as server:
            assert server.port == port
            site, https = example_site(tmp_path, f"127.0.0.1:{port}")
            with nginx(tmp_path / "nginx", site):
                answer = subprocess.run(
                    [tool("curl"), "-sSki", f"https://127.0.0.1:{https}/?name=seed"],
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout
    assert answer.startswith("HTTP/1.1 200 OK\n")
    assert "Hello, world!" in answer


@pytest.mark.parametrize("second", ["/two", "/"])
def test_several_pods_in_a_file(tmp_path: Path, second: str) -> None:
    """They are served together if their routes do not collide."""
    write_files(tmp_path, {"sample.wasm": compiled(HANDLERS / "seed.rs").read_bytes()})
    environment = {"WAGI_MODULE_CACHE": str(tmp_path / "cache")}
    with registry(tmp_path / "registry") as running:
        run_wagi(tmp_path, "push", "sample.wasm", f"oci://{running.name}/sample:1.0.0")
        pod = POD.replace("REGISTRY", running.name).replace("PORT", str(free_port()))
        other = pod.replace("sample\n", "other\n").replace('"sample"', '"other"')
        other = other.replace('"route": "/"', f'"route": "{second}"')
        write_files(tmp_path, {"pods.yaml": f"{pod}---\n{other}"})
        done = run_wagi(tmp_path, "check", "pods.yaml", environment=environment)
    if second == "/":
        assert done.returncode == 2
        assert (
            "container 'other': route: '/' is already the route of container 'sample', line 7"
            in done.stderr
        )
    else:
        assert (done.returncode, done.stdout) == (0, "pods.yaml: 2 routes, no problems\n")
