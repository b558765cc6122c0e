"""The state that all requests of a worker share: routes, slots, limits and logs."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from itertools import count
from typing import TYPE_CHECKING, Protocol

from wagi.config.values import HostPort
from wagi.gateway.admission import Admission
from wagi.gateway.concurrency import WorkerLimits
from wagi.gateway.route import Route, StaticRoute
from wagi.guest.budget import MemoryAccount
from wagi.guest.scheduler import FairScheduler
from wagi.http.body import BodyLimits
from wagi.http.error_page import ErrorDetails
from wagi.http.errors import HTTPError
from wagi.observe.exchange import Exchange
from wagi.routing import RouteTable

if TYPE_CHECKING:
    from wagi.observe.traces.tracer import RequestTracer


class RunningRequest(Protocol):
    """A request that is being answered."""

    @property
    def exchange(self) -> Exchange:
        """Its record so far."""

    @property
    def is_running(self) -> bool:
        """Whether its guest has been started."""

    @property
    def cpu_seconds(self) -> float:
        """CPU time of its guest so far."""

    def cancel(self, reason: str) -> None:
        """Answer it with an error page at once.

        Args:
            reason: Message for the log.
        """


class Observer(Protocol):
    """Follows the requests of a worker for the developers of its handlers."""

    def begin(self, request: RunningRequest) -> None:
        """Called with each request for which there is a route; its end is in the access log."""

    def explain(self, exchange: Exchange, error: HTTPError) -> ErrorDetails:
        """Return what an error page shows in addition."""


class Gateway:
    """The state that all requests of a worker share.

    Attributes:
        table: The routes.
        default_host: Configured default for requests that specify no host or no port.
        body_limits: Limits of request bodies.
        admission: Admission control for guests.
        scheduler: Scheduler of guests that need more than one slice.
        access_log: Called with the record of each completed request.
        records_guests: Whether to record the inputs and outputs of guests.
        observer: Follows the requests for developers; None in production.
        unavailable: Why every request is answered with 503; empty if requests are served.
        tracer: Makes the spans of requests; None if traces are off.
        request_ids: Generator of request IDs.
    """

    def __init__(
        self,
        table: RouteTable[Route | StaticRoute],
        default_host: HostPort | None,
        body_limits: BodyLimits,
        slots: int,
        account: MemoryAccount,
        limits: WorkerLimits,
        access_log: Callable[[Exchange], None],
        records_guests: bool = False,
        observer: Observer | None = None,
        unavailable: str = "",
        tracer: RequestTracer | None = None,
    ) -> None:
        """Create the state of a worker.

        Args:
            table: The routes.
            default_host: Configured default for requests that specify no host or no port.
            body_limits: Limits of request bodies.
            slots: Maximum number of running guests.
            account: The worker's account of the memory budget.
            limits: The worker's side of the concurrency limits.
            access_log: Called with the record of each completed request.
            records_guests: Whether to record the inputs and outputs of guests.
            observer: Follows the requests for developers; None in production.
            unavailable: Why every request is answered with 503; empty to serve them.
            tracer: Makes the spans of requests; None if traces are off.
        """
        self.table = table
        self.default_host = default_host
        self.body_limits = body_limits
        self._handlers = [route for _, route in table if isinstance(route, Route)]
        self.admission = Admission(
            slots, {route.share for route in self._handlers}, account, limits
        )
        self.scheduler = FairScheduler()
        self.access_log = access_log
        self.records_guests = records_guests
        self.observer = observer
        self.unavailable = unavailable
        self.tracer = tracer
        self.request_ids: Iterator[str] = map(f"{secrets.token_hex(6)}-{{}}".format, count(1))

    async def close(self) -> None:
        """Release what the routes use in the background."""
        for client in {route.client for route in self._handlers if route.client}:
            await client.close()
        for _, route in self.table:
            if route.responder is not None:
                await route.responder.close()
