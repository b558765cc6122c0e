"""What a request counts."""

from __future__ import annotations

import pytest

from wagi.observe.exchange import Exchange
from wagi.observe.failure import Failure
from wagi.observe.metrics.families import (
    DURATION,
    GUEST_CPU,
    GUESTS,
    QUEUE_WAIT,
    REJECTIONS,
    REQUEST_BYTES,
    REQUESTS,
    RESPONSE_BYTES,
    Family,
)
from wagi.observe.metrics.memory import MetricsMemory
from wagi.observe.metrics.recorder import RequestMetrics

pytestmark = pytest.mark.fast


class Counted:
    """The metrics after some exchanges."""

    def __init__(self, *exchanges: Exchange) -> None:
        self.passed_on: list[Exchange] = []
        memory = MetricsMemory(processes=1)
        record = RequestMetrics(memory.own, self.passed_on.append)
        for exchange in exchanges:
            record(exchange)
        self._values = memory.read()

    def of(self, family: Family) -> dict[tuple[str, ...], list[float]]:
        return {labels: cells for (found, labels), cells in self._values.items() if found is family}


def exchange(method: str = "GET", route: str = "/a", **values: object) -> Exchange:
    made = Exchange("1", method, "/a", "HTTP/1.1", "127.0.0.1", {}, route)
    for name, value in values.items():
        setattr(made, name, value)
    return made


def test_a_completed_request() -> None:
    request = exchange(
        "POST",
        status=200,
        sent=6,
        body_size=3,
        cpu_seconds=0.25,
        outcome="completed",
    )
    counted = Counted(request, request)
    assert counted.passed_on == [request, request]
    assert counted.of(REQUESTS) == {("/a", "POST", "200"): [2.0]}
    assert counted.of(REQUEST_BYTES) == {("/a",): [6.0]}
    assert counted.of(RESPONSE_BYTES) == {("/a",): [12.0]}
    assert counted.of(GUEST_CPU) == {("/a",): [0.5]}
    assert counted.of(GUESTS) == {("/a", "completed"): [2.0]}
    assert sum(counted.of(DURATION)["/a",][:-1]) == 2.0
    assert counted.of(DURATION)["/a",][-1] > 0
    assert counted.of(REJECTIONS) == {}
    assert sum(counted.of(QUEUE_WAIT)[()]) == 0.0


@pytest.mark.parametrize(("seconds", "bucket"), [(0.0009, 0), (0.001, 0), (0.0011, 1), (99.0, 13)])
def test_a_wait_is_counted_in_the_bucket_with_the_next_bound(seconds: float, bucket: int) -> None:
    cells = Counted(exchange(status=200, queue_seconds=seconds)).of(QUEUE_WAIT)[()]
    assert cells[bucket] == 1.0
    assert cells[-1] == seconds


@pytest.mark.parametrize("method", ["BREW", "get", "", "X" * 1000])
def test_unknown_methods_share_a_label(method: str) -> None:
    assert list(Counted(exchange(method, status=200)).of(REQUESTS)) == [("/a", "other", "200")]


@pytest.mark.parametrize(
    ("status", "code"), [(299, "2xx"), (499, "499"), (999, "9xx"), (418, "418")]
)
def test_unknown_codes_share_a_label(status: int, code: str) -> None:
    assert list(Counted(exchange(status=status)).of(REQUESTS)) == [("/a", "GET", code)]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, "bad_request"),
        (404, "no_route"),
        (413, "body_too_large"),
        (431, "headers_too_large"),
        (500, "error"),
        (503, "overloaded"),
        (505, "error"),
    ],
)
def test_a_rejected_request(status: int, reason: str) -> None:
    counted = Counted(exchange(route="", status=status, failure=Failure("why")))
    assert counted.of(REQUESTS) == {("none", "GET", str(status)): [1.0]}
    assert counted.of(REJECTIONS) == {(reason,): [1.0]}
    assert counted.of(GUESTS) == {}


def test_a_failed_guest_is_no_rejection() -> None:
    counted = Counted(exchange(status=500, outcome="trap", failure=Failure("unreachable")))
    assert counted.of(GUESTS) == {("/a", "trap"): [1.0]}
    assert counted.of(REJECTIONS) == {}
