"""From a route map to a plan: compiles and checks everything that the route map names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

from wagi.cgi.environment import RouteVariables
from wagi.errors import ConfigurationError, WagiError
from wagi.gateway.route import Plan, PlannedRoute, PlannedStatic
from wagi.guest.demand import MemoryDemand, memory_demand
from wagi.guest.engine import Runtime
from wagi.guest.entry import START
from wagi.guest.guest import run_to_end
from wagi.guest.handler import HandlerSpec, Preopen
from wagi.guest.module import MemoryLimitError, Module, ModuleError, ParsedModule, parse
from wagi.loading.findings import EntryFindings
from wagi.loading.patterns import RoutePatterns
from wagi.loading.preopens import Preopens
from wagi.observe.module_log import ModuleLogs, Stderr
from wagi.outbound.destinations import Destinations
from wagi.routemap.entries import ModuleEntry, RouteMap
from wagi.routemap.static_entry import StaticEntry
from wagi.routing import RoutePattern, dynamic_routes
from wagi.sources.errors import SourceError
from wagi.sources.file_store import FileStore
from wagi.sources.module_request import FetchedModule, ModuleRequest
from wagi.static.configuration import SiteError, make_site, missing_files
from wagi.wasi_http.request import RequestRules

_NEEDS_WAGI_EXECUTOR = (
    "the executor is 'http', for handlers of wasi:http, and the module is a CGI program: set"
    ' executor = { type = "wagi" }, or build a component for wasi:http'
)
_NEEDS_HTTP_EXECUTOR = (
    "the executor is 'wagi', for CGI programs, and the module is a handler of wasi:http: remove the"
    " executor"
)
_ROUTES_TIMEOUT_S = 30.0  # for ``_routes`` of an entry without a ``timeout``


def module_requests(route_map: RouteMap) -> list[ModuleRequest]:
    """List the modules that the entries of a route map name, in their order."""
    return [
        ModuleRequest(
            entry.module,
            route_map.folder_of(entry),
            entry.sha256 or "",
            entry.pull,
            entry.bindle_server or "",
        )
        for entry in route_map.modules
    ]


def make_plan(
    route_map: RouteMap,
    modules: Sequence[FetchedModule | WagiError],
    variables: Mapping[str, str],
    logs: ModuleLogs,
    runtime: Runtime,
    memory_budget: int,
    files: FileStore,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Plan:
    """Compile and check everything that a route map names.

    Args:
        route_map: The route map.
        modules: The modules of its entries that have one, or why they could not be fetched.
        variables: The variables that the operator gives to every handler.
        logs: The logs of the modules, for what they write to stderr now.
        runtime: Compiles the modules.
        memory_budget: Bytes of memory for all guests together; 0 for no limit.
        files: Keeps the copies of files that guests see.
        report: Called with the numbers of compiled modules and of all modules.

    Raises:
        ConfigurationError: With every problem.
    """
    builder = _PlanBuilder(route_map, variables, logs, runtime, memory_budget, files)
    sources = [
        builder.parse_module(entry, fetched)
        for entry, fetched in zip(route_map.modules, modules, strict=True)
    ]
    runtime.compile((source for source in sources if source), report)
    parsed = zip(sources, modules, strict=True)
    routes: list[PlannedRoute | PlannedStatic] = []
    for index, entry in enumerate(route_map.entries):
        if isinstance(entry, StaticEntry):
            routes += builder.plan_static(entry)
        elif isinstance(entry, ModuleEntry):
            routes += builder.plan_routes(index, entry, *next(parsed))
    if builder.findings.problems:
        # Entries may share what is wrong.
        problems = dict.fromkeys(builder.findings.problems)
        raise ConfigurationError(sorted(problems, key=route_map.position))
    if not routes:
        message = "there are no routes: every path is answered 404"
        builder.findings.warnings.append(route_map.location.problem(message))
    warnings = (*route_map.warnings, *builder.findings.warnings)
    return Plan(tuple(routes), route_map.default_host, route_map.listen, warnings)


class _PlanBuilder:
    """Plans one entry after the other, and collects what is wrong.

    Attributes:
        findings: The problems and warnings.
    """

    def __init__(
        self,
        route_map: RouteMap,
        variables: Mapping[str, str],
        logs: ModuleLogs,
        runtime: Runtime,
        memory_budget: int,
        files: FileStore,
    ) -> None:
        self.findings = EntryFindings()
        self._map = route_map
        self._variables = variables
        self._logs = logs
        self._runtime = runtime
        self._memory_budget = memory_budget
        self._patterns = RoutePatterns(self.findings)
        self._preopens = Preopens(route_map, files, self.findings)
        self._fetch_warnings: set[str] = set()  # each is reported for the first entry only

    def parse_module(
        self, entry: ModuleEntry, fetched: FetchedModule | WagiError
    ) -> ParsedModule | None:
        """Parse the module of an entry. Returns: None if that is not possible."""
        try:
            if isinstance(fetched, WagiError):
                raise fetched
            for warning in fetched.warnings:
                if warning not in self._fetch_warnings:
                    self._fetch_warnings.add(warning)
                    self.findings.warn(warning, entry, "module")
            return parse(entry.module, fetched.content, entry.limits.memory_limit)
        except WagiError as error:
            if entry.build is not None and isinstance(error, SourceError):
                error = SourceError(f"{error} (run `wagi build` to create it)")
            self.findings.report(error, entry, "module")
            return None

    def plan_static(self, entry: StaticEntry) -> list[PlannedStatic]:
        """Plan the route of an entry with static files. Returns: No route if it is not valid."""
        pattern = self._patterns.add(entry)
        try:
            site = make_site(entry, self._map)
        except SiteError as error:
            self.findings.report(error, entry, "static")
            return []
        for key, message in missing_files(site):
            self.findings.warn(message, entry, key)
        return [] if pattern is None else [PlannedStatic(pattern, site)]

    def plan_routes(
        self,
        index: int,
        entry: ModuleEntry,
        source: ParsedModule | None,
        fetched: FetchedModule | WagiError,
    ) -> list[PlannedRoute]:
        """Plan the routes of an entry, in the order in which they are tried.

        Args:
            index: The number of the entry in the route map.
            entry: The entry.
            source: Its module; None if it cannot be parsed.
            fetched: The module as it was fetched.

        Returns:
            No route for what is not valid.
        """
        pattern = self._patterns.add(entry)
        self._check_allowed_hosts(entry)
        preopens = self._preopens.of(entry, fetched)
        module = None if source is None else self._load(entry, source)
        if source is None or module is None or isinstance(fetched, WagiError):
            return []
        demand = memory_demand(source.wasm, entry.limits.memory_limit)
        specs = [
            (route_pattern, spec)
            for route_pattern, entrypoint in self._entrypoints(entry, module, pattern)
            if (spec := self._handler_spec(entry, module, entrypoint, preopens)) is not None
        ]
        if specs:
            self._check_budget(entry, demand)
        return [
            PlannedRoute(
                entry=index,
                entry_route=entry.route,
                entry_location=entry.location().in_file,
                source=fetched.resolved,
                digest=hashlib.sha256(fetched.content).hexdigest(),
                is_dynamic=route_pattern is not pattern,
                pattern=route_pattern,
                spec=spec,
                demand=demand,
                variables=self._route_variables(entry, route_pattern),
                argv=entry.argv,
                allowed_hosts=tuple(entry.allowed_hosts),
                request_rules=self._request_rules(entry, route_pattern, spec),
                snapshot=fetched.snapshot,
            )
            for route_pattern, spec in specs
            if route_pattern is not None
        ]

    def _check_allowed_hosts(self, entry: ModuleEntry) -> None:
        try:
            Destinations(tuple(entry.allowed_hosts))
        except ValueError as error:
            self.findings.report(error, entry, "allowed_hosts")

    def _load(self, entry: ModuleEntry, source: ParsedModule) -> Module | None:
        try:
            return self._runtime.load(source)
        except WagiError as error:
            self.findings.report(error, entry, "module")
            return None

    def _entrypoints(
        self, entry: ModuleEntry, module: Module, pattern: RoutePattern | None
    ) -> list[tuple[RoutePattern | None, str]]:
        """The routes of an entry with their entrypoints.

        Without a valid route the entrypoint is listed all the same: it is checked, too, so that
        one run shows all mistakes.
        """
        own: list[tuple[RoutePattern | None, str]] = [(pattern, entry.entrypoint)]
        if pattern is None or not module.exports("_routes"):
            return own
        return [*self._dynamic_routes(entry, module, pattern), *own]

    def _dynamic_routes(
        self, entry: ModuleEntry, module: Module, parent: RoutePattern
    ) -> list[tuple[RoutePattern, str]]:
        """Ask a module for its routes: call ``_routes`` (docs/contract.md, "Dynamic routes")."""
        limits = entry.limits
        stderr = Stderr(self._logs.of(parent.text, entry.module), "_routes", limits.stderr_limit)
        try:
            handler = module.handler("_routes", limits, ())
            listing = run_to_end(handler, limits.timeout or _ROUTES_TIMEOUT_S, stderr.write)
            return dynamic_routes(parent, listing.decode())
        except (WagiError, ValueError) as error:
            self.findings.report(f"{entry.module}: _routes: {error}", entry, "module")
            return []
        finally:
            stderr.close()

    def _handler_spec(
        self, entry: ModuleEntry, module: Module, entrypoint: str, preopens: tuple[Preopen, ...]
    ) -> HandlerSpec | None:
        try:
            spec = module.handler(entrypoint, entry.limits, preopens).spec
            self._check_kind(entry, spec)
            return spec
        except ModuleError as error:
            key = "memory_limit" if isinstance(error, MemoryLimitError) else "entrypoint"
            self.findings.report(error, entry, key)
            return None

    def _check_kind(self, entry: ModuleEntry, spec: HandlerSpec) -> None:
        """Check that the keys of an entry suit the kind of its handler."""
        if not spec.handles_http:
            if entry.spin_route is not None and not entry.spin_route.is_cgi:
                self.findings.report(_NEEDS_WAGI_EXECUTOR, entry, "executor")
            return
        if entry.spin_route is not None and entry.spin_route.is_cgi:
            self.findings.report(_NEEDS_HTTP_EXECUTOR, entry, "executor")
        elif entry.argv is not None:
            message = "a handler of wasi:http gets no arguments: remove the key"
            self.findings.report(f"{entry.module}: {message}", entry, "argv")
        elif entry.entrypoint != START:
            message = "a handler of wasi:http is called as its world defines: remove the key"
            self.findings.report(f"{entry.module}: {message}", entry, "entrypoint")

    def _check_budget(self, entry: ModuleEntry, demand: MemoryDemand) -> None:
        if 0 < self._memory_budget < demand.at_start:
            self.findings.report(
                f"{entry.module}: a guest starts with {demand.at_start} bytes of memory, which"
                f" exceeds the memory budget of all guests, {self._memory_budget} bytes: raise"
                " --memory-budget, or build the module with a smaller initial memory",
                entry,
                "module",
            )

    def _route_variables(self, entry: ModuleEntry, pattern: RoutePattern) -> RouteVariables:
        configured = {**self._variables, **entry.environment}
        # In Spin, the routes / and /... have an empty SCRIPT_NAME.
        script_name = pattern.stem.rstrip("/") if entry.spin_route else pattern.script_name
        return RouteVariables.prepare(
            script_name,
            pattern.text,
            configured,
            bool(entry.pass_authorization),
            entry.spin_route,
        )

    def _request_rules(
        self, entry: ModuleEntry, pattern: RoutePattern, spec: HandlerSpec
    ) -> RequestRules | None:
        if not spec.handles_http:
            return None
        return RequestRules.prepare(
            pattern.text,
            {**self._variables, **entry.environment},
            entry.pass_authorization is not False,
            entry.spin_route,
        )
