"""``wagi compile``: fill the cache of compiled modules ahead of time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from wagi.cli.announcement import count
from wagi.cli.check import load
from wagi.cli.options import manifest_argument, manifest_path, server_options, settings_from
from wagi.errors import WagiError
from wagi.guest.artefacts import default_folder
from wagi.guest.targets import Target, this_processor


@click.command(
    "compile",
    short_help="Compile ahead of time.",
    help="""Compile the modules that MODULES_TOML names, so that `wagi serve` starts at once.

    For images: compile while the image is built, as the user who will serve, or as root into a
    folder that only root can write. The code is for this version of wagi and wasmtime, and unless
    --target says otherwise for processors with the features of this one. Anywhere else `wagi serve`
    compiles the modules again.

    \b
    Examples:
      wagi compile
      wagi compile --artefact-cache /var/cache/wagi modules.toml
      wagi compile --target x86-64-v2 modules.toml      for an image that runs elsewhere
    """,
)
@manifest_argument
@click.option(
    "--target",
    type=click.Choice([target.value for target in Target]),
    default=Target.NATIVE.value,
    help="The processors to compile for: those with the features of this one (native, the default),"
    " or all x86-64 processors of a level.",
)
@server_options
def compile_(file: Path | None, config: Path | None, target: str, **options: Any) -> None:
    """Compile the modules of a modules.toml."""
    settings = settings_from(options)
    path = manifest_path(file, config, settings)
    wanted = Target(target)
    try:
        this_processor().check(wanted)
    except WagiError as error:
        raise click.UsageError(f"--target {error}") from None
    started = time.perf_counter()
    plan = load(settings, path, wanted)
    modules = len({route.spec.key for route in plan.routes})
    where = settings.artefact_cache or default_folder()
    seconds = time.perf_counter() - started
    code = "" if wanted is Target.NATIVE else f" for {wanted}"
    what = f"{count(plan)}, {modules} compiled modules{code} in {where}, {seconds:.2f} s"
    click.echo(f"{path or settings.bindle}: {what}")
