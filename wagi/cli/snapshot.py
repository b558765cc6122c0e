"""``wagi snapshot``: initialize a module at build time."""

from __future__ import annotations

from pathlib import Path

import click

from wagi.errors import ConfigurationError, Problem, WagiError
from wagi.guest import snapshot as snapshots


@click.command(
    short_help="Initialize a module at build time.",
    help="""Initialize MODULE and save its state as a new module.

    Language runtimes do work before they handle a request. In a reactor, this work is done by
    `_initialize`. The command runs it without access to the host, and saves the resulting memory
    and globals as the initial state of a new module. Each request still gets a separate instance.
    In modules.toml, set `entrypoint` to the function that handles requests.

    Random numbers and times that are read during initialization are the same in every instance.

    \b
    Examples:
      GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o handler.wasm .
      wagi snapshot handler.wasm -o handler.snapshot.wasm
    """,
)
@click.argument("module", type=click.Path(path_type=Path), metavar="MODULE")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE")
@click.option(
    "--initialize",
    default="_initialize",
    metavar="NAME",
    show_default=True,
    help="Exported function to run; it is removed from the new module.",
)
def snapshot(module: Path, output: Path, initialize: str) -> None:
    """Create a snapshot."""
    try:
        content = module.read_bytes()
    except OSError as error:
        raise ConfigurationError(Problem(f"cannot be read: {error.strerror}", module)) from None
    try:
        new_module = snapshots.snapshot(content, initialize)
    except snapshots.SnapshotError as error:
        raise ConfigurationError(Problem(str(error), module)) from None
    try:
        output.write_bytes(new_module)
    except OSError as error:
        raise WagiError(f"{output}: cannot be written: {error.strerror}") from None
    click.echo(f"{output}: {len(new_module):,} bytes, initialized by {initialize}")
