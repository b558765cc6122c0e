"""The service: what its supervisor, its loader and its workers do, made from the settings."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from wagi.config.settings import Settings
from wagi.errors import WagiError
from wagi.gateway.concurrency import ConcurrencyLimits
from wagi.gateway.route import Plan
from wagi.guest.budget import CELLS_PER_WORKER
from wagi.observe.access_log import AccessLog
from wagi.observe.exchange import Exchange
from wagi.observe.module_log import ModuleLogs
from wagi.observe.server_log import ServerLog, server_log
from wagi.server import listening
from wagi.server.development import Development, develop
from wagi.server.setup import Stores, http_options, load, make_gateway, memory_budget, stores
from wagi.server.supervisor import Post, Supervisor
from wagi.server.tls import read_certificate, tls_context
from wagi.server.worker import Worker
from wagi.sources.modules import Report
from wagi.storage import new_folder

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
        read_certificate(settings.tls_cert, settings.tls_key)  # a mistake ends even --watch

        def listen(plan: Plan) -> Sequence[socket.socket]:
            where = settings.listen
            if plan.listen and "listen" not in settings.model_fields_set:
                where = plan.listen
            return stack.enter_context(listening.listen(where, settings.worker_count))

        development = develop(settings, file, log_dir, stack)

        def ready(plan: Plan, listening_socket: socket.socket) -> None:
            if development and development.page:
                log.print(f"dev page on {development.page}")
            announce(log, listening.url(listening_socket, bool(plan.certificate)), plan, log_dir)

        supervisor = Supervisor(
            load=lambda: _load_apart(settings, file, kept, log_dir, report),
            listen=listen,
            find=kept.artefacts.find,
            work=lambda post: _work(settings, post, log_dir, development),
            announce=ready,
            budget=memory_budget(settings),
            limits=ConcurrencyLimits(CELLS_PER_WORKER * settings.worker_count),
            trouble=development.leave if development else None,
        )
        # What is here stays: the collector of a worker need not look at it, nor copy its pages.
        gc.collect()
        gc.freeze()
        return supervisor.run()


def _load_apart(
    settings: Settings, file: Path | None, kept: Stores, log_dir: Path, report: Report
) -> Plan:
    """Load, in a process of its own: what ``_routes`` writes to stderr is logged from there."""
    with server_log():
        certificate = read_certificate(settings.tls_cert, settings.tls_key)
        return replace(load(settings, file, kept, log_dir, report), certificate=certificate)


def _work(
    settings: Settings,
    post: Post,
    log_dir: Path,
    development: Development | None,
) -> int:
    """A worker's whole life. Returns: its exit status."""
    tls = tls_context(post.plan.certificate) if post.plan.certificate else None
    with (
        server_log(),
        contextlib.closing(ModuleLogs(log_dir, settings.log_size)) as logs,
        contextlib.closing(AccessLog(settings.access_log, sys.stdout)) as access_log,
    ):
        try:
            record: Callable[[Exchange], None] = access_log
            if development and development.teller:
                record = development.record_with(access_log)
                url = listening.url(post.listening, tls is not None)
                development.teller.tell_routes(post.plan, url)
            gateway = make_gateway(
                settings,
                post.plan,
                post.artefacts,
                logs,
                post.account,
                post.limits,
                record,
                records_guests=record is not access_log,
                notice=development.notice if development else None,
            )
        except WagiError as error:
            _log.error("%s", error)
            return error.exit_status
        worker = Worker(gateway, http_options(settings), settings.shutdown_timeout)
        gc.collect()
        gc.freeze()
        with _event_loop(settings) as runner:
            runner.run(worker.run(post.listening, tls, post.ready, post.lifeline))
    return 0


def _prepare_process() -> None:
    """Be ready for as many connections as the system allows, whatever is open."""
    for descriptor in range(3):  # a closed one's number would go to a socket, and what is printed
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
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
    path = new_folder("logs")
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
