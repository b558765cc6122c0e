"""``wagi serve``: load, listen, say so, serve."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from wagi.cli.options import manifest_argument, manifest_path, server_options, settings_from
from wagi.config.env_files import configured_variables
from wagi.config.settings import DEFAULT_HOST, Settings
from wagi.config.values import HostPort
from wagi.errors import WagiError
from wagi.gateway import Gateway
from wagi.guest.engine import Runtime
from wagi.intake import Intake
from wagi.loading import Loaded, load
from wagi.observe.access_log import AccessLog
from wagi.observe.module_log import ModuleLogs
from wagi.observe.server_log import server_log
from wagi.server import listening
from wagi.server.http import HttpLimits
from wagi.server.worker import Worker
from wagi.trust import TrustedProxies

_LAST_LINES = 1.0  # seconds for what handlers wrote last


@click.command(
    help="""Serve the handlers that MODULES_TOML maps to routes (default: ./modules.toml).

    MODULES_TOML may also be a module (.wasm, .wat): it then answers every path.

    \b
    Examples:
      wagi serve
      wagi serve hello.wasm
      wagi serve --listen :8080 --log-dir /var/log/wagi modules.toml
      wagi serve --listen unix:/run/wagi.sock --trusted-proxy unix modules.toml
      wagi serve --tls-cert cert.pem --tls-key key.pem -e GREETING=hi modules.toml
    """
)
@manifest_argument
@server_options
def serve(file: Path | None, config: Path | None, **options: Any) -> None:
    """Serve a modules.toml."""
    settings = settings_from(options)
    path = manifest_path(file, config)
    _prepare_process()
    started = time.perf_counter()
    with (
        server_log() as log,
        _log_dir(settings) as log_dir,
        _module_logs(settings, log_dir) as logs,
    ):
        tls = listening.tls_context(settings.tls_cert, settings.tls_key)
        runtime = Runtime(settings.cache, settings.max_concurrency)
        loaded = load(path, configured_variables(settings), logs, runtime)
        seconds = time.perf_counter() - started
        with (
            listening.listen(settings.listen) as socket,
            contextlib.closing(AccessLog(settings.access_log, sys.stdout)) as access_log,
            _event_loop(settings) as runner,
        ):

            def announce() -> None:
                url = listening.url(socket, tls is not None)
                log.say(_announcement(url, loaded, seconds, log_dir))

            async def run() -> None:
                await _worker(settings, loaded, access_log).run(socket, tls, announce)

            # What loading has made stays: the collector need not look at it again and again.
            gc.collect()
            gc.freeze()
            runner.run(run())


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


def _worker(settings: Settings, loaded: Loaded, access_log: AccessLog) -> Worker:
    named = HostPort.parse(loaded.default_host or DEFAULT_HOST)
    gateway = Gateway(
        loaded.table,
        settings.hostname or named,
        TrustedProxies(settings.trusted_proxy),
        Intake(settings.spool_limit, settings.spool_total, settings.min_body_rate),
        settings.max_concurrency,
        access_log,
    )
    http_limits = HttpLimits(
        request_line=settings.max_request_line,
        header=settings.max_request_header,
        header_timeout=settings.header_timeout,
        keep_alive=settings.keep_alive,
        connections=settings.max_connections,
    )
    return Worker(gateway, http_limits, settings.shutdown_timeout)


@contextlib.contextmanager
def _module_logs(settings: Settings, folder: Path) -> Iterator[ModuleLogs]:
    logs = ModuleLogs(folder, settings.log_size)
    try:
        yield logs
    finally:
        logs.close(_LAST_LINES)


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


def _event_loop(settings: Settings) -> asyncio.Runner:
    if settings.loop == "asyncio":
        return asyncio.Runner()
    try:
        import uvloop  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        if settings.loop == "uvloop":
            raise WagiError("--loop uvloop: it is not installed: pip install uvloop") from None
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


def _announcement(url: str, loaded: Loaded, seconds: float, log_dir: Path) -> str:
    lines = [f"warning: {warning}" for warning in loaded.warnings]
    rows = [(pattern.text, route.handler.name) for pattern, route in loaded.table]
    if sys.stderr is not None and sys.stderr.isatty():
        return "\n".join([*lines, _for_person(url, rows, seconds, log_dir)])
    lines += [f"route {route} -> {module}" for route, module in rows]
    lines += [f"loaded {len(rows)} routes in {seconds:.2f} s, logs in {log_dir}"]
    return "\n".join([*lines, f"listening on {url}"])


def _for_person(url: str, rows: list[tuple[str, str]], seconds: float, log_dir: Path) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=True, header_style="bold")
    table.add_column("Route", overflow="fold")
    table.add_column("Module", overflow="fold")
    for route, module in rows:
        table.add_row(Text(route), Text(module))
    console = Console(stderr=True, highlight=False)
    with console.capture() as capture:
        console.print(table)
        console.print(f"Loaded {len(rows)} routes in {seconds:.2f} s.", style="dim")
        console.print(Text(f"Handlers' stderr is kept in {log_dir}", style="dim"))
        console.print(Text.assemble("Listening on ", (url, "bold green"), "  (Ctrl-C stops)"))
    return capture.get().rstrip("\n")
