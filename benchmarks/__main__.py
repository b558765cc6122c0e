"""``python -m benchmarks``: what a guest costs, against baselines taken in the same run.

Needs wrk, nginx, fcgiwrap and node, and `pip install '.[toolchains,benchmarks]'`. Everything is
started here; variants are measured in turn, several times, and the table has their medians. Ratios
are to the first row of each table: they tell more than figures, as machines are shared and noisy.
"""

from __future__ import annotations

import argparse
import json
import platform
from importlib.metadata import version
from pathlib import Path

from benchmarks.plot import plot
from benchmarks.programs import processor
from benchmarks.tables import TABLES, Effort


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [table.__name__ for table in TABLES]
    parser.add_argument("tables", nargs="*", help=f"some of {', '.join(names)}; all unless given")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2, help="for each measurement")
    parser.add_argument("--into", type=Path, help="a folder for the figures (JSON) and the plot")
    options = parser.parse_args()
    unknown = set(options.tables) - set(names)
    if unknown:
        parser.error(f"unknown table {unknown.pop()!r}: expected some of {', '.join(names)}")
    print(
        f"{processor()}, Python {platform.python_version()}, aiohttp {version('aiohttp')},"
        f" wasmtime {version('wasmtime')}; medians of {options.rounds} rounds of"
        f" {options.seconds:g} s"
    )
    effort = Effort(options.rounds, options.seconds)
    wanted = [table for table in TABLES if not options.tables or table.__name__ in options.tables]
    figures = {table.__name__: table(effort) for table in wanted}
    if options.into:
        options.into.mkdir(parents=True, exist_ok=True)
        (options.into / "benchmarks.json").write_text(json.dumps(figures, indent=1))
        if "connections" in figures:
            plot(figures["connections"], options.into)


if __name__ == "__main__":
    main()
