"""The service: what its supervisor, its loader and its workers do, made from the settings."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import logging
import os
import resource
import socket
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from wagi.config.env_files import configured_variables
from wagi.config.settings import DEFAULT_HOST, Settings
from wagi.config.values import HostPort
from wagi.errors import ConfigurationError, Problem, WagiError
from wagi.gateway import Gateway
from wagi.guest.artefacts import Artefacts, default_folder
from wagi.guest.engine import Runtime
from wagi.intake import Intake
from wagi.loading import plan, read_route_map, table, wanted
from wagi.observe.access_log import AccessLog
from wagi.observe.exchange import Exchange
from wagi.observe.module_log import ModuleLogs
from wagi.observe.server_log import ServerLog, server_log
from wagi.route import Plan
from wagi.server import listening
from wagi.server.http import HttpLimits
from wagi.server.supervisor import Post, Supervisor
from wagi.server.worker import Worker
from wagi.sources import cache
from wagi.sources.cache import ModuleCache
from wagi.sources.credentials import Credential
from wagi.sources.modules import FetchRules, Report, fetch_all
from wagi.sources.references import parse_bindle
from wagi.trust import TrustedProxies

_log = logging.getLogger("wagi")

Announce = Callable[[ServerLog, str, Plan, Path], None]
"""``announce(log, url, plan, log_dir)`` says that the service is ready."""


def serve(settings: Settings, file: Path | None, announce: Announce, report: Report) -> int:
    """Serve a modules.toml, a pod manifest, or a single module, until a signal ends it.

    Parameters: ``file`` None for the bindle of the settings.
    Returns: the exit status. Raises: WagiError if it cannot begin.
    """
    _prepare_process()
    _check_event_loop(settings)
    with (
        server_log() as log,
        _log_dir(settings) as log_dir,
        stores(settings) as kept,
        contextlib.ExitStack() as stack,
    ):
        tls = listening.tls_context(settings.tls_cert, settings.tls_key)

        def listen(plan: Plan) -> Sequence[socket.socket]:
            where = settings.listen
            if plan.listen and "listen" not in settings.model_fields_set:
                where = plan.listen
            return stack.enter_context(listening.listen(where, settings.worker_count))

        def ready(plan: Plan, listening_socket: socket.socket) -> None:
            announce(log, listening.url(listening_socket, tls is not None), plan, log_dir)

        supervisor = Supervisor(
            load=lambda: _load_apart(settings, file, kept, log_dir, report),
            listen=listen,
            find=kept.artefacts.find,
            work=lambda post: _work(settings, post, tls, log_dir),
            announce=ready,
        )
        # What is here stays: the collector of a worker need not look at it, nor copy its pages.
        gc.collect()
        gc.freeze()
        return supervisor.run()


@dataclass(frozen=True, slots=True)
class Stores:
    """What is kept from one start to the next."""

    artefacts: Artefacts
    modules: ModuleCache


def _load_apart(
    settings: Settings, file: Path | None, kept: Stores, log_dir: Path, report: Report
) -> Plan:
    """Load, in a process of its own: what ``_routes`` writes to stderr is logged from there."""
    with server_log():
        return load(settings, file, kept, log_dir, report)


def load(
    settings: Settings, file: Path | None, kept: Stores, log_dir: Path, report: Report
) -> Plan:
    """Load everything: fetch what is elsewhere, compile what has not been compiled yet.

    Raises: ConfigurationError with every problem.
    """
    name = parse_bindle(settings.bindle).id if settings.bindle else ""
    rules = fetch_rules(settings)

    def compiling(done: int, total: int) -> None:
        report(f"Compiling modules: {done} of {total}" if done < total else "")

    if file is None:
        from wagi.sources.route_map import fetch_bindle_routes  # and an HTTP client

        route_map = fetch_bindle_routes(name, kept.modules, rules, report)
    else:
        route_map = read_route_map(file)
    modules = fetch_all(wanted(route_map), kept.modules, rules, report)
    with contextlib.closing(ModuleLogs(log_dir, settings.log_size)) as logs:
        runtime = Runtime(kept.artefacts, settings.cache, settings.max_concurrency)
        variables = configured_variables(settings)
        return plan(route_map, modules, variables, logs, runtime, compiling)


def fetch_rules(settings: Settings) -> FetchRules:
    """What the settings say about sources. Raises: ConfigurationError."""
    server = str(settings.bindle_path.absolute()) if settings.bindle_path else settings.bindle_url
    if settings.bindle is not None and server is None:
        raise ConfigurationError(
            Problem(f"-b {settings.bindle}: where is it? Add --bindle-url or --bindle-path")
        )
    user = settings.bindle_http_user
    return FetchRules(
        settings.max_module_size,
        frozenset(settings.insecure_registry),
        server or "",
        Credential(user, settings.bindle_http_password or "") if user else None,
        settings.bindle_insecure,
    )


@contextlib.contextmanager
def stores(settings: Settings) -> Iterator[Stores]:
    """What is kept from one start to the next, where the settings say.

    Without a place in the user's cache directory it is kept until the end.
    Raises: WagiError if a folder that the settings name cannot be used.
    """
    with contextlib.ExitStack() as stack:

        def temporary(name: str) -> Path:
            context = tempfile.TemporaryDirectory(prefix=f"wagi-{name}-")
            return Path(stack.enter_context(context))

        yield Stores(_artefacts(settings, temporary), _module_cache(settings, temporary))


def _artefacts(settings: Settings, temporary: Callable[[str], Path]) -> Artefacts:
    size = settings.artefact_cache_size
    folder = settings.artefact_cache or default_folder()
    try:
        store = Artefacts(folder, size)
    except WagiError as error:
        if settings.artefact_cache is not None:
            raise WagiError(f"--artefact-cache {error}") from None
        _log.warning("compiled modules are not kept for the next start: %s", error)
        return Artefacts(temporary("artefacts"), size)
    if not os.access(folder, os.W_OK):
        return Artefacts(folder, size, spare=temporary("artefacts"))
    return store


def _module_cache(settings: Settings, temporary: Callable[[str], Path]) -> ModuleCache:
    try:
        return ModuleCache(settings.module_cache or cache.default_folder())
    except WagiError as error:
        if settings.module_cache is not None:
            raise WagiError(f"--module-cache {error}") from None
        _log.warning("fetched modules are not kept for the next start: %s", error)
        return ModuleCache(temporary("modules"))


def _work(settings: Settings, post: Post, tls: ssl.SSLContext | None, log_dir: Path) -> int:
    """A worker's whole life. Returns: its exit status."""
    with (
        server_log(),
        contextlib.closing(ModuleLogs(log_dir, settings.log_size)) as logs,
        contextlib.closing(AccessLog(settings.access_log, sys.stdout)) as access_log,
    ):
        try:
            gateway = make_gateway(settings, post.plan, post.artefacts, logs, access_log)
        except WagiError as error:
            _log.error("%s", error)
            return error.exit_status
        worker = Worker(gateway, http_limits(settings), settings.shutdown_timeout)
        gc.collect()
        gc.freeze()
        with _event_loop(settings) as runner:
            runner.run(worker.run(post.listening, tls, post.ready, post.lifeline))
    return 0


