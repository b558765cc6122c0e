"""``--dev`` and ``--watch`` make snapshots in the background."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.browser import Page
from tests.support.nginx import free_port
from tests.support.server import Server, serving
from tests.support.toolchains import python_wasm, tool
from tests.support.wat import SLOW_START

MANIFEST = '[[module]]\nroute = "/made"\nmodule = "slow.wat"\nsnapshot = true\n'


def events(port: int) -> Iterator[dict[str, object]]:
    """The events of a dev page, as a browser receives them."""
    with socket.create_connection(("127.0.0.1", port), timeout=600) as connection:
        request = f"GET /events HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"
        connection.sendall(request.encode())
        with connection.makefile("rb") as lines:
            for line in lines:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])


def states(port: int) -> Iterator[str]:
    """What the dev page shows of the first module, with each event."""
    listed, texts = "", {}
    for event in events(port):
        if event["type"] == "routes":
            assert isinstance(event["routes"], list)
            listed = event["routes"][0]["snapshot"]
        elif event["type"] == "snapshots":
            assert isinstance(event["states"], dict)
            texts = event["states"]
        yield listed or "".join(texts.values())


def cpu_ms(server: Server) -> float:
    """Send a request. Returns: the CPU time of its guest."""
    number = len(server.access_log)
    assert server.post("/made", b"a").text in "ab"
    while len(server.access_log) == number:
        time.sleep(0.01)
    (found,) = re.findall(r"cpu_ms=([\d.]+)", server.access_log[-1])
    return float(found)


def wait_until_faster(server: Server, limit: float) -> None:
    """Wait until all workers have been replaced: two requests in a row need less CPU time."""
    deadline = time.monotonic() + 60
    while max(cpu_ms(server), cpu_ms(server)) > limit:
        assert time.monotonic() < deadline, server.access_log


@pytest.mark.xdist_group("dev")
def test_the_module_serves_until_the_snapshot_is_made(tmp_path: Path, chromium: Page) -> None:
    """The dev page shows each state; after a change, the new module serves at once."""
    tool("wasm-opt")
    port = free_port()
    environment = {"WAGI_ARTEFACT_CACHE": str(tmp_path / "cache")}
    with serving(
        tmp_path,
        MANIFEST,
        *("--dev", "--dev-listen", f"127.0.0.1:{port}"),
        modules={"slow.wat": SLOW_START},
        environment=environment,
    ) as server:
        found = states(port)
        assert "snapshot being made" in found
        plain = cpu_ms(server)
        assert "snapshot" in found
        wait_until_faster(server, plain / 3)
        (tmp_path / "slow.wat").write_text(SLOW_START.replace("\\0a\\0a?", "\\0a\\0ab"))
        assert "snapshot being made" in found
        assert "snapshot" in found
        wait_until_faster(server, plain / 3)
        assert "warning" not in server.log
        chromium.open(f"http://127.0.0.1:{port}/")
        chromium.wait("document.querySelector('#routes .snapshot')?.innerText == 'snapshot'")


def test_the_reason_is_shown_once(tmp_path: Path) -> None:
    """Without wasm-opt, the module serves; later changes do not repeat the warning."""
    port = free_port()
    with serving(
        tmp_path,
        MANIFEST,
        *("--dev", "--dev-listen", f"127.0.0.1:{port}"),
        modules={"slow.wat": SLOW_START},
        environment={"PATH": str(tmp_path)},
    ) as server:
        found = states(port)
        assert any("no snapshot: a snapshot of a command requires" in text for text in found)
        assert "a" in server.post("/made", b"a").text
        (tmp_path / "slow.wat").write_text(SLOW_START + " ")
        assert "snapshot being made" in found
        assert any("no snapshot:" in text for text in found)
        assert server.log.count("requires wasm-opt of Binaryen") == 1


@pytest.mark.xdist_group("python-snapshot")
def test_a_change_of_a_script(tmp_path: Path) -> None:
    """It is served at once, and the snapshot is made again."""
    tool("wasm-opt")
    (tmp_path / "app").mkdir()
    # An earlier run must not have left its snapshot in the cache.
    script = f"# {uuid4()}\nprint('Content-Type: text/plain\\n\\none')\n"
    (tmp_path / "app/handler.py").write_text(script)
    (tmp_path / "python.wasm").symlink_to(python_wasm())
    manifest = (
        '[[module]]\nroute = "/"\nmodule = "python.wasm"\nargv = "python /app/handler.py"\n'
        'volumes = {"/app" = "app"}\nsnapshot = true\n'
    )
    port = free_port()
    options = ("--dev", "--dev-listen", f"127.0.0.1:{port}")
    with serving(tmp_path, manifest, *options) as server:
        found = states(port)
        for word in ("one", "two"):
            (tmp_path / "app/handler.py").write_text(script.replace("one", word))
            server.wait_for_text("/", f"{word}\n", seconds=60)
            assert "snapshot being made" in found
            assert "snapshot" in found
            assert server.get("/").text.strip() == word
