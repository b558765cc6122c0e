"""Load from wrk, and what it measures."""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass

_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True)
class Load:
    """What is asked for.

    Attributes: ``connections`` at a time; ``body`` bytes of each request's body, 0 for a GET;
    ``headers`` of each request besides Host; ``targets`` to take in turn, in place of the URL's.
    """

    url: str
    connections: int = 64
    body: int = 0
    headers: int = 0
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """Requests per second, and milliseconds that half and all but a hundredth of them took."""

    rate: float
    median: float
    p99: float


def run(load: Load, seconds: int) -> Result:
    """Put a server under load for some seconds. Raises: SystemExit if a request fails."""
    if not shutil.which("wrk"):
        raise SystemExit("wrk is not installed")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_script(load))
        script.flush()
        command = ["wrk", "-t1", f"-c{load.connections}", f"-d{seconds}s", "--latency"]
        command += ["--timeout", "60s", "-s", script.name, load.url]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    failed = re.search(r"Non-2xx.*|Socket errors.*", done.stdout)
    rate = re.search(r"Requests/sec:\s*([\d.]+)", done.stdout)
    if failed or not rate:
        raise SystemExit(f"{load.url}: {failed[0] if failed else done.stdout}")
    return Result(float(rate[1]), _latency("50", done.stdout), _latency("99", done.stdout))


def interleaved(loads: Mapping[str, Load], rounds: int, seconds: int) -> dict[str, Result]:
    """Medians of several rounds, in each of which every load has its turn: noise hits all alike."""
    found: dict[str, list[Result]] = {name: [] for name in loads}
    for load in loads.values():
        run(load, 1)  # warm up
    for _ in range(rounds):
        for name, load in loads.items():
            found[name].append(run(load, seconds))
    return {
        name: Result(
            statistics.median(result.rate for result in results),
            statistics.median(result.median for result in results),
            statistics.median(result.p99 for result in results),
        )
        for name, results in found.items()
    }


def _script(load: Load) -> str:
    lines = [f'wrk.headers["X-Header-{i}"] = "value of header {i}"' for i in range(load.headers)]
    if load.body:
        lines += ['wrk.method = "POST"', f'wrk.body = string.rep("x", {load.body})']
    if load.targets:
        targets = ", ".join(f'"{target}"' for target in load.targets)
        lines += [f"local targets = {{{targets}}}", "local at = 0"]
        lines += ["function request() at = at % #targets + 1"]
        lines += ["return wrk.format(nil, targets[at]) end"]
    return "\n".join(lines)


def _latency(percent: str, text: str) -> float:
    found = re.search(rf"^\s*{percent}%\s+([\d.]+)(us|ms|s|m)$", text, re.MULTILINE)
    return float(found[1]) * _UNITS[found[2]] if found else float("nan")
