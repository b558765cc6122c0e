"""A route as it is served: what loading makes and the gateway uses."""

from __future__ import annotations

from dataclasses import dataclass

from wagi.admission import Share
from wagi.cgi.environment import RouteVariables
from wagi.guest.engine import Handler
from wagi.observe.module_log import ModuleLog
from wagi.routing import RoutePattern


@dataclass(frozen=True, slots=True)
class RouteRules:
    """The limits of an entry, for all its routes together. None is no limit.

    Attributes: ``share`` of the places for guests; ``timeout`` in seconds of wall time and
    ``cpu_timeout`` of CPU time; ``body_limit`` of a request, ``environment_limit`` for variables
    and argv, ``header_limit`` of a response, ``stderr_limit`` of a guest, in bytes.
    """

    share: Share
    timeout: float | None
    cpu_timeout: float | None
    body_limit: int | None
    environment_limit: int | None
    header_limit: int
    stderr_limit: int | None


@dataclass(frozen=True, slots=True)
class Route:
    """A route with all that serving it takes.

    Attributes: ``argv`` the template, or None for the default.
    """

    pattern: RoutePattern
    handler: Handler
    variables: RouteVariables
    argv: str | None
    rules: RouteRules
    log: ModuleLog
