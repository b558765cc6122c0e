"""The cores and memory available to a server, in a container or not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.server import write_files
from wagi.config.resources import core_count, memory_for_guests

pytestmark = pytest.mark.fast

MOST = len(os.sched_getaffinity(0))
V1, V2 = "4:cpu,cpuacct:/{}\n1:name=systemd:/\n", "0::/{}\n"


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        (V2.format(""), {"cpu.max": "50000 100000\n"}, 1),
        (V2.format(""), {"cpu.max": "max 100000\n"}, MOST),
        (V2.format("a/b"), {"a/cpu.max": "100000 100000", "a/b/cpu.max": "max 100000"}, 1),
        (V2.format("kubepods/pod"), {"cpu.max": "1000 100000\n"}, 1),
        (V2.format("a"), {"a/cpu.max": "99000000 100000\n"}, MOST),
        (V2.format("a"), {"a/cpu.max": "100000 0\n", "cpu.max": "nonsense"}, MOST),
        (V1.format(""), {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        (V1.format(""), {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, MOST),
        (V1.format("docker/x"),
         {"cpu/docker/x/cpu.cfs_quota_us": "1", "cpu/docker/x/cpu.cfs_period_us": "100000"}, 1),
        (V2.format("../../.."), {}, MOST),
        ("", {}, MOST),
    ],
)  # fmt: skip
def test_quotas(tmp_path: Path, groups: str, files: dict[str, str], cores: int) -> None:
    """Of both versions of control groups, and of parent groups."""
    write_files(tmp_path, {f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    write_files(tmp_path, {"proc/self/cgroup": groups})
    assert core_count(tmp_path) == cores


def test_without_control_groups(tmp_path: Path) -> None:
    assert core_count(tmp_path) == MOST
    assert memory_for_guests(1, tmp_path) == RAM * 3 // 4


RAM = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
GIB = 1024**3
MEMORY_V1, UNLIMITED_V1 = "4:memory:/{}\n2:cpu,cpuacct:/other\n", "9223372036854771712\n"


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        (V2.format(""), {"memory.max": f"{GIB}\n"}, GIB),
        (V2.format(""), {"memory.max": "max\n"}, None),
        (V2.format("a/b"), {"a/memory.max": f"{GIB}", "a/b/memory.max": f"{2 * GIB}"}, GIB),
        (V2.format("a/b"), {"a/memory.max": "max", "a/b/memory.max": f"{GIB}"}, GIB),
        (V2.format("kubepods/pod"), {"memory.max": f"{GIB}\n"}, GIB),
        (V2.format("a"), {"a/memory.max": f"{99 * GIB}\n"}, None),
        (V2.format("a"), {"a/memory.max": "0\n", "memory.max": "nonsense"}, None),
        (MEMORY_V1.format(""), {"memory/memory.limit_in_bytes": f"{GIB}\n"}, GIB),
        (MEMORY_V1.format(""), {"memory/memory.limit_in_bytes": UNLIMITED_V1}, None),
        (MEMORY_V1.format("docker/x"),
         {"memory/memory.limit_in_bytes": UNLIMITED_V1,
          "memory/docker/x/memory.limit_in_bytes": f"{GIB}\n"}, GIB),
        (MEMORY_V1.format("docker/x"), {"memory/memory.limit_in_bytes": f"{GIB}\n"}, GIB),
        (MEMORY_V1.format(""), {"memory.max": f"{GIB}\n", "cpu/memory.max": f"{GIB}"}, None),
        ("", {"memory.max": f"{GIB}\n"}, None),
    ],
)  # fmt: skip
def test_memory(tmp_path: Path, groups: str, files: dict[str, str], limit: int | None) -> None:
    """Guests get three quarters of 8 GiB, or what the server leaves of a container's limit."""
    write_files(tmp_path, {f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    write_files(tmp_path, {"proc/self/cgroup": groups, "proc/meminfo": "MemTotal: 8388608 kB\n"})
    if limit is None:
        assert memory_for_guests(2, tmp_path) == 6 * GIB
        return
    assert limit // 2 < memory_for_guests(2, tmp_path) < limit
    assert memory_for_guests(3, tmp_path) < memory_for_guests(2, tmp_path)
    assert memory_for_guests(2, tmp_path, helpers=2) == memory_for_guests(4, tmp_path)
    assert memory_for_guests(512, tmp_path) == limit // 4


def test_a_container_as_large_as_the_machine(tmp_path: Path) -> None:
    """A share is left to the machine."""
    limit = 8 * GIB - 1
    write_files(
        tmp_path, {"proc/self/cgroup": V2.format(""), "sys/fs/cgroup/memory.max": f"{limit}"}
    )
    write_files(tmp_path, {"proc/meminfo": "MemTotal: 8388608 kB\n"})
    assert memory_for_guests(1, tmp_path) == 6 * GIB
