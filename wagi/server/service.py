"""``serve``: the supervisor, loader and workers of a service, assembled from its settings."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import platform
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from wagi import __version__
from wagi.assembly import Stores, http_options, load, make_gateway, memory_budget, stores
from wagi.config.settings import Settings
from wagi.config.values import HostPort, UnixPath
from wagi.errors import ConfigurationError, Problem, WagiError
from wagi.gateway.concurrency import ConcurrencyLimits
from wagi.gateway.gateway import Observer
from wagi.gateway.route import Plan
from wagi.guest import compatibility, core
from wagi.guest.budget import CELLS_PER_WORKER
from wagi.observe.access_log import AccessLog
from wagi.observe.exchange import Exchange
from wagi.observe.log_files import temporary_name
from wagi.observe.metrics.memory import MetricsMemory
from wagi.observe.metrics.recorder import RequestMetrics
from wagi.observe.module_log import ModuleLogs
from wagi.observe.server_log import ServerLog, server_log
from wagi.observe.traces.setup import OpenTraces, set_up_traces
from wagi.routemap.reader import read_route_map
from wagi.server import listeners
from wagi.server.admin import AdminProcess, AdminServer
from wagi.server.status import AdminState
from wagi.server.supervisor import Supervisor
from wagi.server.systemd import Notifier, activated_socket
from wagi.server.tls import read_certificate, tls_context
from wagi.server.worker import Worker
from wagi.server.worker_processes import WorkerSpec
from wagi.sources.module_request import Report
from wagi.storage import new_folder

_log = logging.getLogger("wagi")

Announce = Callable[[ServerLog, str, Plan, Path | None], None]
"""``announce(log, url, plan, log_dir)`` prints that the service is ready; ``log_dir`` is None if
handlers' stderr is not written to files."""


class Development(Observer, Protocol):
    """What a development mode adds to a service. ``wagi.dev.mode`` implements it."""

    @property
    def records_guests(self) -> bool:
        """Whether exchanges have to include what guests read and wrote."""

    def report_load(self, problem: str) -> None:
        """Store the error of the last load; an empty string clears it."""

    def publish_routes(self, plan: Plan, url: str) -> None:
        """Show the routes, and the URL of the service."""

    def recorder(self, access_log: Callable[[Exchange], None]) -> Callable[[Exchange], None]:
        """A function that records an exchange in the access log and elsewhere."""


Develop = Callable[[], AbstractContextManager[Development]]
"""``develop()`` runs a development mode while its block runs."""
Watch = Callable[[], AbstractContextManager[None]]
"""``watch()`` reloads the service after each change of a file while its block runs."""


def serve(
    settings: Settings,
    file: Path | None,
    announce: Announce,
    report: Report,
    develop: Develop | None = None,
    watch: Watch | None = None,
) -> int:
    """Serve a modules.toml, a pod manifest or a single module until a signal stops it.

    Args:
        settings: The settings of the server.
        file: The route map; None for the bindle of the settings.
        announce: Called when the service is ready.
        report: Called with lines of progress while modules are loaded.
        develop: Adds a development mode.
        watch: Reloads the service when a file changes.

    Returns:
        The exit status.

    Raises:
        WagiError: The service cannot start.
    """
    _prepare_process()
    _check_event_loop(settings)
    inherited = _inherited_socket(settings)
    notifier = Notifier()
    with (
        server_log(settings.log_format) as log,
        _log_dir(settings, file) as log_dir,
        stores(settings) as kept,
        contextlib.ExitStack() as stack,
    ):
        read_certificate(settings.tls_cert, settings.tls_key)  # or fail, even with --watch

        def listen(plan: Plan) -> Sequence[socket.socket]:
            if inherited is not None:
                return [inherited] * settings.worker_count
            address = settings.listen
            if plan.listen and "listen" not in settings.model_fields_set:
                address = plan.listen
            return stack.enter_context(listeners.listen(address, settings.worker_count))

        open_traces = set_up_traces()
        admin = _open_admin(settings, stack) if settings.admin_listen else None
        development = stack.enter_context(develop()) if develop else None
        if watch:
            stack.enter_context(watch())

        def on_ready(plan: Plan, listener: socket.socket) -> None:
            announce(log, listeners.url(listener, bool(plan.certificate)), plan, log_dir)

        supervisor = Supervisor(
            load=lambda: _load(settings, file, kept, log_dir, report),
            listen=listen,
            find=kept.artefacts.find,
            work=lambda spec: _work(
                settings,
                spec,
                log_dir,
                development,
                None if admin is None else admin.state.metrics,
                open_traces,
                inherited is not None,
            ),
            on_ready=on_ready,
            budget=memory_budget(settings),
            limits=ConcurrencyLimits(CELLS_PER_WORKER * settings.worker_count),
            notifier=notifier,
            retries_reloads=settings.reload_on_change,
            shutdown_delay=settings.shutdown_delay,
            admin=admin,
            fallback=lambda: _unavailable_plan(settings, file),
            on_load=development.report_load if development else None,
        )
        # Workers share these objects by copy-on-write: keep their garbage collectors away.
        gc.collect()
        gc.freeze()
        return supervisor.run()


def _load(
    settings: Settings, file: Path | None, kept: Stores, log_dir: Path | None, report: Report
) -> Plan:
    """Load a plan. Runs in a separate process, with its own log of what ``_routes`` prints."""
    started = time.perf_counter()
    with server_log(settings.log_format):
        certificate = read_certificate(settings.tls_cert, settings.tls_key)
        plan = load(settings, file, kept, log_dir, report)
        seconds = time.perf_counter() - started
        return replace(plan, certificate=certificate, load_seconds=seconds)


