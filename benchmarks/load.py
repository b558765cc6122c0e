"""Load from wrk, and what it and the kernel measure meanwhile."""

from __future__ import annotations

import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks.machine import cpu_seconds, load_cores, pinned
from benchmarks.servers import Running
from tests.support.toolchains import tool

SETTLE_SECONDS = 0.5
"""How long the guests of closed connections get to end."""
_SUMMARY = """
function done(summary, latency)
  local e = summary.errors
  print(string.format("measured %d %d %f %f %d", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.status
    + e.timeout))
end
"""


@dataclass(frozen=True)
class Effort:
    """How long to measure: ``rounds`` of ``seconds`` for each variant."""

    rounds: int
    seconds: int


@dataclass(frozen=True)
class Load:
    """The requests to a server.

    Attributes:
        server: It gets them, and its CPU time is measured.
        path: What is requested.
        connections: How many there are at a time, each with one request at a time.
        body: Bytes of each request's body; 0 for a GET.
        headers: Header fields besides Host.
        paths: Request these in turn instead of ``path``.
        beside: Have 8 requests of this path open meanwhile.
    """

    server: Running
    path: str = "/"
    connections: int = 64
    body: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    paths: tuple[str, ...] = ()
    beside: str = ""


@dataclass(frozen=True)
class Result:
    """What one measurement found.

    Attributes:
        rate: Requests per second.
        cpu: Microseconds of CPU time of all processes of the server for each request.
        median: Milliseconds that half of the requests took at most.
        p99: Milliseconds that 99 of 100 requests took at most.
    """

    rate: float
    cpu: float
    median: float
    p99: float


def measure(loads: Mapping[str, Load], effort: Effort) -> dict[str, list[Result]]:
    """The results of each load, one a round.

    All loads have their turn in each round, in an order that is reversed in every other one, so
    that changes of the machine affect them alike.
    """
    for load in loads.values():
        run(load, 1)  # warm up
    found: dict[str, list[Result]] = {name: [] for name in loads}
    for number in range(effort.rounds):
        for name in list(loads)[:: -1 if number % 2 else 1]:
            found[name].append(run(loads[name], effort.seconds))
    return found


def run(load: Load, seconds: int) -> Result:
    """Put a server under load for some seconds.

    Raises:
        SystemExit: A request fails.
    """
    url = load.server.url + load.path
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script, ExitStack() as stack:
        script.write(_script(load))
        script.flush()
        command = [tool("wrk"), "-t1", f"-c{load.connections}", f"-d{seconds}s", "--latency"]
        command += ["--timeout", "60s", "-s", script.name, url]
        if load.beside:
            stack.enter_context(open_requests(load.server.url + load.beside, 8))
        before = cpu_seconds(load.server.pid)
        with pinned(load_cores(load.server.cores)):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        cpu = cpu_seconds(load.server.pid) - before
    found = re.search(r"^measured (.*)$", done.stdout, re.MULTILINE)
    if not found:
        raise SystemExit(f"{url}: {done.stdout}{done.stderr}")
    requests, duration, median, p99, errors = map(float, found[1].split())
    if errors:
        raise SystemExit(f"{url}: requests failed\n{done.stdout}")
    if not requests:  # the machine is too busy; wrk counts an error after 60 s
        return run(load, 2 * seconds)
    rate = requests / duration * 1e6
    return Result(rate, cpu / requests * 1e6, median / 1000, p99 / 1000)


@contextmanager
def open_requests(url: str, count: int) -> Iterator[list[socket.socket]]:
    """Send requests without reading their responses; close the connections at the end."""
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    with ExitStack() as stack:
        sockets = []
        for _ in range(count):
            connection = socket.create_connection((parts.hostname, parts.port), timeout=60)
            stack.enter_context(connection)
            connection.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            sockets.append(connection)
        time.sleep(SETTLE_SECONDS)
        yield sockets
    time.sleep(SETTLE_SECONDS)


def _script(load: Load) -> str:
    lines = [f"wrk.headers[ [==[{name}]==] ] = [==[{value}]==]" for name, value in load.headers]
    if load.body:
        lines += ['wrk.method = "POST"', f'wrk.body = string.rep("x", {load.body})']
    if load.paths:
        paths = ", ".join(f'"{path}"' for path in load.paths)
        lines += [f"local paths, at = {{{paths}}}, 0"]
        lines += ["function request() at = at % #paths + 1"]
        lines += ["return wrk.format(nil, paths[at]) end"]
    return "\n".join(lines) + _SUMMARY
