"""The benchmarks, run briefly: they measure what they print."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.load import Result
from benchmarks.machine import cpu_seconds
from benchmarks.plot import COUNTS, SERIES, plot, row_name
from benchmarks.report import Table, compared, grown
from benchmarks.tables import TABLES
from tests.support.server import ENVIRONMENT, ROOT
from tests.support.toolchains import missing, python_module, tool

BURN_SECONDS = 0.4
PARENT = f"""
import subprocess, sys, time
def burn(): # a fixed amount of CPU time, however long that takes
    while time.process_time() < {BURN_SECONDS}: pass
if len(sys.argv) > 1:
    burn()
else:
    subprocess.run([sys.executable, __file__, "ended child"], check=True)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    burn()
    print("burnt", flush=True)
    input()
"""


def run(
    *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", "--rounds", "1", "--seconds", "1", *arguments],
        cwd=ROOT,
        env={**ENVIRONMENT, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_tables_are_measured_and_written(tmp_path: Path) -> None:
    tool("wrk")
    python_module("ziglang")
    done = run("bodies", "--into", str(tmp_path))
    assert done.returncode == 0, done.stderr
    for part in ("CPU: ", "family ", "kernel: Linux", "Python: CPython", "LTO", "wasmtime "):
        assert part in done.stdout
    assert "1 rounds of 1 s" in done.stdout
    written = (tmp_path / "benchmarks.md").read_text()
    assert written in done.stdout
    figures = json.loads((tmp_path / "benchmarks.json").read_text())
    assert list(figures) == ["bodies"]
    rows = figures["bodies"]
    assert len(rows) == 6
    for name, row in rows.items():
        assert row["CPU µs"] > 0
        assert row["requests/s"] > 0
        assert f"| {name} |" in written
    base, ours = rows["echo of 1 MiB in aiohttp"], rows["echo of 1 MiB in C"]
    assert base["CPU ratio"] == 1
    assert ours["CPU ratio"] == pytest.approx(base["CPU µs"] / ours["CPU µs"])
    assert ours["CPU µs"] > rows["echo of 1 KiB in C"]["CPU µs"]


def test_a_missing_tool_is_named_and_other_tables_are_measured(tmp_path: Path) -> None:
    python_module("ziglang")
    environment = {"PATH": str(tmp_path), "WAGI_TEST_REQUIRE": ""}
    done = run("fairness", "guest", environment=environment)
    assert done.returncode == 1, done.stderr
    assert "### fairness\n\nNot measured: wrk is not installed.\n" in done.stdout
    for kind in ("hello in WAT", "hello in C, 32 KiB of stack", "hello in C"):
        for way in ("C API alone", "wagi", "wagi, WAGI_CORE=off"):
            assert f"| {kind}, {way} |" in done.stdout


def test_an_unknown_table() -> None:
    done = run("speed")
    assert done.returncode == 2
    assert f"unknown table 'speed': expected some of {', '.join(TABLES)}" in done.stderr


def test_cpu_time_includes_running_and_ended_children(
    tmp_path: Path,
) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "burnt\n"
        # The ticks of the ended child are rounded down twice, to 10 ms.
        assert 2 * BURN_SECONDS - 0.05 < cpu_seconds(process.pid) < 2 * BURN_SECONDS + 2
        process.kill()


@pytest.mark.fast
def test_a_ratio_is_the_median_of_the_ratios_of_each_round() -> None:
    # The machine was half as fast in the second round: the ratio of the round is not affected.
    bare = [Result(1000, 20, 1, 2), Result(500, 40, 2, 4), Result(1000, 20, 1, 2)]
    ours = [Result(500, 40, 2, 4), Result(200, 100, 5, 9), Result(250, 80, 4, 8)]
    rows = compared({"bare": bare, "ours": ours})
    assert rows["bare"] == {
        **{"CPU µs": 20, "CPU ratio": 1, "lowest": 1, "highest": 1, "cores": 0.02},
        **{"requests/s": 1000, "rate ratio": 1, "median ms": 1, "p99 ms": 2},
    }
    assert rows["ours"] == {
        **{"CPU µs": 80, "CPU ratio": 0.4, "lowest": 0.25, "highest": 0.5, "cores": 0.02},
        **{"requests/s": 250, "rate ratio": 0.4, "median ms": 4, "p99 ms": 8},
    }


@pytest.mark.fast
def test_growth_is_the_cost_of_each_additional_unit() -> None:
    rows = grown({(10, "10 routes"): [Result(1, 50, 1, 1)], (110, "110"): [Result(1, 75, 1, 1)]})
    assert rows["110"]["cost"] == 1.5
    assert rows["110"]["µs for each more"] == 0.25
    assert "µs for each more" not in rows["10 routes"]


@pytest.mark.fast
def test_a_table_has_the_columns_of_its_rows() -> None:
    def start(_effort: object) -> dict[str, dict[str, float]]:
        """The effort of a start."""
        return {"cold": {"seconds": 1.5}, "warm": {"ratio": 0.5, "seconds": 0.75}}

    assert Table(start).markdown(start(None)) == (
        "### start\n\nThe effort of a start.\n\n"
        "| | seconds | ratio |\n| --- | ---: | ---: |\n"
        "| cold | 1.500 |  |\n| warm | 0.750 | 0.50 |\n"
    )


def test_the_plot(tmp_path: Path) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        missing("matplotlib is not installed: pip install '.[benchmarks]'")
    point = {"CPU µs": 20.0, "requests/s": 1000.0, "p99 ms": 2.0}
    plot({row_name(series, count): point for series in SERIES for count in COUNTS}, tmp_path)
    assert "<svg" in (tmp_path / "connections.svg").read_text()
    assert (tmp_path / "connections.png").read_bytes().startswith(b"\x89PNG")
