"""``wagi check``: everything that serving would find, without serving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from wagi.cli.announcement import count
from wagi.cli.options import manifest_argument, manifest_path, server_options, settings_from
from wagi.cli.stderr import complain, show_progress
from wagi.config.settings import Settings
from wagi.gateway.route import Plan
from wagi.guest.targets import Target
from wagi.server import setup
from wagi.server.tls import read_certificate
from wagi.storage import temporary_folder


@click.command(
    short_help="Load everything, report every problem, serve nothing.",
    help="""Load and compile everything that MODULES_TOML names, and report every problem.

    Exits with 0 if `wagi serve` would start, with 2 if not.

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
    plan = load(settings, path)
    click.echo(f"{path or settings.bindle}: {count(plan)}, no problems")


def load(settings: Settings, path: Path | None, target: Target = Target.NATIVE) -> Plan:
    """Load and compile for a command that does not serve; warnings go to stderr.

    Args:
        settings: As of ``wagi.server.setup.load``, which raises the errors.
        path: The route map; None for the bindle of the settings.
        target: What modules are compiled for.
    """
    with (
        temporary_folder("logs") as log_dir,
        setup.stores(settings) as kept,
    ):
        plan = setup.load(settings, path, kept, log_dir, show_progress, target)
    for warning in plan.warnings:
        complain("warning", warning)
    return plan
