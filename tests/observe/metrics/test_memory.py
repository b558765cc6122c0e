"""Counters in shared memory: pages, their end, and readers beside writers."""

from __future__ import annotations

import os
import threading
import time

import pytest

from wagi.observe.metrics.families import (
    DURATION,
    FAMILIES,
    REQUESTS,
    RUNNING_GUESTS,
    WORKER_DEATHS,
)
from wagi.observe.metrics.memory import CELLS, MetricsMemory

pytestmark = pytest.mark.fast
GET = ("/a", "GET", "200")


def test_values_of_all_pages_are_added() -> None:
    memory = MetricsMemory(processes=2)
    for amount in (1, 2):
        number = memory.open_page()
        assert number is not None
        memory.page(number).add(REQUESTS, *GET, amount=amount)
    memory.own.add(WORKER_DEATHS)
    assert memory.read() == {(REQUESTS, GET): [3.0], (WORKER_DEATHS, ()): [1.0]}


def test_the_series_of_another_process_are_visible() -> None:
    memory = MetricsMemory(processes=1)
    number = memory.open_page()
    assert number is not None
    child = os.fork()
    if not child:
        memory.page(number).add(REQUESTS, "/ä", "POST", "404")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert memory.read() == {(REQUESTS, ("/ä", "POST", "404")): [1.0]}


def test_a_closed_page_keeps_its_counters_and_loses_its_gauges() -> None:
    memory = MetricsMemory(processes=1)
    for _ in range(3):  # the page of a worker is used again
        number = memory.open_page()
        assert number == 1
        assert memory.open_page() is None
        page = memory.page(number)
        page.beat()
        page.add(REQUESTS, *GET, amount=5)
        page.cells[page.place(DURATION, "/a") + 2] += 1
        page.set(RUNNING_GUESTS, 7)
        assert memory.read()[RUNNING_GUESTS, ()] == [7.0]
        assert len(memory.heartbeats()) == 1
        memory.close_page(number)
        assert memory.heartbeats() == []
    values = memory.read()
    assert values[REQUESTS, GET] == [15.0]
    assert values[DURATION, ("/a",)][2] == 3.0
    assert (RUNNING_GUESTS, ()) not in values


def test_a_full_page_loses_further_series_only() -> None:
    memory = MetricsMemory(processes=1)
    page = memory.own
    for number in range(CELLS):
        page.add(REQUESTS, f"/{number}", "GET", "200")
        page.cells[page.place(DURATION, f"/{number}") + DURATION.size - 1] += 1
    values = memory.read()
    assert set(map(tuple, values.values())) == {(1.0,), (0.0,) * (DURATION.size - 1) + (1.0,)}
    assert CELLS // (DURATION.size + 1) - 1 <= len(values) // 2 <= CELLS // DURATION.size


def test_names_longer_than_the_page_are_lost() -> None:
    memory = MetricsMemory(processes=1)
    for number in range(100):
        memory.own.add(REQUESTS, "/" + "x" * 60_000 + str(number), "GET", "200")
    memory.own.add(REQUESTS, "/" + "y" * 70_000, "GET", "200")
    memory.own.add(REQUESTS, *GET)
    values = memory.read()
    assert values[REQUESTS, GET] == [1.0]
    assert 1 < len(values) < 20


def test_counters_never_decrease_while_pages_are_closed() -> None:
    memory = MetricsMemory(processes=1)
    seen: list[float] = []
    is_done = threading.Event()

    def read() -> None:
        while not is_done.is_set():
            seen.append(memory.read().get((REQUESTS, GET), [0.0])[0])

    reader = threading.Thread(target=read)
    reader.start()
    deadline = time.monotonic() + 0.5
    total = 0
    while time.monotonic() < deadline:
        number = memory.open_page()
        assert number is not None
        memory.page(number).add(REQUESTS, *GET)
        total += 1
        memory.close_page(number)
    is_done.set()
    reader.join()
    assert seen == sorted(seen)
    assert memory.read()[REQUESTS, GET] == [total]


def test_families_have_distinct_names() -> None:
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names)
