"""The journey of a start: modules.toml → compiled modules → a plan → the table that is served.

Everything up to the plan is done once, by one process; each worker makes the table for itself. All
mistakes are collected, so that one run shows them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from wagi.admission import Share
from wagi.cgi.environment import RouteVariables
from wagi.config.manifest import Manifest, ManifestFile, ModuleEntry, read_manifest
from wagi.errors import ConfigurationError, Problem, WagiError
from wagi.guest.engine import (
    Limits,
    MemoryLimitError,
    Module,
    ModuleError,
    Runtime,
    Source,
    parse,
)
from wagi.guest.guest import run_to_end
from wagi.guest.run import Preopen
from wagi.observe.module_log import ModuleLogs, Stderr
from wagi.route import Plan, PlannedRoute, Route, RouteRules
from wagi.routing import RoutePattern, RouteTable, dynamic_routes
from wagi.sources import existing, read_module

_ROUTES_TIMEOUT = 30.0  # seconds for ``_routes`` where requests have no limit


def plan(
    path: Path,
    variables: Mapping[str, str],
    logs: ModuleLogs,
    runtime: Runtime,
    report: Callable[[int, int], None] = lambda done, all: None,
) -> Plan:
    """Load a modules.toml, or a single module, which answers every path.

    Parameters: ``variables`` of the operator for every handler; ``logs`` for the handlers'
    stderr; ``report(done, all)`` is called while modules are compiled.
    Raises: ConfigurationError with every problem.
    """
    file = _read(path)
    loader = _Loader(file, variables, logs, runtime)
    entries = list(enumerate(file.manifest.entries))
    sources = [loader.source(index, entry) for index, entry in entries]
    runtime.compile((source for source in sources if source), report)
    routes: list[PlannedRoute] = []
    for (index, entry), source in zip(entries, sources, strict=True):
        routes += loader.routes(index, entry, source)
    if loader.problems:
        raise ConfigurationError(
            sorted(loader.problems, key=lambda problem: (problem.line is None, problem.line))
        )
    if not routes:
        loader.warnings.append(file.problem("no [[module]]: every path is answered 404"))
    return Plan(tuple(routes), file.manifest.default_host, tuple(loader.warnings))


def table(
    plan: Plan, artefacts: Mapping[str, Path], logs: ModuleLogs, runtime: Runtime
) -> RouteTable[Route]:
    """Make what is served of a plan, in the process that serves it.

    Parameters: ``artefacts`` the compiled modules by their keys.
    Raises: EngineError if an artefact cannot be used here.
    """
    shares: dict[int, Share] = {}
    routes: list[tuple[RoutePattern, Route]] = []
    for planned in plan.routes:
        rules = planned.rules
        if planned.entry not in shares:
            shares[planned.entry] = Share(
                rules.max_concurrency, rules.max_queue, rules.queue_timeout
            )
        route = Route(
            planned.pattern,
            runtime.handler(planned.blueprint, artefacts[planned.blueprint.key]),
            planned.variables,
            planned.argv,
            rules,
            shares[planned.entry],
            logs.of(planned.pattern.text),
        )
        routes.append((planned.pattern, route))
    return RouteTable(routes)


def _read(path: Path) -> ManifestFile:
    if path.suffix in (".wasm", ".wat"):
        if not path.is_file():
            raise ConfigurationError(Problem(f"no such file: {path}"))
        entry = ModuleEntry(route="/...", module=path.name)
        return ManifestFile(path, Manifest(module=[entry]), None)
    return read_manifest(path)


class _Loader:
    """Loads one entry after the other and keeps what is wrong with them."""

    def __init__(
        self, file: ManifestFile, variables: Mapping[str, str], logs: ModuleLogs, runtime: Runtime
    ) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self._file = file
        self._folder = file.path.absolute().parent
        self._variables = variables
        self._logs = logs
        self._runtime = runtime
        self._lines: dict[str, int | None] = {}

    def source(self, index: int, entry: ModuleEntry) -> Source | None:
        """The module of an entry; None if it has mistakes."""
        try:
            content = read_module(entry.module, self._folder)
            return parse(entry.module, content, entry.memory_limit)
        except WagiError as error:
            self._problem(str(error), index, "module")
            return None

    def routes(self, index: int, entry: ModuleEntry, source: Source | None) -> list[PlannedRoute]:
        """The routes of an entry in the order in which they are tried; none if it has mistakes."""
        pattern = self._pattern(index, entry)
        preopens = self._preopens(index, entry)
        module = self._module(index, entry, source)
        if module is None:
            return []
        entrypoints = [(pattern, entry.entrypoint)] if pattern else []
        if pattern and module.exports("_routes"):
            entrypoints[:0] = self._dynamic(index, entry, module, pattern)
        rules = _rules(entry)
        routes = []
        # Without a valid route the entrypoint is checked all the same: one run shows all mistakes.
        to_check: list[tuple[RoutePattern | None, str]] = [*entrypoints]
        for route_pattern, entrypoint in to_check or [(None, entry.entrypoint)]:
            try:
                blueprint = module.handler(entrypoint, _limits(entry), preopens).blueprint
            except ModuleError as error:
                key = "memory_limit" if isinstance(error, MemoryLimitError) else "entrypoint"
                self._problem(str(error), index, key)
                continue
            if route_pattern:
                configured = {**self._variables, **entry.environment}
                variables = RouteVariables.prepare(
                    route_pattern.script_name, route_pattern.text, configured
                )
                routes.append(
                    PlannedRoute(index, route_pattern, blueprint, variables, entry.argv, rules)
                )
        return routes

    def _problem(self, message: str, index: int, key: str) -> None:
        self.problems.append(self._file.problem(f"{key}: {message}", "module", index, key))

    def _warn(self, message: str, index: int, key: str) -> None:
        self.warnings.append(self._file.problem(f"{key}: {message}", "module", index, key))

    def _pattern(self, index: int, entry: ModuleEntry) -> RoutePattern | None:
        try:
            pattern = RoutePattern.parse(entry.route)
        except ValueError as error:
            self._problem(str(error), index, "route")
            return None
        if pattern.text in self._lines:
            line = self._lines[pattern.text]
            self._problem(f"{pattern.text!r} is already the route of line {line}", index, "route")
        elif earlier := next((text for text in pattern.covering() if text in self._lines), None):
            first = f"{earlier!r} in line {self._lines[earlier]} comes first"
            self._warn(f"{pattern.text!r} can never match: {first}", index, "route")
        if why := pattern.why_unreachable():
            self._warn(f"{pattern.text!r} can never match: {why}", index, "route")
        line = self._file.problem("", "module", index, "route").line
        self._lines.setdefault(pattern.text, line)
        return pattern

    def _module(self, index: int, entry: ModuleEntry, source: Source | None) -> Module | None:
        if entry.allowed_hosts:
            self._warn("outbound HTTP is not there yet in this version", index, "allowed_hosts")
        if source is None:
            return None
        try:
            return self._runtime.load(source)
        except WagiError as error:
            self._problem(str(error), index, "module")
            return None

    def _preopens(self, index: int, entry: ModuleEntry) -> tuple[Preopen, ...]:
        preopens = []
        for guest_path, volume in entry.volumes.items():
            path = existing(volume.path, self._folder)
            if not path.is_dir():
                what = "is not a directory" if path.exists() else "does not exist"
                self._problem(f"the folder {path} of {guest_path!r} {what}", index, "volumes")
            preopens.append(Preopen(str(path.absolute()), guest_path, volume.readonly))
        return tuple(preopens)

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
