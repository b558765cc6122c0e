"""How many workers `auto` is, in a container that may use less than its machine has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.server import write_files
from wagi.config.cores import core_count

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
    """Of both versions of control groups, and of the groups above."""
    write_files(tmp_path, {f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    write_files(tmp_path, {"proc/self/cgroup": groups})
    assert core_count(tmp_path) == cores


def test_without_control_groups(tmp_path: Path) -> None:
    assert core_count(tmp_path) == MOST
