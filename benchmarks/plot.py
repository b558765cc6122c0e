"""The plot: requests per second and p99 against connections."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_SERIES = ("bare aiohttp handler", "1 worker", "2 workers")
_COUNTS = (1, 16, 64, 256)


def plot(figures: Mapping[str, float], folder: Path) -> None:
    """Draw the ``connections`` table as PNG and SVG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (rates, latencies) = pyplot.subplots(1, 2, figsize=(10, 4))
    for name in _SERIES:
        label = name if "aiohttp" in name else f"C hello, {name}"
        keys = [f"{name}, {count} connections" for count in _COUNTS]
        rates.plot(_COUNTS, [figures[key] for key in keys], marker="o", label=label)
        latencies.plot(_COUNTS, [figures[f"p99 of {key}"] for key in keys], marker="o", label=label)
    for axes, title in ((rates, "requests per second"), (latencies, "p99, milliseconds")):
        axes.set_xscale("log", base=2)
        axes.set_xticks(_COUNTS, [str(count) for count in _COUNTS])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("connections")
        axes.set_title(title)
        axes.grid(alpha=0.3)
    rates.legend()
    figure.tight_layout()
    for suffix in ("png", "svg"):
        figure.savefig(folder / f"connections.{suffix}")
