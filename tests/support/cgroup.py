"""A control group with a memory limit, like that of a container, to run servers in."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.toolchains import missing

_numbers = itertools.count()


@dataclass(frozen=True)
class ControlGroup:
    """A control group.

    Attributes:
        path: Its directory.
        is_v2: Whether it belongs to version 2 of control groups.
    """

    path: Path
    is_v2: bool

    @property
    def command(self) -> list[str]:
        """The prefix that makes a command run in this group."""
        return ["sh", "-c", f'echo $$ > "{self.path}/cgroup.procs" && exec "$@"', "sh"]

    @property
    def peak(self) -> int:
        """The maximum memory usage in bytes."""
        name = "memory.peak" if self.is_v2 else "memory.max_usage_in_bytes"
        return int((self.path / name).read_text())

    @property
    def oom_kills(self) -> int:
        """The number of processes that were killed because of the limit."""
        name = "memory.events" if self.is_v2 else "memory.oom_control"
        lines = (self.path / name).read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


@contextlib.contextmanager
def memory_limited_to(limit: int) -> Iterator[ControlGroup]:
    """Create a group below that of this process, for the duration of the block.

    Swap is disabled, because it would absorb the excess.
    """
    parent, is_v2 = _own_group()
    path = parent / f"wagi-test-{os.getpid()}-{next(_numbers)}"
    try:
        path.mkdir()
        (path / ("memory.max" if is_v2 else "memory.limit_in_bytes")).write_text(str(limit))
    except OSError as error:
        with contextlib.suppress(OSError):
            path.rmdir()
        missing(f"no control group for memory can be made here: {error}")
    with contextlib.suppress(OSError):  # some systems have no limit for swap
        name, most = ("memory.swap.max", 0) if is_v2 else ("memory.memsw.limit_in_bytes", limit)
        (path / name).write_text(str(most))
    try:
        yield ControlGroup(path, is_v2)
    finally:
        deadline = time.monotonic() + 10
        while True:
            try:
                path.rmdir()
                break
            except OSError:  # killed processes have not ended yet
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


def _own_group() -> tuple[Path, bool]:
    root = Path("/sys/fs/cgroup")
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        mount = root / "memory" if controllers == "memory" else root
        group = mount / path.strip("/")
        if controllers == "memory" and group.is_dir():
            return group, False
        if not controllers and "memory" in _controllers(group):
            return group, True
    return missing("this process is in no control group that limits memory")


def _controllers(group: Path) -> list[str]:
    try:
        return (group / "cgroup.subtree_control").read_text().split()
    except OSError:
        return []
