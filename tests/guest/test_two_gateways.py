"""Two gateways in one process, used from two threads, are isolated from each other.

A host call finds its guest through its store. A process-wide "current guest" worked with a single
event loop only: with two of them, wasmtime aborted the process ("object used with the wrong
store"), or a guest got the environment of the other gateway's guest.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.server import ENVIRONMENT, ROOT

REQUESTS = 2000
"""Requests to each gateway."""

# The gateways run in a separate process, which prints failures as JSON, so that an abort fails only
# this test.
SCRIPT = """
import json, sys, threading
from pathlib import Path
from wagi.config.settings import Settings
from wagi.testing.local_gateway import local_gateway

wrong = []
right = {"A": 0, "B": 0}
started = threading.Barrier(2)

def work(gateway, who, count):
    started.wait(60)
    for number in range(count):
        answer = gateway.ask("GET", f"/{who}/{number}")
        text = answer.body.decode(errors="replace")
        variables = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        found = (answer.status, variables.get("WHO"), variables.get("PATH_INFO"))
        if found == (200, who, f"/{who}/{number}"):
            right[who] += 1
        else:
            wrong.append([who, number, *found])

folder, count = Path(sys.argv[1]), int(sys.argv[2])
with (
    local_gateway(Settings(), folder / "a.toml") as a,
    local_gateway(Settings(), folder / "b.toml") as b,
):
    pairs = ((a, "A", count), (b, "B", count))
    threads = [threading.Thread(target=work, args=arguments) for arguments in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print(json.dumps({"right": right, "wrong": wrong[:10], "wrong_count": len(wrong)}))
"""


def test_two_gateways_in_two_threads(tmp_path: Path) -> None:
    """Every response has the environment of its own gateway and request."""
    module = ROOT / "examples" / "wat" / "environment.wat"
    for name, who in (("a.toml", "A"), ("b.toml", "B")):
        (tmp_path / name).write_text(
            f'[[module]]\nroute = "/..."\nmodule = "{module}"\nenvironment = {{WHO = "{who}"}}\n'
        )
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(REQUESTS)],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"status {done.returncode}\n{done.stderr[-3000:]}"
    result = json.loads(done.stdout)
    assert result == {"right": {"A": REQUESTS, "B": REQUESTS}, "wrong": [], "wrong_count": 0}
