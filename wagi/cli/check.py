"""``wagi check``: everything that serving would find, without serving."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from wagi.cli.options import manifest_argument, manifest_path, server_options, settings_from
from wagi.config.env_files import configured_variables
from wagi.guest.engine import Runtime
from wagi.loading import load
from wagi.observe.module_log import ModuleLogs
from wagi.server.listening import tls_context

_LAST_LINES = 1.0  # seconds for what ``_routes`` printed


@click.command(
    help="""Load and compile everything that MODULES_TOML names, and report every problem.

    Exits with 0 if `wagi serve` would start, with 2 if not.

    \b
    Examples:
      wagi check
      wagi check deploy/modules.toml
    """
)
@manifest_argument
@server_options
def check(file: Path | None, config: Path | None, **options: Any) -> None:
    """Check a modules.toml."""
    settings = settings_from(options)
    path = manifest_path(file, config)
    with tempfile.TemporaryDirectory(prefix="wagi-check-") as log_dir:
        tls_context(settings.tls_cert, settings.tls_key)
        logs = ModuleLogs(Path(log_dir), settings.log_size)
        runtime = Runtime(settings.cache, settings.max_concurrency)
        loaded = load(path, configured_variables(settings), logs, runtime)
        logs.close(_LAST_LINES)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    count = sum(1 for _ in loaded.table)
    click.echo(f"{path}: {count} route{'' if count == 1 else 's'}, no problems")
