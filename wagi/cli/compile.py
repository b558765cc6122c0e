"""``wagi compile``: fill the cache of compiled modules ahead of time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from wagi.cli.check import load
from wagi.cli.options import (
    SettingsCommand,
    manifest_argument,
    manifest_path,
    server_options,
    settings_from,
)
from wagi.cli.startup import format_route_count
from wagi.errors import WagiError
from wagi.guest.artefacts import default_folder
from wagi.guest.targets import Target, this_processor


@click.command(
    "compile",
    cls=SettingsCommand,
    short_help="Compile ahead of time.",
    help="""Compile the modules in MODULES_TOML ahead of time, so that `wagi serve` starts fast.

    For container images, compile during the build: either as the user that will serve, or as root
    into a directory that only root can write to. The code is specific to this version of wagi and
    wasmtime and, unless --target is given, to processors with the features of this one. Anywhere
    else `wagi serve` compiles the modules again.

    \b
    Examples:
      wagi compile
      wagi compile --artefact-cache /var/cache/wagi modules.toml
      wagi compile --target x86-64-v2 modules.toml      for an image that runs on other machines
    """,
)
@manifest_argument
@click.option(
    "--target",
    "target_name",
    type=click.Choice([target.value for target in Target]),
    default=Target.NATIVE.value,
    show_default=True,
    help="Processors to compile for: those with the features of this one (native), or all x86-64"
    " processors of a level.",
)
@server_options
def compile_(file: Path | None, config: Path | None, target_name: str, **options: Any) -> None:
    """Compile the modules of a modules.toml."""
    settings = settings_from(options)
    path = manifest_path(file, config, settings)
    target = Target(target_name)
    try:
        this_processor().check(target)
    except WagiError as error:
        raise click.UsageError(f"--target {error}") from None
    started = time.perf_counter()
    if settings.artefact_cache is None:
        default_folder()  # raises an error without a home: code in a temporary folder is of no use
    plan, where = load(settings, path, target)
    modules = len({route.spec.key for route in plan.handlers})
    seconds = time.perf_counter() - started
    code = "" if target is Target.NATIVE else f" for {target}"
    what = (
        f"{format_route_count(plan)}, {modules} compiled modules{code} in {where}, {seconds:.2f} s"
    )
    click.echo(f"{path or settings.bindle}: {what}")
