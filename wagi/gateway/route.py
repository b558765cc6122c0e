"""A route on its way: planned by the process that loads, made and served by the workers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from wagi.cgi.environment import RouteVariables
from wagi.config.values import HostPort
from wagi.errors import Problem
from wagi.gateway.admission import Share
from wagi.guest.demand import MemoryDemand
from wagi.guest.handler import Handler, HandlerSpec
from wagi.limits import Limits
from wagi.observe.module_log import ModuleLog
from wagi.routing import RoutePattern
from wagi.sources.module_request import SnapshotState
from wagi.static.responder import StaticResponder
from wagi.static.site import Site
from wagi.wasi_http.request import RequestRules

if TYPE_CHECKING:
    from wagi.outbound.client import OutboundClient


@dataclass(frozen=True, slots=True)
class PlannedRoute:
    """A route as it is to be served, fit to be sent to another process.

    Attributes:
        entry: The number of its entry in modules.toml. The routes of an entry share its slots.
        entry_route: The route of the entry.
        entry_location: Where the entry is written, such as ``modules.toml:2``; empty for a single
            module and for a bindle.
        source: The file, or the reference that will always lead to the module.
        digest: The SHA-256 of the module file, in hexadecimal.
        is_dynamic: Whether ``_routes`` of the module has named it.
        pattern: Which paths it matches.
        spec: Which function of the module is run, with its volumes and the limits of the entry.
        demand: The memory that its guests need.
        variables: The part of the environment that is the same for all requests.
        argv: The template of the arguments; None for the default.
        allowed_hosts: Which hosts its guests may call.
        request_rules: How requests become those of a handler of wasi:http; None for a CGI program.
        snapshot: The state of the module's snapshot; None if it is to have none.
    """

    entry: int
    entry_route: str
    entry_location: str
    source: str
    digest: str
    is_dynamic: bool
    pattern: RoutePattern
    spec: HandlerSpec
    demand: MemoryDemand
    variables: RouteVariables
    argv: str | None
    allowed_hosts: tuple[str, ...]
    request_rules: RequestRules | None = None
    snapshot: SnapshotState | None = None

    @property
    def name(self) -> str:
        """The module, for logs and lists."""
        return self.spec.name

    @property
    def entrypoint(self) -> str:
        """The exported function that is called."""
        return self.spec.calls[-1].decode()

    @property
    def limits(self) -> Limits:
        """The limits of the entry."""
        return self.spec.limits

    def describe(self) -> dict[str, Any]:
        """Describe the route for operators, as JSON; without the values of variables."""
        return {
            "route": self.pattern.text,
            "module": self.name,
            "sha256": self.digest,
            "entrypoint": self.entrypoint,
            "snapshot": self.snapshot and asdict(self.snapshot),
            "source": self.source,
            "dynamic": self.is_dynamic,
            "argv": self.argv,
            "volumes": {item.guest_path: item.host_path for item in self.spec.preopens},
            "allowed_hosts": list(self.allowed_hosts),
            "limits": asdict(self.limits),
        }


@dataclass(frozen=True, slots=True)
class PlannedStatic:
    """A route to static files as it is to be served, fit to be sent to another process.

    Attributes:
        pattern: Which paths it matches.
        site: The directory and how it is served.
    """

    pattern: RoutePattern
    site: Site

    @property
    def name(self) -> str:
        """The directory, for logs and lists."""
        return self.site.name

    @property
    def entrypoint(self) -> str:
        """What lists show in place of an exported function."""
        return "(static files)"

    def describe(self) -> dict[str, Any]:
        """Describe the route for operators, as JSON."""
        return {
            "route": self.pattern.text,
            "static": str(self.site.folder),
            "index": self.site.index,
            "fallback": self.site.fallback,
            "not_found": self.site.not_found,
            "cache_control": dict(self.site.cache_control),
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is served, in the order in which it is tried.

    Attributes:
        routes: The routes.
        default_host: The default host that the file names.
        listen: The address that the file names.
        warnings: What may be wrong with the file.
        certificate: Certificate chain and key (PEM), if it is served with TLS.
        unavailable: Why every request is answered with 503, until a plan can be loaded; empty for a
            plan that was loaded.
        load_seconds: How long loading took, in seconds.
    """

    routes: tuple[PlannedRoute | PlannedStatic, ...]
    default_host: str | None
    listen: HostPort | None
    warnings: tuple[Problem, ...]
    certificate: tuple[bytes, bytes] | None = None
    unavailable: str = ""
    load_seconds: float = 0.0

    @property
    def handlers(self) -> tuple[PlannedRoute, ...]:
        """The routes to handlers: all but those to static files."""
        return tuple(route for route in self.routes if isinstance(route, PlannedRoute))

    @property
    def limited_entries(self) -> set[str]:
        """The routes of the entries that have a ``max_concurrency``."""
        return {r.entry_route for r in self.handlers if r.limits.max_concurrency is not None}


@dataclass(frozen=True, slots=True)
class Route:
    """A route with all that serving it takes.

    Attributes:
        pattern: Which paths it matches.
        handler: The compiled module.
        variables: The part of the environment that is the same for all requests.
        argv: The template of the arguments; None for the default.
        limits: The limits of the entry.
        entry_location: Where the entry is written, such as ``modules.toml:2``; empty for a single
            module and for a bindle.
        share: The entry's share of the slots for guests and of their memory.
        log: Where the stderr of its guests goes.
        client: Sends the outbound requests of the entry's guests; None if they may send none.
        request_rules: How requests become those of a handler of wasi:http; None for a CGI program.
        responder: None, which distinguishes it from a ``StaticRoute``.
    """

    responder: ClassVar[None] = None
    pattern: RoutePattern
    handler: Handler
    variables: RouteVariables
    argv: str | None
    limits: Limits
    entry_location: str
    share: Share
    log: ModuleLog
    client: OutboundClient | None
    request_rules: RequestRules | None = None


@dataclass(frozen=True, slots=True)
class StaticRoute:
    """A route to static files.

    Attributes:
        responder: Answers its requests.
    """

    responder: StaticResponder
