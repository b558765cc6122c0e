"""The metrics of the gateway: names, types, labels and help texts. Pure.

Names and units follow https://prometheus.io/docs/practices/naming/. Labels take few values: routes
as they are configured, a fixed set of methods, status codes, and kinds that are listed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """The type of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """A metric and its labels.

    Attributes:
        name: Its name, without the suffix ``_total`` of a counter.
        kind: Its type.
        help: What it measures, in one sentence.
        labels: Names of its labels.
        bounds: The upper bounds of a histogram's buckets, without infinity.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """Number of cells of a series: buckets, the last one for infinity, and their sum."""
        return len(self.bounds) + 2 if self.kind is Kind.HISTOGRAM else 1


_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

REQUESTS = Family(
    "wagi_http_requests",
    Kind.COUNTER,
    "Completed requests.",
    ("route", "method", "code"),
)
DURATION = Family(
    "wagi_http_request_duration_seconds",
    Kind.HISTOGRAM,
    "Time from the head of a request to the end of its response.",
    ("route",),
    _SECONDS,
)
REQUEST_BYTES = Family(
    "wagi_http_request_body_bytes", Kind.COUNTER, "Received bytes of request bodies.", ("route",)
)
RESPONSE_BYTES = Family(
    "wagi_http_response_body_bytes", Kind.COUNTER, "Sent bytes of response bodies.", ("route",)
)
GUEST_CPU = Family("wagi_guest_cpu_seconds", Kind.COUNTER, "CPU time of guests.", ("route",))
GUESTS = Family(
    "wagi_guests",
    Kind.COUNTER,
    "Guests that have ended, by outcome: completed, exit (a status other than 0), trap,"
    " cancelled, invalid_output, timeout or cpu_timeout.",
    ("route", "outcome"),
)
REJECTIONS = Family(
    "wagi_requests_rejected",
    Kind.COUNTER,
    "Requests that were answered with an error, without a guest, by reason.",
    ("reason",),
)
QUEUE_WAIT = Family(
    "wagi_queue_wait_seconds",
    Kind.HISTOGRAM,
    "Time that requests waited for a slot or for memory; requests that did not wait are left out.",
    (),
    _SECONDS,
)
RUNNING_GUESTS = Family("wagi_guests_running", Kind.GAUGE, "Guests that are running.")
QUEUE_LENGTH = Family(
    "wagi_queue_length", Kind.GAUGE, "Requests that wait for a slot or for memory."
)
GUEST_MEMORY = Family(
    "wagi_guest_memory_bytes", Kind.GAUGE, "Memory that running guests hold of the budget."
)
CONNECTIONS = Family("wagi_http_connections", Kind.GAUGE, "Open connections of clients.")
WORKERS = Family("wagi_workers", Kind.GAUGE, "Workers that accept connections.")
WORKER_DEATHS = Family(
    "wagi_worker_deaths", Kind.COUNTER, "Workers that ended without having been stopped."
)
RELOAD_SUCCESSFUL = Family(
    "wagi_config_last_reload_successful",
    Kind.GAUGE,
    "Whether the last load of the route map succeeded.",
)
RELOAD_TIME = Family(
    "wagi_config_last_reload_success_timestamp_seconds",
    Kind.GAUGE,
    "Time of the last successful load of the route map, in seconds since the epoch.",
)

FAMILIES = (
    REQUESTS,
    DURATION,
    REQUEST_BYTES,
    RESPONSE_BYTES,
    GUEST_CPU,
    GUESTS,
    REJECTIONS,
    QUEUE_WAIT,
    RUNNING_GUESTS,
    QUEUE_LENGTH,
    GUEST_MEMORY,
    CONNECTIONS,
    WORKERS,
    WORKER_DEATHS,
    RELOAD_SUCCESSFUL,
    RELOAD_TIME,
)
"""All metrics whose values are in shared memory."""
