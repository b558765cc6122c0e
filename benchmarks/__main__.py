"""``python -m benchmarks``: how much of a bare aiohttp handler's throughput a guest keeps.

Needs wrk, and ziglang for the C handler (pip install '.[toolchains]'). Both servers run at the same
time, one process each, and are measured in turn, so that a noisy machine disturbs both alike.
"""

from __future__ import annotations

import argparse
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

HELLO_C = Path(__file__).parents[1] / "tests/handlers/hello.c"
SPIN = '(module (func (export "_start") (loop $l (br $l))))'
MANIFEST = """
[[module]]
route = "/hello"
module = "hello.wasm"
[[module]]
route = "/spin"
module = "spin.wat"
timeout = 0
"""


@contextmanager
def started(command: list[str], folder: Path) -> Iterator[str]:
    """Run a server; its URL."""
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.match(r"listening on (\S+)", line):
                threading.Thread(target=process.stderr.read, daemon=True).start()
                yield found[1]
                return
        raise SystemExit(f"{command} did not start")
    finally:
        process.kill()
        process.wait()


def requests_per_second(url: str, connections: int, seconds: float) -> float:
    """What wrk measures on one thread."""
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", url],
        capture_output=True,
        text=True,
        check=True,
    )
    failed = re.search(r"Non-2xx.*|Socket errors.*", done.stdout)
    if failed:
        raise SystemExit(f"{url}: {failed[0]}")
    found = re.search(r"Requests/sec:\s*([\d.]+)", done.stdout)
    assert found, done.stdout
    return float(found[1])


def latencies(url: str, count: int) -> list[float]:
    """Milliseconds of requests one after the other, each on a connection of its own."""
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        with urllib.request.urlopen(url, timeout=30) as response:
            response.read()
        times.append((time.perf_counter() - begin) * 1000)
    return sorted(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each measurement")
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    if not shutil.which("wrk"):
        raise SystemExit("wrk is not installed")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        zig = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-O2"]
        subprocess.run([*zig, str(HELLO_C), "-o", str(folder / "hello.wasm")], check=True)
        (folder / "spin.wat").write_text(SPIN)
        (folder / "modules.toml").write_text(MANIFEST)
        wagi = [sys.executable, "-m", "wagi", "serve", "-l", "127.0.0.1:0", "--access-log", "off"]
        bare = stack.enter_context(started([sys.executable, "-m", "benchmarks.bare"], Path.cwd()))
        served = stack.enter_context(started(wagi, folder))
        for url in (bare, f"{served}/hello"):
            requests_per_second(url, options.connections, 1)
        rows = []
        for _ in range(options.rounds):
            baseline = requests_per_second(bare, options.connections, options.seconds)
            hello = requests_per_second(f"{served}/hello", options.connections, options.seconds)
            rows.append((baseline, hello, hello / baseline))
        quiet = latencies(f"{served}/hello", 200)
        beside = _beside_spinners(served)
    baseline, hello, ratio = (statistics.median(column) for column in zip(*rows, strict=True))
    print(f"{platform.machine()}, Python {platform.python_version()},", end=" ")
    print(f"aiohttp {version('aiohttp')}, wasmtime {version('wasmtime')};", end=" ")
    print(f"medians of {options.rounds} rounds, {options.connections} connections")
    print(f"bare aiohttp handler      {baseline:9.0f} requests/s   1.00")
    print(f"C hello, one process      {hello:9.0f} requests/s   {ratio:.2f}")
    for name, times in (("hello alone", quiet), ("hello beside 8 loops", beside)):
        p99 = times[len(times) * 99 // 100]
        print(f"{name:25} {statistics.median(times):9.2f} ms median, {p99:.2f} ms p99")


def _beside_spinners(served: str) -> list[float]:
    def spin() -> None:
        with suppress(OSError):  # it runs until the server is ended
            urllib.request.urlopen(f"{served}/spin", timeout=600).read()

    for _ in range(8):
        threading.Thread(target=spin, daemon=True).start()
    time.sleep(0.3)
    return latencies(f"{served}/hello", 200)


if __name__ == "__main__":
    main()
