"""A route on its way: planned by the process that loads, made and served by the workers."""

from __future__ import annotations

from dataclasses import dataclass

from wagi.admission import Share
from wagi.cgi.environment import RouteVariables
from wagi.config.values import HostPort
from wagi.errors import Problem
from wagi.guest.demand import MemoryDemand
from wagi.guest.handler import Handler, HandlerSpec
from wagi.observe.module_log import ModuleLog
from wagi.outbound.client import OutboundClient, OutboundRules
from wagi.routing import RoutePattern


@dataclass(frozen=True, slots=True)
class RouteRules:
    """The limits of an entry, for all its routes together. None is no limit.

    Attributes: ``max_concurrency`` guests at a time, ``max_queue`` requests that wait for a slot,
    for ``queue_timeout`` seconds; ``timeout`` in seconds of wall time and ``cpu_timeout`` of CPU
    time; ``body_limit`` of a request, ``environment_limit`` for variables and argv,
    ``header_limit`` of a response, ``stderr_limit`` of a guest, in bytes.
    """

    max_concurrency: int | None
    max_queue: int
    queue_timeout: float | None
    timeout: float | None
    cpu_timeout: float | None
    body_limit: int | None
    environment_limit: int | None
    header_limit: int
    stderr_limit: int | None


@dataclass(frozen=True, slots=True)
class PlannedRoute:
    """A route as it is to be served, fit to be sent to another process.

    Attributes: ``entry`` the number of its entry in modules.toml, whose routes share their slots;
    ``source`` the file, or the reference that will always lead to the module; ``is_dynamic``
    whether the module's `_routes` named it; ``demand`` the memory that its guests need; ``argv``
    the template, or None for the default.
    """

    entry: int
    source: str
    is_dynamic: bool
    pattern: RoutePattern
    spec: HandlerSpec
    demand: MemoryDemand
    variables: RouteVariables
    argv: str | None
    rules: RouteRules
    outbound: OutboundRules


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is served, in the order in which it is tried.

    Attributes: ``default_host`` and ``listen`` that the file names; ``warnings`` with their place;
    ``certificate`` chain and key (PEM), if it is served with TLS.
    """

    routes: tuple[PlannedRoute, ...]
    default_host: str | None
    listen: HostPort | None
    warnings: tuple[Problem, ...]
    certificate: tuple[bytes, bytes] | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """A route with all that serving it takes.

    Attributes: ``share`` of the slots for guests and of their memory, and ``client`` for their
    outbound requests if they may ask anybody, one for all routes of an entry.
    """

    pattern: RoutePattern
    handler: Handler
    variables: RouteVariables
    argv: str | None
    rules: RouteRules
    share: Share
    log: ModuleLog
    client: OutboundClient | None
