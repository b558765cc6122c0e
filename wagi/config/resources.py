"""What a process may use: cores and memory, or less where a container has limits (cgroups(7))."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

_MIB = 1024**2
_SERVER_SIZE = 64 * _MIB
"""Bytes of the supervisor with all that workers share with it (41 MiB measured), and of the process
that loads, while it runs."""
_HELPER_SIZE = 32 * _MIB
"""Bytes of another process beside the workers: 17 MiB measured for ``--admin-listen``, and 25 MiB
for ``--reload-on-change``."""
_WORKER_SIZE = 32 * _MIB
"""Bytes of a worker's own: 13 MiB when idle, 20 MiB with 400 connections. The rest is for what a
guest takes besides its memory, such as its stack and its output that has not been sent."""
_LEAST_SHARE = 4  # of a small container, guests get a quarter, whatever the server needs
_RAM_SHARE = 3, 4
"""Guests get three quarters of a machine's memory: as much as MySQL takes with
``innodb_dedicated_server``. The rest is for the server, page cache and other programs."""


def core_count(root: Path = Path("/")) -> int:
    """Count the cores that this process may use: those it may run on, or fewer by a quota.

    Args:
        root: Where ``proc`` and ``sys`` are.

    Returns:
        At least one; a part of a core counts as a whole one.
    """
    quotas = _limits_of_groups(root, "cpu", _quota_v1, _quota_v2)
    return max(1, min([len(os.sched_getaffinity(0)), *map(math.ceil, quotas)]))


def memory_for_guests(workers: int, root: Path = Path("/"), *, helpers: int = 0) -> int:
    """Compute how much memory all guests may have, from that of the container or the machine.

    Args:
        workers: How many worker processes there will be.
        root: Where ``proc`` and ``sys`` are.
        helpers: How many other processes there will be besides the supervisor.

    Returns:
        Bytes.
    """
    ram = _ram(root)
    limits = map(int, _limits_of_groups(root, "memory", _memory_v1, _memory_v2))
    limit = min(limits, default=ram)
    share, whole = _RAM_SHARE
    if limit >= ram:  # version 1 has a number beyond any memory where there is no limit
        return ram * share // whole
    own = _SERVER_SIZE + helpers * _HELPER_SIZE + workers * _WORKER_SIZE
    return min(max(limit - own, limit // _LEAST_SHARE), ram * share // whole)


def _ram(root: Path) -> int:
    """The machine's memory in bytes (proc_meminfo(5)); sysconf(3) elsewhere."""
    with contextlib.suppress(OSError):
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _limits_of_groups(
    root: Path,
    controller: str,
    version_1: Callable[[Path], float],
    version_2: Callable[[Path], float],
) -> Iterator[float]:
    """The limits of this process's control groups and of all above them.

    Args:
        root: Where ``proc`` and ``sys`` are.
        controller: Its name, which in version 1 is also the directory that it is mounted at.
        version_1: Reads the limit of a group; it may raise ValueError if the group has no limit.
        version_2: The same.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # In a container the path may be the host's, and the group itself be what is mounted here.
        for group in {PurePosixPath("/"), PurePosixPath(path), *PurePosixPath(path).parents}:
            mount = root / "sys/fs/cgroup" / (controller if controllers else "")
            # No such group, or no limit: "max" (version 2), -1 (version 1).
            with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
                limit = (version_1 if controllers else version_2)(mount / str(group).strip("/"))
                if limit > 0:
                    yield limit


def _quota_v1(group: Path) -> float:
    """Cores: https://docs.kernel.org/scheduler/sched-bwc.html."""
    quota, period = (int((group / f"cpu.cfs_{n}_us").read_text()) for n in ("quota", "period"))
    return quota / period


def _quota_v2(group: Path) -> float:
    """Cores: https://docs.kernel.org/admin-guide/cgroup-v2.html, "CPU"."""
    quota, period = map(int, (group / "cpu.max").read_text().split())
    return quota / period


def _memory_v1(group: Path) -> int:
    """Bytes: https://docs.kernel.org/admin-guide/cgroup-v1/memory.html."""
    return int((group / "memory.limit_in_bytes").read_text())


def _memory_v2(group: Path) -> int:
    """Bytes: https://docs.kernel.org/admin-guide/cgroup-v2.html, "Memory"."""
    return int((group / "memory.max").read_text())
