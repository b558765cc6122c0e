"""How many requests servers send to a registry (docs/scaling.md, "The registry")."""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.support.faulty import Faults, faulty_proxy
from tests.support.registry import registry
from tests.support.registry_modules import cache, entry, module, push
from tests.support.server import run_wagi, serving, write_files

MODULES = 3


def requests(faults: Faults) -> Counter[str]:
    """The requests since the last call, by what they fetch."""
    kinds = Counter("blob" if "/blobs/" in path else "manifest" for _, path, _ in faults.seen)
    faults.seen.clear()
    return kinds


@pytest.mark.parametrize(
    ("by_digest", "extra", "warm"),
    [
        (False, "", {"manifest": MODULES}),
        (False, 'pull = "if-not-present"', {}),
        (True, "", {}),
    ],
)
def test_a_start_and_a_reload(
    tmp_path: Path, by_digest: bool, extra: str, warm: dict[str, int]
) -> None:
    """Two requests for each module that is new; for one in the cache, one only if it has a tag."""
    with registry(tmp_path / "registry") as running, faulty_proxy(running.port) as faults:
        manifest = ""
        for number in range(MODULES):
            name = f"localhost:{faults.port}/team/{number}"
            pushed = push(tmp_path, module(f"module {number}"), f"oci://{name}:1")
            reference = pushed if by_digest else f"oci://{name}:1"
            # A second entry with the same reference costs nothing.
            manifest += entry(reference, f"/{number}", extra)
            manifest += entry(reference, f"/again/{number}", extra)
        faults.seen.clear()
        with serving(tmp_path, manifest, "--workers", "2", environment=cache(tmp_path)) as server:
            assert requests(faults) == {"manifest": MODULES, "blob": MODULES}
            server.process.send_signal(signal.SIGHUP)
            server.wait_for_log("reloaded")
            assert server.get("/1").text.startswith("module 1")
            assert requests(faults) == warm
        with serving(tmp_path, manifest, environment=cache(tmp_path)):
            assert requests(faults) == warm


def test_servers_that_share_a_cache(tmp_path: Path) -> None:
    """The second one downloads nothing, and compiles nothing."""
    with registry(tmp_path / "registry") as running, faulty_proxy(running.port) as faults:
        name = f"oci://localhost:{faults.port}/team/shared:1"
        push(tmp_path, module("shared"), name)
        write_files(tmp_path, {"modules.toml": entry(name)})
        faults.seen.clear()
        options = ("--module-cache", "modules", "--artefact-cache", "artefacts")
        assert run_wagi(tmp_path, "compile", *options).returncode == 0
        assert requests(faults) == {"manifest": 1, "blob": 1}
        again = shutil.copytree(tmp_path, tmp_path.parent / "node", ignore=lambda *_: ["registry"])
        done = run_wagi(again, "compile", *options)
        assert done.returncode == 0
        assert requests(faults) == {"manifest": 1}
