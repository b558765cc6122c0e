"""The plot of the ``connections`` table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

SERIES = ("bare aiohttp handler", "C hello, 1 worker", "C hello, 2 workers")
COUNTS = (1, 16, 64, 256)
PLOTTED = "CPU time per request, requests per second and p99 against connections"
_PANELS = {
    "CPU µs": "CPU time per request, µs",
    "requests/s": "requests per second",
    "p99 ms": "p99, milliseconds",
}


def row_name(series: str, count: int) -> str:
    """The row of the ``connections`` table that has a point of a series."""
    return f"{series}, {count} connection{'s' * (count > 1)}"


def plot(rows: Mapping[str, Mapping[str, float]], folder: Path) -> None:
    """Draw the ``connections`` table as connections.png and connections.svg."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(_PANELS), figsize=(13, 4))
    for axes, (column, title) in zip(panels, _PANELS.items(), strict=True):
        for series in SERIES:
            points = [rows[row_name(series, count)][column] for count in COUNTS]
            axes.plot(COUNTS, points, marker="o", label=series)
        axes.set_xscale("log", base=2)
        axes.set_xticks(COUNTS, [str(count) for count in COUNTS])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("connections")
        axes.set_title(title)
        axes.grid(alpha=0.3)
    panels[0].legend()
    figure.tight_layout()
    for suffix in ("png", "svg"):
        figure.savefig(folder / f"connections.{suffix}")
