"""Measure how much a guest that makes host calls in an endless loop delays other requests.

    python -m tests.hostile.fairness
    python -m tests.hostile.fairness poll_oneoff fd_write --timeout 1

prints a line for each loop of ``call_loops``: how late its time limit was enforced, and how long
the requests of another client took meanwhile. The first line is the baseline, a guest that never
makes a host call.
"""

from __future__ import annotations

import argparse
import math
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.hostile import call_loops
from tests.hostile.call_loops import LOOPS, Loop
from tests.support.server import ONE_WORKER, Server, serving
from tests.support.wat import HELLO, SPIN, Program

PAUSE = 0.002
"""Seconds between two requests of the measuring client."""
PATIENCE = 60.0
"""Seconds to wait for the end of a guest."""


@dataclass(frozen=True)
class Measurement:
    """The measurements of one guest.

        Attributes:
    status: Status of the guest's response.
    seconds: Time from its request to the end of its response.
    latencies: Duration in seconds of each concurrent request of the other client.
    """

    status: int
    seconds: float
    latencies: list[float] = field(repr=False)

    @property
    def median(self) -> float:
        return statistics.median(self.latencies)

    @property
    def p99(self) -> float:
        return sorted(self.latencies)[math.ceil(len(self.latencies) * 0.99) - 1]

    @property
    def worst(self) -> float:
        return max(self.latencies)


class _Hog:
    """A request to a guest that never ends by itself; its response is discarded."""

    def __init__(self, server: Server, path: str) -> None:
        self.done = threading.Event()
        self.status = 0
        self.seconds = 0.0
        self._connection = server.connect(PATIENCE)
        self._path = path
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        buffer = bytearray(call_loops.MIB)
        request = f"GET {self._path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        with self._connection as connection:
            began = time.monotonic()
            connection.sendall(request.encode())
            try:
                while received := connection.recv_into(buffer):
                    if not self.status and received > 12:
                        self.status = int(buffer[9:12])
            except OSError:
                pass  # a response that has begun is aborted at the limit
            self.seconds = time.monotonic() - began
        self.done.set()


def ask(connection: socket.socket) -> float:
    """Request /hello on an open connection; return the response time in seconds."""
    began = time.perf_counter()
    connection.sendall(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
    received, end = b"", b"hello\n"
    while not received.endswith(end):
        piece = connection.recv(4096)
        assert piece, f"the connection was closed after {received!r}"
        received += piece
        assert received.startswith(b"HTTP/1.1 200 "[: len(received)]), received
        if b"\r\nTransfer-Encoding: chunked\r\n" in received:  # the guest took several slices
            end = b"hello\n\r\n0\r\n\r\n"
    return time.perf_counter() - began


def measure(server: Server, path: str) -> Measurement:
    """Run a guest, and request /hello on another connection as long as it runs."""
    hog = _Hog(server, path)
    latencies = []
    with server.connect(PATIENCE) as connection:
        ask(connection)  # warm up the connection and the handler
        hog.start()
        while not hog.done.wait(PAUSE):
            latencies.append(ask(connection))
    return Measurement(hog.status, hog.seconds, latencies)


@contextmanager
def served(
    folder: Path, loops: Sequence[Loop], timeout: float, cpu_timeout: float
) -> Iterator[Server]:
    """Serve /hello, /spin and all loops.

    The guest at /NAME has a timeout of ``timeout`` seconds, the one at /cpu/NAME a CPU time limit
    of ``cpu_timeout`` seconds.
    """
    call_loops.volume(folder / "volume")
    modules: dict[str, str | bytes] = {"hello.wat": HELLO, "spin.wat": Program().code(SPIN).wat()}
    entries = ['[defaults]\nstderr_limit = "64KiB"\n[[module]]\nroute = "/hello"\n']
    entries.append('module = "hello.wat"\n')
    value = "x" * 400
    names = ["spin", *(loop.name for loop in loops)]
    for name in names:
        volumes = ""
        if name in LOOPS:
            modules[f"{name}.wat"] = call_loops.wat(LOOPS[name])
            volumes = 'volumes = {"/data" = "volume"}\n'
            if count := LOOPS[name].variables:
                pairs = ", ".join(f'V{i} = "{value}"' for i in range(count))
                volumes += f"environment = {{{pairs}}}\n"
        for route, limits in (
            (f"/{name}", f"timeout = {timeout}\ncpu_timeout = 0\n"),
            (f"/cpu/{name}", f"timeout = 0\ncpu_timeout = {cpu_timeout}\n"),
        ):
            entries.append(f'[[module]]\nroute = "{route}"\nmodule = "{name}.wat"\n')
            entries.append(limits + volumes)
    with serving(folder, "".join(entries), *ONE_WORKER, modules=modules) as server:
        yield server


def main() -> None:
    """Measure all loops, or those of the given functions, and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.hostile.fairness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", help="prefixes of loop names (default: all)")
    parser.add_argument(
        "--timeout", type=float, default=1.0, help="timeout of the guests in seconds"
    )
    options = parser.parse_args()
    loops = [
        loop
        for name, loop in LOOPS.items()
        if not options.names or any(map(name.startswith, options.names))
    ]
    print("Times in milliseconds; the last columns are about concurrent requests to /hello.\n")
    print("| guest | status | 504 late | median | p99 | max | requests |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Path(folder), loops, options.timeout, options.timeout) as server,
    ):
        for name in ("spin", *(loop.name for loop in loops)):
            print(line(name, measure(server, f"/{name}"), options.timeout), flush=True)


def line(name: str, found: Measurement, timeout: float) -> str:
    """Format one row of the table."""
    late = (found.seconds - timeout) * 1000
    assert found.latencies, f"{name} ended immediately with status {found.status}"
    figures = (late, found.median * 1000, found.p99 * 1000, found.worst * 1000)
    cells = " | ".join(f"{figure:.1f}" for figure in figures)
    return f"| {name} | {found.status} | {cells} | {len(found.latencies)} |"


if __name__ == "__main__":
    main()
