"""The metrics in the formats of Prometheus, for a process that reads those of all others."""

from __future__ import annotations

import contextlib
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from wagi.observe.metrics.families import FAMILIES, Family, Kind
from wagi.observe.metrics.memory import MetricsMemory

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """What the metrics show besides the counters.

    Attributes:
        memory_budget: Size of the memory budget in bytes; None if it is unlimited.
        build: Names and versions of the software.
        supervisor: The process ID of the supervisor.
    """

    memory_budget: int | None
    build: Mapping[str, str]
    supervisor: int


class Exposition:
    """Writes the metrics of a service.

    Args:
        memory: The counters of all processes.
        facts: What does not change.
    """

    def __init__(self, memory: MetricsMemory, facts: ServiceFacts) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_ServiceCollector(memory, facts))

    def write(self, accept: str) -> tuple[bytes, str]:
        """Write all metrics.

        Args:
            accept: The Accept header of the request; empty if it has none.

        Returns:
            The text and its media type.
        """
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type


class _ServiceCollector(Collector):
    def __init__(self, memory: MetricsMemory, facts: ServiceFacts) -> None:
        self._memory = memory
        self._facts = facts

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the registry need not look for duplicates."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Read the metrics. The registry calls this for each request."""
        series = defaultdict(list)
        for (family, labels), cells in self._memory.read().items():
            series[family].append((labels, cells))
        for family in FAMILIES:
            yield _metric(family, series[family])
        budget = self._facts.memory_budget
        if budget is not None:
            yield GaugeMetricFamily(
                "wagi_memory_budget_bytes", "Size of the memory budget of all guests.", budget
            )
        build = InfoMetricFamily("wagi_build", "Versions of the software.")
        build.add_metric((), dict(self._facts.build))
        yield build
        yield from _process_metrics(self._facts.supervisor)


def _metric(family: Family, series: Iterable[tuple[tuple[str, ...], list[float]]]) -> Metric:
    match family.kind:
        case Kind.COUNTER:
            counter = CounterMetricFamily(family.name, family.help, labels=family.labels)
            for labels, (value,) in series:
                counter.add_metric(labels, value)
            return counter
        case Kind.GAUGE:
            gauge = GaugeMetricFamily(family.name, family.help, labels=family.labels)
            for labels, (value,) in series:
                gauge.add_metric(labels, value)
            return gauge
        case Kind.HISTOGRAM:
            histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
            for labels, cells in series:
                histogram.add_metric(labels, _cumulative(family, cells), cells[-1])
            return histogram


def _cumulative(family: Family, cells: list[float]) -> list[tuple[str, float]]:
    """Return the buckets as Prometheus counts: each with those of all smaller bounds."""
    buckets, total = [], 0.0
    for bound, count in zip((*family.bounds, "+Inf"), cells[:-1], strict=True):
        total += count
        buckets.append((str(bound), total))
    return buckets


@dataclass(slots=True)
class _Usage:
    """What processes use, in total."""

    cpu_seconds: float = 0.0
    resident: int = 0
    virtual: int = 0
    open_files: int = 0


def _process_metrics(supervisor: int) -> Iterator[Metric]:
    """The usual metrics of a process, summed over the supervisor and its children."""
    usage = _Usage()
    for pid in (supervisor, *_children(supervisor)):
        _add_usage(pid, usage)
    cpu = CounterMetricFamily(
        "process_cpu_seconds", "User and system CPU time of the running processes."
    )
    cpu.add_metric((), usage.cpu_seconds)
    yield cpu
    gauges = {
        "process_resident_memory_bytes": ("Resident memory of all processes.", usage.resident),
        "process_virtual_memory_bytes": ("Virtual memory of all processes.", usage.virtual),
        "process_open_fds": ("Open file descriptors of all processes.", usage.open_files),
        "process_start_time_seconds": (
            "Start of the service, in seconds since the epoch.",
            _start_time(supervisor),
        ),
    }
    for name, (text, value) in gauges.items():
        yield GaugeMetricFamily(name, text, value)


def _add_usage(pid: int, usage: _Usage, proc: Path = Path("/proc")) -> None:
    folder = proc / str(pid)
    with contextlib.suppress(OSError):  # it has ended
        fields = _stat_fields(folder)
        # Its own time, and that of its children that have ended.
        usage.cpu_seconds += sum(map(int, fields[11:15])) / _TICKS
        usage.virtual += int(fields[20])
        usage.resident += int(fields[21]) * _PAGE_SIZE
        usage.open_files += sum(1 for _ in (folder / "fd").iterdir())


def _stat_fields(folder: Path) -> list[str]:
    """The fields of /proc/PID/stat from the third one on; see proc(5)."""
    return (folder / "stat").read_text().rpartition(")")[2].split()


def _children(pid: int) -> list[int]:
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except OSError:
        return []


def _start_time(pid: int) -> float:
    try:
        ticks = int(_stat_fields(Path(f"/proc/{pid}"))[19])
    except OSError:
        return 0.0
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / _TICKS
