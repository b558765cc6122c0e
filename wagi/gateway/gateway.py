"""What all requests of a worker share: the routes, the slots for guests, the limits, the logs."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from itertools import count

from wagi.config.values import HostPort
from wagi.gateway.admission import Admission
from wagi.gateway.concurrency import WorkerLimits
from wagi.gateway.route import Route
from wagi.guest.budget import MemoryAccount
from wagi.guest.scheduler import FairScheduler
from wagi.http.body import BodyLimits
from wagi.http.errors import HTTPError
from wagi.observe.exchange import Exchange
from wagi.routing import RouteTable

Notice = Callable[[Exchange, HTTPError], str]
"""Returns what an error page says besides, for developers of handlers; empty for nothing."""


class Gateway:
    """What all requests of a worker share.

    Attributes:
        table: The routes.
        default_host: The configured host for requests that name no host or no port.
        body_limits: What request bodies may take.
        admission: The slots for guests and their memory.
        scheduler: The turns of guests that are not done in their first slice.
        access_log: Called with the record of each request when it has ended.
        records_guests: Whether the records say what guests saw and did.
        notice: Returns what an error page says besides; None in production.
        request_ids: An identifier for each request.
    """

    def __init__(
        self,
        table: RouteTable[Route],
        default_host: HostPort | None,
        body_limits: BodyLimits,
        slots: int,
        account: MemoryAccount,
        limits: WorkerLimits,
        access_log: Callable[[Exchange], None],
        records_guests: bool = False,
        notice: Notice | None = None,
    ) -> None:
        """Prepare to serve.

        Args:
            table: The routes.
            default_host: The configured host for requests that name no host or no port.
            body_limits: What request bodies may take.
            slots: How many guests may run at a time.
            account: The worker's part of the memory budget.
            limits: The worker's part of the limits of entries.
            access_log: Called with the record of each request when it has ended.
            records_guests: Whether the records say what guests saw and did.
            notice: Returns what an error page says besides; None in production.
        """
        self.table = table
        self.default_host = default_host
        self.body_limits = body_limits
        self.admission = Admission(slots, {route.share for _, route in table}, account, limits)
        self.scheduler = FairScheduler()
        self.access_log = access_log
        self.records_guests = records_guests
        self.notice = notice
        self.request_ids: Iterator[str] = map(f"{secrets.token_hex(6)}-{{}}".format, count(1))

    async def close(self) -> None:
        """Close what the routes have opened."""
        for client in {route.client for _, route in self.table if route.client}:
            await client.close()
