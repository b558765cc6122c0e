"""``python -m benchmarks``: what a request costs, against baselines taken in the same run.

Needs Linux, wrk, nginx, fcgiwrap and node, and `pip install '.[test,toolchains,benchmarks]'`.
Everything is started here. All variants of a table have their turn in each round; a ratio is that
of two measurements of one round, and a table has the median of all rounds. CPU time is that of all
processes of the server, as the kernel's scheduler counts it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import pytest

from benchmarks.load import Effort
from benchmarks.machine import description
from benchmarks.plot import PLOTTED, plot
from benchmarks.tables import TABLES


def main() -> int:
    """Measure and print; 1 if a table could not be measured."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ", ".join(TABLES)
    parser.add_argument("tables", nargs="*", help=f"some of {names} (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="for each measurement")
    parser.add_argument(
        "--into", type=Path, help="a folder for benchmarks.md, benchmarks.json and the plot"
    )
    options = parser.parse_args()
    if unknown := set(options.tables) - set(TABLES):
        parser.error(f"unknown table {unknown.pop()!r}: expected some of {names}")
    if options.into:
        options.into.mkdir(parents=True, exist_ok=True)

    began = time.monotonic()
    text = description()
    text += f"\n- {options.rounds} rounds of {options.seconds} s for each variant\n"
    print(text, flush=True)
    figures, failed = {}, False
    for name in options.tables or TABLES:
        table = TABLES[name]
        try:
            rows = table.measure(Effort(options.rounds, options.seconds))
        except (pytest.skip.Exception, pytest.fail.Exception) as missing:
            failed = True
            printed = f"### {name}\n\nNot measured: {missing}.\n"
        else:
            figures[name] = rows
            printed = table.markdown(rows)
            if options.into and name == "connections":
                plot(rows, options.into)
                printed += f"\n![{PLOTTED}](connections.svg)\n"
        print(printed, flush=True)
        text += "\n" + printed
        if options.into:  # after each table: what is measured is kept if a later one fails
            (options.into / "benchmarks.md").write_text(text)
            (options.into / "benchmarks.json").write_text(json.dumps(figures, indent=1))
    print(f"measured in {time.monotonic() - began:.0f} s")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
