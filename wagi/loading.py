"""The journey of a start: modules.toml → compiled handlers → the table that is served.

All mistakes are collected, so that one run shows them all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wagi.cgi.environment import RouteVariables
from wagi.config.manifest import (
    DEFAULT_MEMORY_LIMIT,
    DEFAULT_TIMEOUT,
    Manifest,
    ManifestFile,
    ModuleEntry,
    read_manifest,
)
from wagi.errors import ConfigurationError, Problem, WagiError
from wagi.guest.engine import (
    Handler,
    Limits,
    MemoryLimitError,
    Module,
    ModuleError,
    Runtime,
)
from wagi.guest.guest import run_to_end
from wagi.guest.run import Preopen
from wagi.observe.module_log import ModuleLog, Stderr
from wagi.route import Route
from wagi.routing import RoutePattern, RouteTable, dynamic_routes
from wagi.sources import existing, read_module


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was loaded: the table, the host that the file names, and warnings with their place."""

    table: RouteTable[Route]
    default_host: str | None
    warnings: tuple[Problem, ...]


def load(path: Path, variables: Mapping[str, str], log_dir: Path, runtime: Runtime) -> Loaded:
    """Load a modules.toml, or a single module, which answers every path.

    Parameters: ``variables`` of the operator for every handler; ``log_dir`` for the handlers'
    stderr. Raises: ConfigurationError with every problem.
    """
    file = _read(path)
    loader = _Loader(file, variables, log_dir, runtime)
    routes: list[tuple[RoutePattern, Route]] = []
    for index, entry in enumerate(file.manifest.module):
        routes += loader.routes(index, entry)
    if loader.problems:
        raise ConfigurationError(loader.problems)
    if not routes:
        loader.warnings.append(file.problem("no [[module]]: every path is answered 404"))
    return Loaded(RouteTable(routes), file.manifest.default_host, tuple(loader.warnings))


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
        self, file: ManifestFile, variables: Mapping[str, str], log_dir: Path, runtime: Runtime
    ) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self._file = file
        self._folder = file.path.absolute().parent
        self._variables = variables
        self._log_dir = log_dir
        self._runtime = runtime
        self._lines: dict[str, int | None] = {}

    def routes(self, index: int, entry: ModuleEntry) -> list[tuple[RoutePattern, Route]]:
        """The routes of an entry in the order in which they are tried; none if it has mistakes."""
        pattern = self._pattern(index, entry)
        preopens = self._preopens(index, entry)
        module = self._module(index, entry)
        if module is None:
            return []
        entrypoints = [(pattern, entry.entrypoint)] if pattern else []
        if pattern and module.exports("_routes"):
            entrypoints[:0] = self._dynamic(index, entry, module, pattern)
        limit = entry.max_concurrency or self._file.manifest.defaults.max_concurrency
        slots = asyncio.Semaphore(limit) if limit else None
        routes = []
        # Without a valid route the entrypoint is checked all the same: one run shows all mistakes.
        to_check: list[tuple[RoutePattern | None, str]] = [*entrypoints]
        for route_pattern, entrypoint in to_check or [(None, entry.entrypoint)]:
            try:
                handler = module.handler(entrypoint, self._limits(entry), preopens)
            except ModuleError as error:
                key = "memory_limit" if isinstance(error, MemoryLimitError) else "entrypoint"
                self._problem(str(error), index, key)
                continue
            if route_pattern:
                routes.append((route_pattern, self._route(route_pattern, entry, handler, slots)))
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

    def _module(self, index: int, entry: ModuleEntry) -> Module | None:
        if entry.allowed_hosts:
            self._warn("outbound HTTP is not there yet in this version", index, "allowed_hosts")
        try:
            content = read_module(entry.module, self._folder)
            return self._runtime.load(entry.module, content, self._limits(entry).memory)
        except WagiError as error:
            self._problem(str(error), index, "module")
            return None

    def _preopens(self, index: int, entry: ModuleEntry) -> tuple[Preopen, ...]:
        preopens = []
        for guest_path, host_path in entry.volumes.items():
            path = existing(host_path, self._folder)
            if not path.is_dir():
                what = "is not a directory" if path.exists() else "does not exist"
                self._problem(f"the folder {path} of {guest_path!r} {what}", index, "volumes")
            preopens.append(Preopen(str(path.absolute()), guest_path))
        return tuple(preopens)

    def _limits(self, entry: ModuleEntry) -> Limits:
        memory = entry.memory_limit
        if memory is None:
            memory = self._file.manifest.defaults.memory_limit
        return Limits(DEFAULT_MEMORY_LIMIT if memory is None else memory)

    def _timeout(self, entry: ModuleEntry) -> float | None:
        timeout = entry.timeout
        if timeout is None:
            timeout = self._file.manifest.defaults.timeout
        return (DEFAULT_TIMEOUT if timeout is None else timeout) or None

    def _dynamic(
        self, index: int, entry: ModuleEntry, module: Module, parent: RoutePattern
    ) -> list[tuple[RoutePattern, str]]:
        stderr = Stderr(ModuleLog(self._log_dir, parent.text), "_routes")
        try:
            handler = module.handler("_routes", self._limits(entry), ())
            listing = run_to_end(handler, self._timeout(entry) or DEFAULT_TIMEOUT, stderr.write)
            return dynamic_routes(parent, listing.decode())
        except (WagiError, ValueError) as error:
            self._problem(f"{entry.module}: _routes: {error}", index, "module")
            return []
        finally:
            stderr.close()

    def _route(
        self,
        pattern: RoutePattern,
        entry: ModuleEntry,
        handler: Handler,
        slots: asyncio.Semaphore | None,
    ) -> Route:
        configured = {
            **self._variables,
            **self._file.manifest.defaults.environment,
            **entry.environment,
        }
        return Route(
            pattern,
            handler,
            RouteVariables.prepare(pattern.script_name, pattern.text, configured),
            entry.argv,
            self._timeout(entry),
            slots,
            ModuleLog(self._log_dir, pattern.text),
        )
