"""``wagi compile``: fill the cache of compiled modules ahead of time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from wagi.cli.announcement import count
from wagi.cli.check import load
from wagi.cli.options import manifest_argument, manifest_path, server_options, settings_from
from wagi.guest.artefacts import default_folder


@click.command(
    "compile",
    short_help="Compile ahead of time.",
    help="""Compile the modules that MODULES_TOML names, so that `wagi serve` starts at once.

    For images: compile while the image is built, as the user who will serve, or as root into a
    folder that only root can write. Compiled modules are for this version of wagi and wasmtime and
    for this kind of processor; on any other one they are compiled again.

    \b
    Examples:
      wagi compile
      wagi compile --artefact-cache /var/cache/wagi modules.toml
    """,
)
@manifest_argument
@server_options
def compile_(file: Path | None, config: Path | None, **options: Any) -> None:
    """Compile the modules of a modules.toml."""
    settings = settings_from(options)
    path = manifest_path(file, config, settings)
    started = time.perf_counter()
    plan = load(settings, path)
    modules = len({route.blueprint.key for route in plan.routes})
    where = settings.artefact_cache or default_folder()
    seconds = time.perf_counter() - started
    what = f"{count(plan)}, {modules} compiled modules in {where}, {seconds:.2f} s"
    click.echo(f"{path or settings.bindle}: {what}")
