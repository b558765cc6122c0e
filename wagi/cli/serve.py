"""``wagi serve``: load the modules and serve them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from wagi.cli.console import show_progress
from wagi.cli.options import (
    SettingsCommand,
    manifest_argument,
    manifest_path,
    server_options,
    settings_from,
)
from wagi.cli.startup import log_startup, startup_message
from wagi.dev.mode import dev_mode, reload_on_change
from wagi.gateway.route import Plan
from wagi.observe.server_log import ServerLog
from wagi.server import service


@click.command(
    cls=SettingsCommand,
    short_help="Serve handlers.",
    help="""Serve the handlers that MODULES_TOML maps to routes (default: ./modules.toml).

    MODULES_TOML may also be a spin.toml of Spin's WAGI executor, a pod manifest, a module
    (.wasm, .wat), which is then mapped to every path, or a directory with a modules.toml or
    spin.toml.
    SIGHUP reloads everything without dropping a request.

    \b
    Examples:
      wagi serve
      wagi serve hello.wasm
      wagi serve --listen :8080 --log-dir /var/log/wagi modules.toml
      wagi serve --listen unix:/run/wagi.sock --trusted-proxy unix modules.toml
      wagi serve --tls-cert cert.pem --tls-key key.pem -e GREETING=hi modules.toml
    """,
)
@manifest_argument
@server_options
def serve(file: Path | None, config: Path | None, **options: Any) -> None:
    """Serve a modules.toml."""
    settings = settings_from(options)
    path = manifest_path(file, config, settings)

    def announce(log: ServerLog, url: str, plan: Plan, log_dir: Path | None) -> None:
        if settings.log_format == "json":
            log_startup(url, plan, log_dir)
        else:
            log.print(startup_message(url, plan, log_dir))

    develop, watch = dev_mode(settings, path), reload_on_change(settings, path)
    sys.exit(service.serve(settings, path, announce, show_progress, develop, watch))
