"""How many cores a process may use: those it may run on, or less where a container has a quota."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def core_count(root: Path = Path("/")) -> int:
    """Cores, at least one; a part of one counts whole.

    Parameters: ``root`` where ``proc`` and ``sys`` are.
    """
    return max(1, min([len(os.sched_getaffinity(0)), *map(math.ceil, _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """The quotas of this process's control groups and of all above them, in cores (cgroups(7))."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In a container the path may be the host's, and the group itself be what is mounted here.
        for group in {PurePosixPath("/"), PurePosixPath(path), *PurePosixPath(path).parents}:
            folder = root / "sys/fs/cgroup" / ("cpu" if controllers else "") / str(group).strip("/")
            # No such group, or no quota: "max" (version 2), -1 (version 1).
            with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
                quota, period = _version_1(folder) if controllers else _version_2(folder)
                if quota > 0:
                    yield quota / period


def _version_1(group: Path) -> list[int]:
    return [int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period")]


def _version_2(group: Path) -> list[int]:
    return [int(word) for word in (group / "cpu.max").read_text().split()]
