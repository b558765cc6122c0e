"""``wagi check``: validate a route map and its modules without serving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from wagi import assembly
from wagi.cli.console import print_error, show_progress
from wagi.cli.options import (
    SettingsCommand,
    manifest_argument,
    manifest_path,
    server_options,
    settings_from,
)
from wagi.cli.startup import format_route_count
from wagi.config.settings import Settings
from wagi.gateway.route import Plan
from wagi.guest.targets import Target
from wagi.server.tls import read_certificate
from wagi.storage import temporary_folder


@click.command(
    cls=SettingsCommand,
    short_help="Validate a modules.toml without serving.",
    help="""Load and compile all modules in MODULES_TOML, and report every problem.

    Exits with 0 if `wagi serve` would start, otherwise with 2.

    \b
    Examples:
      wagi check
      wagi check deploy/modules.toml
    """,
)
@manifest_argument
@server_options
def check(file: Path | None, config: Path | None, **options: Any) -> None:
    """Check a modules.toml."""
    settings = settings_from(options)
    path = manifest_path(file, config, settings)
    read_certificate(settings.tls_cert, settings.tls_key)
    plan, _ = load(settings, path)
    click.echo(f"{path or settings.bindle}: {format_route_count(plan)}, no problems")


def load(
    settings: Settings,
    path: Path | None,
    target: Target = Target.NATIVE,
    makes_snapshots: bool = True,
) -> tuple[Plan, Path]:
    """Load and compile modules for a command that does not serve. Warnings go to stderr.

    Args:
        settings: As of ``wagi.assembly.load``, which raises the errors.
        path: The route map; None for the bindle of the settings.
        target: What modules are compiled for.
        makes_snapshots: Whether snapshots that are not cached are made.

    Returns:
        The plan, and the directory of the compiled modules.
    """
    with (
        temporary_folder("logs") as log_dir,
        assembly.stores(settings) as kept,
    ):
        plan = assembly.load(settings, path, kept, log_dir, show_progress, target, makes_snapshots)
    for warning in plan.warnings:
        print_error("warning", warning)
    return plan, kept.artefacts.name