def make_gateway(
    settings: Settings,
    plan: Plan,
    artefacts: Mapping[str, Path],
    logs: ModuleLogs,
    access_log: Callable[[Exchange], None],
    records_guests: bool = False,
) -> Gateway:
    """Make the gateway that serves a plan, in this process.

    Parameters: ``artefacts`` the compiled modules by their keys. Raises: EngineError.
    """
    runtime = Runtime(None, settings.cache, settings.max_concurrency)
    return Gateway(
        table(plan, artefacts, logs, runtime),
        settings.hostname or HostPort.parse(plan.default_host or DEFAULT_HOST),
        TrustedProxies(settings.trusted_proxy),
        Intake(settings.spool_limit, settings.spool_total, settings.min_body_rate),
        settings.max_concurrency,
        access_log,
        records_guests,
    )


def http_limits(settings: Settings) -> HttpLimits:
    """What a client may take, as the settings say."""
    return HttpLimits(
        request_line=settings.max_request_line,
        header=settings.max_request_header,
        header_timeout=settings.header_timeout,
        keep_alive=settings.keep_alive,
        connections=settings.max_connections,
    )


def _prepare_process() -> None:
    """Be ready for a crash, and for as many connections as the system allows."""
    for descriptor in range(3):  # a closed one's number would go to a socket, and what is printed
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is not None:
        # Before any engine: wasmtime's own signal handlers, by which guests trap, go in front.
        faulthandler.enable()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # not everywhere may it be "unlimited"
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextlib.contextmanager
def _log_dir(settings: Settings) -> Iterator[Path]:
    if settings.log_dir is not None:
        try:
            settings.log_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WagiError(f"--log-dir {settings.log_dir}: {error.strerror}") from None
        yield settings.log_dir
        return
    path = Path(tempfile.mkdtemp(prefix="wagi-logs-"))
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.rmdir()  # only an empty one: what handlers wrote stays


def _check_event_loop(settings: Settings) -> None:
    if settings.loop == "uvloop" and find_spec("uvloop") is None:
        raise WagiError("--loop uvloop: it is not installed: pip install uvloop")


def _event_loop(settings: Settings) -> asyncio.Runner:
    if settings.loop == "asyncio" or find_spec("uvloop") is None:
        return asyncio.Runner()
    import uvloop  # type: ignore[import-not-found, unused-ignore]

    return asyncio.Runner(loop_factory=uvloop.new_event_loop)
