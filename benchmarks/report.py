"""A table of figures: its rows as numbers, and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from benchmarks.load import Effort, Result

Row = dict[str, float]
Rows = dict[str, Row]

FORMATS = {
    "seconds": ".3f",
    "MiB": ",.1f",
    "MiB over idle": ",.1f",
    "ratio": ".2f",
    "µs": ".1f",
    "CPU µs": ",.1f",
    "cost": ".3f",
    "CPU ratio": ".3f",
    "p99 ratio": ".2f",
    "lowest": ".3f",
    "highest": ".3f",
    "µs for each more": ",.3f",
    "cores": ".2f",
    "requests/s": ",.0f",
    "rate ratio": ".3f",
    "median ms": ".2f",
    "p99 ms": ".2f",
}
"""All columns in their order, and how their figures are printed. A table has those of its rows."""


@dataclass(frozen=True)
class Table:
    """A benchmark that can be selected: its name, and the function that measures its rows."""

    measure: Callable[[Effort], Rows]

    @property
    def name(self) -> str:
        return self.measure.__name__

    def markdown(self, rows: Mapping[str, Row]) -> str:
        """The table with a heading, and the docstring of its function as an introduction."""
        columns = [column for column in FORMATS if any(column in row for row in rows.values())]
        lines = ["| | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
        for name, row in rows.items():
            cells = (format(row[c], FORMATS[c]) if c in row else "" for c in columns)
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        text = "\n".join(line.strip() for line in (self.measure.__doc__ or "").splitlines())
        return f"### {self.name}\n\n{text.strip()}\n\n" + "\n".join(lines) + "\n"


def spread(column: str, ratios: list[float]) -> Row:
    """The median of the ratios of all rounds, and the lowest and the highest."""
    return {column: median(ratios), "lowest": min(ratios), "highest": max(ratios)}


def used(rounds: list[Result]) -> Row:
    """The CPU time of a request, and how many cores the server was busy on.

    If it used fewer cores than are available, the load generator or other processes slowed it down:
    then its requests/s are not its maximum, and it handles fewer events at a time.
    """
    return {
        "CPU µs": median(result.cpu for result in rounds),
        "cores": median(result.cpu * result.rate / 1e6 for result in rounds),
        "requests/s": median(result.rate for result in rounds),
    }


def compared(results: Mapping[str, list[Result]]) -> Rows:
    """The results relative to the first, by CPU time and by requests/s.

    A ratio is that of two measurements of one round: 1 is as cheap, or as fast, as the first.
    """
    base = next(iter(results.values()))
    return {
        name: {
            **spread("CPU ratio", [b.cpu / r.cpu for b, r in zip(base, rounds, strict=True)]),
            **used(rounds),
            "rate ratio": median(r.rate / b.rate for b, r in zip(base, rounds, strict=True)),
            "median ms": median(result.median for result in rounds),
            "p99 ms": median(result.p99 for result in rounds),
        }
        for name, rounds in results.items()
    }


def grown(results: Mapping[tuple[int, str], list[Result]]) -> Rows:
    """The cost of each result relative to the first, and what each further unit adds.

    Args:
        results: By a number of something, and the name of the row.
    """
    (start, _), base = next(iter(results.items()))
    rows = {}
    for (number, name), rounds in results.items():
        pairs = list(zip(base, rounds, strict=True))
        rows[name] = {
            **spread("cost", [r.cpu / b.cpu for b, r in pairs]),
            **used(rounds),
        }
        if number > start:
            slope = median((r.cpu - b.cpu) / (number - start) for b, r in pairs)
            rows[name]["µs for each more"] = slope
    return rows
