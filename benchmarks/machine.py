"""The machine: what it is, which core does what, and what the kernel accounts to a process."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[1]
AVAILABLE = sorted(os.sched_getaffinity(0))
"""The numbers of the cores that this process may use."""


def server_cores(count: int) -> set[int]:
    """The cores that a server of so many cores is pinned to, or as many of them as there are."""
    return set(AVAILABLE[:count])


def load_cores(used: set[int]) -> set[int]:
    """The cores of the load generator: those that the server does not use, if there are any."""
    return set(AVAILABLE) - used or set(AVAILABLE)


@contextmanager
def pinned(cores: set[int]) -> Iterator[None]:
    """Pin this thread to some cores; a process that it starts inherits them."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have started."""
    found = []
    with suppress(OSError):  # it has ended meanwhile
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found


def cpu_seconds(pid: int) -> float:
    """The CPU time that a process and its descendants have had.

    It is what the kernel's scheduler has counted for each thread (schedstat, in nanoseconds), and
    what ended children had (cutime and cstime in /proc/PID/stat, in ticks of 10 ms).
    """
    total = 0.0
    for process in [pid, *descendants(pid)]:
        with suppress(OSError):  # it has ended meanwhile
            for task in Path(f"/proc/{process}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0]) / 1e9
            # The name, the second field, may contain spaces; the numbers follow its parenthesis.
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    return total


def resident(pid: int) -> int:
    """The resident memory of a process in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def parallel_capacity() -> float:
    """How much two busy processes get done, relative to one.

    The cores of a virtual machine need not be whole cores.
    """
    count = "import time; n, end = 0, time.time() + 1\nwhile time.time() < end: n += 1\nprint(n)"

    def done(processes: int) -> int:
        started = [
            subprocess.Popen([sys.executable, "-c", count], stdout=subprocess.PIPE, text=True)
            for _ in range(processes)
        ]
        return sum(int(process.communicate()[0]) for process in started)

    return done(2) / done(1)


def description() -> str:
    """What the figures were measured on and with, as a Markdown list."""
    libraries = ", ".join(f"{name} {_version(name)}" for name in ("aiohttp", "wasmtime", "uvloop"))
    wagi = subprocess.run(
        [sys.executable, "-m", "wagi", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    cores = f"the server on core {AVAILABLE[0]}, wrk on {sorted(load_cores(server_cores(1)))}"
    lines = [
        f"CPU: {len(AVAILABLE)} × {_processor()}; {cores}, where a table does not say otherwise",
        f"kernel: {platform.system()} {platform.release()}; load average before the first table:"
        f" {os.getloadavg()[0]:.1f}",
        f"Python: {_python()}",
        f"libraries: {libraries}; event loop: asyncio's",
        f"wagi: {'; '.join(wagi.split(chr(10))).strip('; ')};"
        f" WAGI_CORE={os.environ.get('WAGI_CORE', '(not set)')}",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _processor() -> str:
    """The name of the processor, and its numbers: a name may be as short as "AMD EPYC"."""
    found: dict[str, str] = {}
    with Path("/proc/cpuinfo").open() as lines:
        for line in lines:
            key, _, value = line.partition(":")
            found.setdefault(key.strip(), value.strip())
    numbers = [
        f"{label} {found[key]}"
        for label, key in (("family", "cpu family"), ("model", "model"), ("stepping", "stepping"))
        if key in found
    ]
    return f"{found.get('model name', platform.machine())} ({', '.join(numbers)})"


def _python() -> str:
    """The version, the compiler, and the options of the build that make Python faster."""
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    flags = sysconfig.get_config_var("PY_CFLAGS") or ""
    optimized = "--enable-optimizations" in arguments or "-fprofile-use" in flags
    lto = "--with-lto" in arguments or "-flto" in flags
    return (
        f"{platform.python_implementation()} {platform.python_version()},"
        f" {platform.python_compiler()}, {'with' if optimized else 'without'}"
        f" --enable-optimizations, {'with' if lto else 'without'} LTO"
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"
