"""From a plan to the table of routes that a worker serves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from wagi.gateway.admission import Share
from wagi.gateway.concurrency import WorkerLimits
from wagi.gateway.route import Plan, PlannedStatic, Route, StaticRoute
from wagi.guest.engine import Runtime
from wagi.limits import Limits
from wagi.observe.module_log import ModuleLogs
from wagi.routing import RoutePattern, RouteTable
from wagi.static.entity_tags import EntityTags
from wagi.static.responder import StaticResponder

if TYPE_CHECKING:
    from wagi.outbound.client import OutboundClient


def build_table(
    plan: Plan,
    artefacts: Mapping[str, Path],
    logs: ModuleLogs,
    runtime: Runtime,
    worker_limits: WorkerLimits,
) -> RouteTable[Route | StaticRoute]:
    """Build the route table of a plan, in the process that serves it.

    Args:
        plan: What is served.
        artefacts: The compiled modules by their keys.
        logs: The logs of the modules.
        runtime: The engine.
        worker_limits: The worker's part of the ``max_concurrency`` of entries.

    Raises:
        EngineError: An artefact cannot be used here.
    """
    shares: dict[int, Share] = {}
    clients: dict[int, OutboundClient | None] = {}
    routes: list[tuple[RoutePattern, Route | StaticRoute]] = []
    tags = EntityTags()
    for planned in plan.routes:
        if isinstance(planned, PlannedStatic):
            responder = StaticResponder(planned.site, tags)
            routes.append((planned.pattern, StaticRoute(responder)))
            continue
        limits = planned.limits
        if planned.entry not in shares:
            entry_limit = None
            if limits.max_concurrency is not None:
                entry_limit = worker_limits.entry(planned.entry_route, limits.max_concurrency)
            shares[planned.entry] = Share(entry_limit, limits, planned.demand)
            hosts = planned.allowed_hosts
            clients[planned.entry] = _client(hosts, limits) if hosts else None
        route = Route(
            planned.pattern,
            runtime.handler(planned.spec, artefacts),
            planned.variables,
            planned.argv,
            limits,
            planned.entry_location,
            shares[planned.entry],
            logs.of(planned.pattern.text, planned.name),
            clients[planned.entry],
            planned.request_rules,
        )
        routes.append((planned.pattern, route))
    return RouteTable(routes)


def _client(hosts: tuple[str, ...], limits: Limits) -> OutboundClient:
    from wagi.outbound.client import OutboundClient  # imports an HTTP client

    return OutboundClient(hosts, limits)
