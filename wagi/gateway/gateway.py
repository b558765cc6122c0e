"""The state that all requests of a worker share: routes, slots, limits and logs."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from itertools import count

from wagi.config.values import HostPort
from wagi.gateway.admission import Admission
from wagi.gateway.concurrency import WorkerLimits
from wagi.gateway.route import Route, StaticRoute
from wagi.guest.budget import MemoryAccount
from wagi.guest.scheduler import FairScheduler
from wagi.http.body import BodyLimits
from wagi.http.errors import HTTPError
from wagi.observe.exchange import Exchange
from wagi.routing import RouteTable

Notice = Callable[[Exchange, HTTPError], str]
"""Returns text to append to an error page, for developers of handlers; may be empty."""


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
        notice: Returns text to append to error pages; None in production.
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
        notice: Notice | None = None,
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
            notice: Returns text to append to error pages; None in production.
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
        self.notice = notice
        self.request_ids: Iterator[str] = map(f"{secrets.token_hex(6)}-{{}}".format, count(1))

    async def close(self) -> None:
        """Release what the routes use in the background."""
        for client in {route.client for route in self._handlers if route.client}:
            await client.close()
        for _, route in self.table:
            if route.responder is not None:
                await route.responder.close()
