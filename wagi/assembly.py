"""Builds the parts of a server from its settings: stores, plan, runtime, gateway and limits."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from wagi.config.env_files import configured_variables
from wagi.config.settings import Settings
from wagi.config.values import HostPort
from wagi.errors import ConfigurationError, Problem, WagiError
from wagi.gateway.concurrency import WorkerLimits
from wagi.gateway.gateway import Gateway, Observer
from wagi.gateway.route import Plan
from wagi.guest.artefacts import Artefacts, default_folder
from wagi.guest.budget import MemoryAccount, MemoryBudget
from wagi.guest.capi.engine import Memory
from wagi.guest.engine import DEFAULT_MEMORY, Runtime
from wagi.guest.targets import Target
from wagi.http.body import BodyLimits
from wagi.http.forwarded import TrustedProxies
from wagi.http.options import HeadLimits, HttpOptions
from wagi.http.spool import SpoolSpace
from wagi.loading.plan import make_plan, module_requests
from wagi.loading.table import build_table
from wagi.observe.exchange import Exchange
from wagi.observe.module_log import ModuleLogs
from wagi.routemap.bindle import bindle_route_map
from wagi.routemap.entries import RouteMap
from wagi.routemap.reader import read_route_map
from wagi.snapshots.maker import with_snapshots
from wagi.sources import cache
from wagi.sources.cache import ModuleCache
from wagi.sources.credentials import Credential
from wagi.sources.file_store import FileStore
from wagi.sources.module_request import FetchOptions, Report, SnapshotState
from wagi.sources.modules import fetch_modules
from wagi.sources.references import parse_bindle
from wagi.storage import temporary_folder

if TYPE_CHECKING:
    from wagi.observe.traces.tracer import RequestTracer

_log = logging.getLogger("wagi")


@dataclass(frozen=True, slots=True)
class Stores:
    """Where modules and files are kept; the caches persist between starts.

    Attributes:
        artefacts: Compiled modules.
        modules: Fetched modules.
        files: Copies of files that guests see; they do not persist.
    """

    artefacts: Artefacts
    modules: ModuleCache
    files: FileStore


def load(
    settings: Settings,
    file: Path | None,
    kept: Stores,
    log_dir: Path | None,
    report: Report,
    target: Target = Target.NATIVE,
    makes_snapshots: bool = True,
) -> Plan:
    """Load a route map: fetch remote modules, and compile those that are not cached.

    Args:
        settings: The settings of the server.
        file: The route map; None for the bindle of the settings.
        kept: The caches.
        log_dir: The folder of the modules' logs; None for no files.
        report: Called with a line of progress.
        target: The platform to compile for.
        makes_snapshots: Whether snapshots that are not cached are made first. With ``--watch`` and
            ``--dev``, they are made while the modules themselves serve.

    Raises:
        ConfigurationError: It contains every problem that was found.
        WagiError: This machine cannot compile for the target.
    """
    name = parse_bindle(settings.bindle).id if settings.bindle else ""
    options = fetch_options(settings)

    def compiling(done: int, total: int) -> None:
        report(f"Compiling modules: {done} of {total}" if done < total else "")

    if file is None:
        from wagi.sources.fetch import fetch_invoice  # imports an HTTP client

        invoice = fetch_invoice(name, kept.modules, options, report)
        route_map = bindle_route_map(invoice, options.bindle_server)
    else:
        route_map = read_route_map(file)
    modules = fetch_modules(module_requests(route_map), kept.modules, options, report)
    makes = makes_snapshots and not (settings.watch or settings.dev)
    modules = with_snapshots(route_map, modules, kept.artefacts, report, makes)
    with contextlib.closing(ModuleLogs(log_dir, settings.log_size)) as logs:
        runtime = make_runtime(settings, kept.artefacts, target)
        variables = configured_variables(settings)
        return make_plan(
            route_map,
            modules,
            variables,
            logs,
            runtime,
            settings.memory_budget_size,
            kept.files,
            compiling,
        )


def make_snapshots(
    settings: Settings,
    route_map: RouteMap,
    kept: Stores,
    report: Report = lambda line: None,
    makes: bool = True,
) -> dict[str, SnapshotState]:
    """Make the snapshots of a route map that are not cached.

    Args:
        settings: The settings of the server.
        route_map: The route map.
        kept: The caches.
        report: Called with a line of progress.
        makes: False to only look which of them are cached.

    Returns:
        Their states, by the routes of their entries; without modules that cannot be fetched.

    Raises:
        ConfigurationError: The settings are invalid.
    """
    entries = tuple(entry for entry in route_map.modules if entry.snapshot)
    route_map = replace(route_map, entries=entries)
    modules = fetch_modules(
        module_requests(route_map), kept.modules, fetch_options(settings), report
    )
    found = with_snapshots(route_map, modules, kept.artefacts, report, makes)
    return {
        entry.route: module.snapshot
        for entry, module in zip(entries, found, strict=True)
        if not isinstance(module, WagiError) and module.snapshot is not None
    }


def make_runtime(
    settings: Settings, artefacts: Artefacts | None = None, target: Target = Target.NATIVE
) -> Runtime:
    """Make a runtime.

    Args:
        settings: The settings of the server.
        artefacts: The cache of compiled modules.
        target: The platform to compile for.

    Raises:
        EngineError: Guests cannot run on this machine.
        ConfigurationError: wasmtime rejects the file of ``--cache``.
    """
    memory = Memory.POOL if settings.memory == "pool" else DEFAULT_MEMORY
    return Runtime(artefacts, settings.cache, settings.max_concurrency, target, memory)


def fetch_options(settings: Settings) -> FetchOptions:
    """The options for fetching modules.

    Raises:
        ConfigurationError: There is a bindle to serve, but no Bindle server.
    """
    server = str(settings.bindle_path.absolute()) if settings.bindle_path else settings.bindle_url
    if settings.bindle is not None and server is None:
        raise ConfigurationError(
            Problem(
                f"-b {settings.bindle}: no Bindle server given: pass --bindle-url or --bindle-path"
            )
        )
    user = settings.bindle_http_user
    return FetchOptions(
        settings.max_module_size,
        frozenset(settings.insecure_registry),
        settings.registry_config,
        server or "",
        settings.bindle_url or "",
        Credential(user, settings.bindle_http_password or "") if user else None,
        settings.bindle_insecure,
    )


@contextlib.contextmanager
def stores(settings: Settings) -> Iterator[Stores]:
    """Open the caches.

    If the user's cache directory cannot be used, they are temporary.

    Raises:
        WagiError: A folder named in the settings cannot be used.
    """
    with contextlib.ExitStack() as stack:

        def temporary(name: str) -> Path:
            return stack.enter_context(temporary_folder(name))

        files = FileStore()
        stack.callback(files.remove)
        yield Stores(_artefacts(settings, temporary), _module_cache(settings, temporary), files)


def _artefacts(settings: Settings, temporary: Callable[[str], Path]) -> Artefacts:
    size = settings.artefact_cache_size
    try:
        folder = settings.artefact_cache or default_folder()
        store = Artefacts(folder, size)
    except WagiError as error:
        if settings.artefact_cache is not None:
            raise WagiError(f"--artefact-cache {error}") from None
        _log.warning("compiled modules will not be cached: %s", error)
        return Artefacts(temporary("artefacts"), size)
    if store.name != folder:
        _log.info("other users can write to %s: compiled modules are in %s", folder, store.name)
    if not store.is_writable:
        return Artefacts(folder, size, spare=temporary("artefacts"))
    return store


def _module_cache(settings: Settings, temporary: Callable[[str], Path]) -> ModuleCache:
    try:
        return ModuleCache(settings.module_cache or cache.default_folder())
    except WagiError as error:
        if settings.module_cache is not None:
            raise WagiError(f"--module-cache {error}") from None
        _log.warning("downloaded modules will not be cached: %s", error)
        return ModuleCache(temporary("modules"))


def memory_budget(settings: Settings) -> MemoryBudget:
    """The memory budget that the guests of all workers share."""
    return MemoryBudget(settings.memory_budget_size, settings.worker_count)


def make_gateway(
    settings: Settings,
    plan: Plan,
    artefacts: Mapping[str, Path],
    logs: ModuleLogs,
    account: MemoryAccount,
    limits: WorkerLimits,
    access_log: Callable[[Exchange], None],
    records_guests: bool = False,
    observer: Observer | None = None,
    tracer: RequestTracer | None = None,
) -> Gateway:
    """Make the gateway of this process.

    Args:
        settings: The settings of the server.
        plan: The routes to serve.
        artefacts: The compiled modules by their keys.
        logs: The logs of the modules.
        account: The worker's part of the memory budget.
        limits: The worker's part of the limits of entries.
        access_log: Called with the record of each request.
        records_guests: Whether records include what guests read and wrote.
        observer: Follows the requests for developers.
        tracer: Makes the spans of requests; None without traces.

    Raises:
        EngineError: A compiled module cannot be used on this machine.
    """
    runtime = make_runtime(settings)
    return Gateway(
        build_table(plan, artefacts, logs, runtime, limits),
        settings.hostname or (HostPort.parse(plan.default_host) if plan.default_host else None),
        BodyLimits(settings.spool_limit, SpoolSpace(settings.spool_total), settings.min_body_rate),
        settings.max_concurrency,
        account,
        limits,
        access_log,
        records_guests,
        observer,
        plan.unavailable,
        tracer,
    )


def http_options(settings: Settings) -> HttpOptions:
    """The limits and time-outs of HTTP."""
    return HttpOptions(
        head=HeadLimits(settings.max_request_line, settings.max_request_header),
        header_timeout=settings.header_timeout,
        keep_alive=settings.keep_alive,
        connections=settings.max_connections,
        proxies=TrustedProxies(settings.trusted_proxy),
    )
