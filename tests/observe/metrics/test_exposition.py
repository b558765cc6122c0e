"""The metrics as Prometheus reads them."""

from __future__ import annotations

import os

import pytest
from prometheus_client.parser import text_string_to_metric_families

from wagi.observe.metrics.exposition import Exposition, ServiceFacts
from wagi.observe.metrics.families import (
    DURATION,
    FAMILIES,
    REQUESTS,
    RUNNING_GUESTS,
    Kind,
)
from wagi.observe.metrics.memory import MetricsMemory

pytestmark = pytest.mark.fast


def samples(memory: MetricsMemory, budget: int | None = None) -> dict[tuple[str, str], float]:
    """The samples by their names and the values of their labels, in the order of the labels."""
    exposition = Exposition(memory, ServiceFacts(budget, {"version": "1"}, os.getpid()))
    text, media_type = exposition.write("")
    assert media_type.startswith("text/plain; version=0.0.4")
    return {
        (sample.name, ",".join(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_counters_and_gauges() -> None:
    memory = MetricsMemory(processes=1)
    memory.own.add(REQUESTS, '/quote"\n\\', "GET", "200", amount=3)
    memory.own.set(RUNNING_GUESTS, 2)
    found = samples(memory, budget=1024)
    assert found["wagi_http_requests_total", '200,GET,/quote"\n\\'] == 3
    assert found["wagi_guests_running", ""] == 2
    assert found["wagi_memory_budget_bytes", ""] == 1024
    assert found["wagi_build_info", "1"] == 1


def test_an_unlimited_budget_is_left_out() -> None:
    names = {name for name, _ in samples(MetricsMemory(processes=1))}
    assert "wagi_memory_budget_bytes" not in names


def test_buckets_are_cumulative() -> None:
    memory = MetricsMemory(processes=1)
    place = memory.own.place(DURATION, "/a")
    for bucket, count in ((0, 1), (3, 2), (len(DURATION.bounds), 4)):
        memory.own.cells[place + bucket] = count
    memory.own.cells[place + DURATION.size - 1] = 99.5
    found = samples(memory)
    name = DURATION.name
    assert found[f"{name}_bucket", "0.001,/a"] == 1
    assert found[f"{name}_bucket", "0.01,/a"] == 3
    assert found[f"{name}_bucket", "10.0,/a"] == 3
    assert found[f"{name}_bucket", "+Inf,/a"] == found[f"{name}_count", "/a"] == 7
    assert found[f"{name}_sum", "/a"] == 99.5


def test_the_usage_of_this_process() -> None:
    found = samples(MetricsMemory(processes=1))
    assert found["process_cpu_seconds_total", ""] > 0
    assert found["process_resident_memory_bytes", ""] > 1024**2
    assert found["process_open_fds", ""] >= 3
    assert 1.6e9 < found["process_start_time_seconds", ""] < 1e10


def test_names_follow_the_conventions() -> None:
    for family in FAMILIES:
        assert family.name.startswith("wagi_")
        assert not family.name.endswith("_total")
        assert (family.kind is Kind.HISTOGRAM) == bool(family.bounds)
        assert family.help.endswith(".")