def _unavailable_plan(settings: Settings, file: Path | None) -> Plan:
    """What a development mode serves until a plan can be loaded: an error page that has the reason.

    Raises:
        WagiError: The certificate cannot be used.
    """
    listen = None
    if file is not None:
        with contextlib.suppress(WagiError):  # the error page has it
            listen = read_route_map(file).listen
    certificate = read_certificate(settings.tls_cert, settings.tls_key)
    return Plan((), None, listen, (), certificate, "The server could not start.")


def _work(
    settings: Settings,
    spec: WorkerSpec,
    log_dir: Path | None,
    development: Development | None,
    metrics: MetricsMemory | None,
    open_traces: OpenTraces | None,
    is_activated: bool,
) -> int:
    """Run a worker, in its own process.

    Args:
        settings: The settings of the server.
        spec: What the worker serves.
        log_dir: The folder of the modules' logs; None for no files.
        development: The development mode, if any.
        metrics: The metrics of the service, if there is an admin listener.
        open_traces: Starts to export spans; None without traces.
        is_activated: Whether the listening socket outlives the service (socket activation).

    Returns:
        Its exit status.
    """
    tls = tls_context(spec.plan.certificate) if spec.plan.certificate else None
    with (
        server_log(settings.log_format),
        contextlib.closing(ModuleLogs(log_dir, settings.log_size)) as logs,
        contextlib.closing(AccessLog(settings.access_log_format, sys.stdout)) as access_log,
    ):
        try:
            record: Callable[[Exchange], None] = access_log
            if development:
                record = development.recorder(access_log)
                url = listeners.url(spec.listener, tls is not None)
                development.publish_routes(spec.plan, url)
            traces = open_traces() if open_traces is not None else None
            if traces is not None:
                record = traces.tracer.recorder(record)
            page = metrics.page(spec.page) if metrics and spec.page is not None else None
            if page is not None:
                record = RequestMetrics(page, record)
            gateway = make_gateway(
                settings,
                spec.plan,
                spec.artefacts,
                logs,
                spec.account,
                spec.limits,
                record,
                records_guests=development is not None and development.records_guests,
                observer=development,
                tracer=None if traces is None else traces.tracer,
            )
        except WagiError as error:
            _log.error("%s", error)
            return error.exit_status
        worker = Worker(
            gateway,
            http_options(settings),
            settings.shutdown_timeout,
            page,
            traces,
            leaves_backlog=is_activated,
        )
        gc.collect()
        gc.freeze()
        with _event_loop(settings) as runner:
            runner.run(worker.run(spec.listener, tls, spec.on_ready, spec.lifeline))
    return 0


def _open_admin(settings: Settings, stack: contextlib.ExitStack) -> AdminProcess:
    """Open the admin listener; its socket is closed with the stack.

    Raises:
        WagiError: The address cannot be used.
    """
    address = settings.admin_listen
    assert address is not None
    if _overlap(address, settings.listen):
        problem = f"--admin-listen {address}: expected another address than that of --listen"
        raise ConfigurationError(Problem(f"{problem}: probes and metrics are not for the public"))
    state = AdminState(CELLS_PER_WORKER * settings.worker_count)
    (listener,) = stack.enter_context(listeners.listen(address, 1, "--admin-listen"))
    return AdminProcess(AdminServer(listener, state, settings.memory_budget_size, _versions()))


def _overlap(one: HostPort | UnixPath, other: HostPort | UnixPath) -> bool:
    """Whether two addresses cannot both be listened on."""
    if isinstance(one, HostPort) and isinstance(other, HostPort):
        is_everywhere = bool({one.host, other.host} & {"", "0.0.0.0", "[::]"})
        return (
            bool(one.port) and one.port == other.port and (is_everywhere or one.host == other.host)
        )
    return one == other


def _versions() -> dict[str, str]:
    return {
        "version": __version__,
        "wasmtime": compatibility.installed_version(),
        "python": platform.python_version(),
        "core": core.DESCRIPTION,
    }


def _inherited_socket(settings: Settings) -> socket.socket | None:
    """The listening socket that systemd has passed, if any.

    Raises:
        ConfigurationError: It cannot be used, or an address is given as well.
    """
    inherited = activated_socket()
    if inherited is not None and "listen" in settings.model_fields_set:
        raise ConfigurationError(
            Problem(
                "socket activation: expected either a socket of systemd or an address, found both:"
                " remove --listen, --port, WAGI_LISTEN and PORT, or the .socket unit"
            )
        )
    return inherited


def _prepare_process() -> None:
    """Open the standard descriptors, and raise the limit of open files as far as allowed."""
    for descriptor in range(
        3
    ):  # else a socket gets the number of a closed one, and what is printed
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # some systems reject "unlimited"
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def _log_dir(settings: Settings, file: Path | None) -> Iterator[Path | None]:
    if settings.log_dir == "none":
        yield None
        return
    if settings.log_dir is not None:
        try:
            settings.log_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WagiError(f"--log-dir {settings.log_dir}: {error.strerror}") from None
        yield settings.log_dir
        return
    path = new_folder(temporary_name(str(file.resolve()) if file else str(settings.bindle)))
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.rmdir()  # only if empty: keep what handlers wrote


def _check_event_loop(settings: Settings) -> None:
    if settings.loop == "uvloop" and find_spec("uvloop") is None:
        raise WagiError("--loop uvloop: it is not installed: pip install uvloop")


def _event_loop(settings: Settings) -> asyncio.Runner:
    if settings.loop == "asyncio" or find_spec("uvloop") is None:
        return asyncio.Runner()
    import uvloop  # type: ignore[import-not-found, unused-ignore]

    return asyncio.Runner(loop_factory=uvloop.new_event_loop)
