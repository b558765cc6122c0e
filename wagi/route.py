"""A route as it is served: what loading makes and the gateway uses."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from wagi.cgi.environment import RouteVariables
from wagi.guest.engine import Handler
from wagi.observe.module_log import ModuleLog
from wagi.routing import RoutePattern


@dataclass(frozen=True, slots=True)
class Route:
    """A route with all that serving it takes.

    Attributes: ``argv`` the template, or None for the default; ``timeout`` seconds of wall time,
    None for no limit; ``slots`` for its guests, None for no limit of its own.
    """

    pattern: RoutePattern
    handler: Handler
    variables: RouteVariables
    argv: str | None
    timeout: float | None
    slots: asyncio.Semaphore | None
    log: ModuleLog
