"""The journey of a start: route map → modules → compiled modules → a plan → the table to serve.

Everything up to the plan is done once, by one process; each worker makes the table for itself. All
mistakes are collected, so that one run shows them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from wagi.cgi.environment import RouteVariables
from wagi.config.entries import ModuleEntry, RouteMap
from wagi.config.manifest import read_manifest
from wagi.errors import ConfigurationError, Problem, WagiError
from wagi.gateway.admission import Share
from wagi.gateway.concurrency import WorkerLimits
from wagi.gateway.route import Plan, PlannedRoute, Route, RouteRules
from wagi.guest.demand import MemoryDemand, memory_demand
from wagi.guest.engine import (
    MemoryLimitError,
    Module,
    ModuleError,
    Runtime,
    Source,
    parse,
)
from wagi.guest.guest import run_to_end
from wagi.guest.handler import Limits, Preopen
from wagi.observe.module_log import ModuleLogs, Stderr
from wagi.outbound.client import OutboundClient, OutboundOptions
from wagi.outbound.destinations import Destinations
from wagi.routing import RoutePattern, RouteTable, dynamic_routes
from wagi.sources.errors import FetchError
from wagi.sources.files import resolve_path
from wagi.sources.modules import FetchedModule, ModuleRequest

_ROUTES_TIMEOUT = 30.0  # seconds for ``_routes`` where requests have no limit


def read_route_map(path: Path) -> RouteMap:
    """Read a modules.toml, a pod manifest, or a single module, which answers every path.

    Raises: ConfigurationError with every problem.
    """
    if path.suffix in (".wasm", ".wat"):
        if not path.is_file():
            raise ConfigurationError(Problem(f"no such file: {path}"))
        entry = ModuleEntry(route="/...", module=path.name)

        def place(message: str, _index: int | None, _key: str, exit_status: int) -> Problem:
            return Problem(message, path, exit_status=exit_status)

        return RouteMap([entry], path.absolute().parent, place, lambda _: "the module")
    if path.suffix in (".yaml", ".yml"):
        from wagi.config.pod import read_pods  # and a parser of YAML

        return read_pods(path)
    return read_manifest(path)


def plan(
    route_map: RouteMap,
    modules: Sequence[FetchedModule | WagiError],
    variables: Mapping[str, str],
    logs: ModuleLogs,
    runtime: Runtime,
    memory_budget: int,
    report: Callable[[int, int], None] = lambda done, all: None,
) -> Plan:
    """Compile and check all that a route map names.

    Parameters: ``modules`` of its entries, or what is wrong with them; ``variables`` of the
    operator for every handler; ``logs`` for the handlers' stderr; ``memory_budget`` bytes of
    all guests together, 0 for no limit; ``report(done, all)`` is called while modules are compiled.
    Raises: ConfigurationError with every problem.
    """
    loader = _Loader(route_map, variables, logs, runtime, memory_budget)
    entries = list(enumerate(route_map.entries))
    sources = [
        loader.source(index, entry, module)
        for (index, entry), module in zip(entries, modules, strict=True)
    ]
    runtime.compile((source for source in sources if source), report)
    routes: list[PlannedRoute] = []
    for (index, entry), source, module in zip(entries, sources, modules, strict=True):
        routes += loader.routes(index, entry, source, module)
    if loader.problems:
        raise ConfigurationError(
            sorted(loader.problems, key=lambda problem: (problem.line is None, problem.line))
        )
    if not routes:
        message = "no [[module]]: every path is answered 404"
        loader.warnings.append(route_map.place(message, None, "", 2))
    warnings = (*route_map.warnings, *loader.warnings)
    return Plan(tuple(routes), route_map.default_host, route_map.listen, warnings)


def module_requests(route_map: RouteMap) -> list[ModuleRequest]:
    """What the entries of a route map ask the sources for."""
    return [
        ModuleRequest(
            entry.module,
            route_map.folder,
            entry.sha256 or "",
            entry.pull,
            entry.bindle_server or "",
        )
        for entry in route_map.entries
    ]


def table(
    plan: Plan,
    artefacts: Mapping[str, Path],
    logs: ModuleLogs,
    runtime: Runtime,
    limits: WorkerLimits,
) -> RouteTable[Route]:
    """Make what is served of a plan, in the process that serves it.

    Args:
        plan: What is served.
        artefacts: The compiled modules by their keys.
        logs: The logs of the modules.
        runtime: The engine.
        limits: The worker's part of the limits of entries.

    Raises:
        EngineError: An artefact cannot be used here.
    """
    shares: dict[int, Share] = {}
    clients: dict[int, OutboundClient | None] = {}
    routes: list[tuple[RoutePattern, Route]] = []
    for planned in plan.routes:
        rules = planned.rules
        if planned.entry not in shares:
            limit = None
            if rules.max_concurrency is not None:
                limit = limits.entry(planned.entry_route, rules.max_concurrency)
            shares[planned.entry] = Share(
                limit, rules.max_queue, rules.queue_timeout, planned.demand
            )
            asks = planned.outbound.allowed_hosts
            clients[planned.entry] = OutboundClient(planned.outbound) if asks else None
        route = Route(
            planned.pattern,
            runtime.handler(planned.spec, artefacts),
            planned.variables,
            planned.argv,
            rules,
            shares[planned.entry],
            logs.of(planned.pattern.text),
            clients[planned.entry],
        )
        routes.append((planned.pattern, route))
    return RouteTable(routes)


class _Loader:
    """Loads one entry after the other and keeps what is wrong with them."""

    def __init__(
        self,
        route_map: RouteMap,
        variables: Mapping[str, str],
        logs: ModuleLogs,
        runtime: Runtime,
        memory_budget: int,
    ) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self._map = route_map
        self._variables = variables
        self._logs = logs
        self._runtime = runtime
        self._memory_budget = memory_budget
        self._first: dict[str, int] = {}  # the entries of the patterns so far

    def source(
        self, index: int, entry: ModuleEntry, module: FetchedModule | WagiError
    ) -> Source | None:
        """The module of an entry; None if it has mistakes."""
        try:
            if isinstance(module, WagiError):
                raise module
            if module.warning:
                self._warn(module.warning, index, "module")
            return parse(entry.module, module.content, entry.memory_limit)
        except WagiError as error:
            self._problem(error, index, "module")
            return None

    def routes(
        self,
        index: int,
        entry: ModuleEntry,
        source: Source | None,
        fetched: FetchedModule | WagiError,
    ) -> list[PlannedRoute]:
        """The routes of an entry in the order in which they are tried; none if it has mistakes."""
        pattern = self._pattern(index, entry)
        files = fetched.files if isinstance(fetched, FetchedModule) else None
        preopens = self._preopens(index, entry, files)
        module = self._module(index, entry, source)
        if source is None or module is None or isinstance(fetched, WagiError):
            return []
        demand = memory_demand(source.wasm, entry.memory_limit)
        is_handler = False
        entrypoints = [(pattern, entry.entrypoint)] if pattern else []
        if pattern and module.exports("_routes"):
            entrypoints[:0] = self._dynamic(index, entry, module, pattern)
        rules = _rules(entry)
        outbound = self._outbound(index, entry)
        routes = []
        # Without a valid route the entrypoint is checked all the same: one run shows all mistakes.
        to_check: list[tuple[RoutePattern | None, str]] = [*entrypoints]
        for route_pattern, entrypoint in to_check or [(None, entry.entrypoint)]:
            try:
                spec = module.handler(entrypoint, _limits(entry), preopens).spec
            except ModuleError as error:
                key = "memory_limit" if isinstance(error, MemoryLimitError) else "entrypoint"
                self._problem(error, index, key)
                continue
            is_handler = True
            if route_pattern:
                configured = {**self._variables, **entry.environment}
                variables = RouteVariables.prepare(
                    route_pattern.script_name,
                    route_pattern.text,
                    configured,
                    entry.pass_authorization,
                )
                routes.append(
                    PlannedRoute(
                        index,
                        entry.route,
                        fetched.resolved,
                        route_pattern is not pattern,
                        route_pattern,
                        spec,
                        demand,
                        variables,
                        entry.argv,
                        rules,
                        outbound,
                    )
                )
        if is_handler:
            self._check_budget(index, entry, demand)
        return routes

    def _problem(self, error: Exception | str, index: int, key: str) -> None:
        # A module that cannot be a handler is a mistake of who named it; a registry's is not.
        status = 1 if isinstance(error, FetchError) else 2
        self.problems.append(self._map.place(f"{key}: {error}", index, key, status))

    def _warn(self, message: str, index: int, key: str) -> None:
        self.warnings.append(self._map.place(f"{key}: {message}", index, key, 2))

    def _pattern(self, index: int, entry: ModuleEntry) -> RoutePattern | None:
        try:
            pattern = RoutePattern.parse(entry.route)
        except ValueError as error:
            self._problem(error, index, "route")
            return None
        known = self._first
        if pattern.text in known:
            first = self._map.describe(known[pattern.text])
            self._problem(f"{pattern.text!r} is already the route of {first}", index, "route")
        elif earlier := next((text for text in pattern.covering() if text in known), None):
            first = f"{earlier!r} in {self._map.describe(known[earlier])} comes first"
            self._warn(f"{pattern.text!r} can never match: {first}", index, "route")
        if why := pattern.why_unreachable():
            self._warn(f"{pattern.text!r} can never match: {why}", index, "route")
        known.setdefault(pattern.text, index)
        return pattern

    def _module(self, index: int, entry: ModuleEntry, source: Source | None) -> Module | None:
        if source is None:
            return None
        try:
            return self._runtime.load(source)
        except WagiError as error:
            self._problem(error, index, "module")
            return None

    def _check_budget(self, index: int, entry: ModuleEntry, demand: MemoryDemand) -> None:
        if 0 < self._memory_budget < demand.at_start:
            self._problem(
                f"{entry.module}: a guest is started with {demand.at_start} bytes of memory, and"
                f" the memory budget of all guests is {self._memory_budget} bytes: raise"
                " --memory-budget, or build the module with a smaller initial memory",
                index,
                "module",
            )

    def _preopens(self, index: int, entry: ModuleEntry, files: Path | None) -> tuple[Preopen, ...]:
        preopens = [Preopen(str(files.absolute()), "/", readonly=True)] if files else []
        for guest_path, volume in entry.volumes.items():
            path = resolve_path(volume.path, self._map.folder)
            if not path.is_dir():
                what = "is not a directory" if path.exists() else "does not exist"
                self._problem(f"the folder {path} of {guest_path!r} {what}", index, "volumes")
            preopens.append(Preopen(str(path.absolute()), guest_path, volume.readonly))
        return tuple(preopens)

    def _outbound(self, index: int, entry: ModuleEntry) -> OutboundOptions:
        hosts = tuple(entry.allowed_hosts)
        try:
            Destinations(hosts)
        except ValueError as error:
            self._problem(error, index, "allowed_hosts")
        return OutboundOptions(
            hosts,
            entry.http_max_concurrency,
            entry.http_timeout or None,
            entry.http_response_limit or None,
        )

    def _dynamic(
        self, index: int, entry: ModuleEntry, module: Module, parent: RoutePattern
    ) -> list[tuple[RoutePattern, str]]:
        stderr = Stderr(self._logs.of(parent.text), "_routes", entry.stderr_limit or None)
        try:
            handler = module.handler("_routes", _limits(entry), ())
            listing = run_to_end(handler, entry.timeout or _ROUTES_TIMEOUT, stderr.write)
            return dynamic_routes(parent, listing.decode())
        except (WagiError, ValueError) as error:
            self._problem(f"{entry.module}: _routes: {error}", index, "module")
            return []
        finally:
            stderr.close()


def _limits(entry: ModuleEntry) -> Limits:
    return Limits(entry.memory_limit, entry.output_buffer)


def _rules(entry: ModuleEntry) -> RouteRules:
    return RouteRules(
        max_concurrency=entry.max_concurrency,
        max_queue=entry.max_queue,
        queue_timeout=entry.queue_timeout or None,
        timeout=entry.timeout or None,
        cpu_timeout=entry.cpu_timeout or None,
        body_limit=entry.body_limit or None,
        environment_limit=entry.environment_limit or None,
        header_limit=entry.header_limit,
        stderr_limit=entry.stderr_limit or None,
    )
