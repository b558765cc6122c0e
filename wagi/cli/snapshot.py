"""``wagi snapshot``: initialise a module once, at build time."""

from __future__ import annotations

from pathlib import Path

import click

from wagi.errors import ConfigurationError, Problem, WagiError
from wagi.guest import snapshot as snapshots


@click.command(
    short_help="Initialise a module once, for all requests.",
    help="""Initialise MODULE once and keep what comes of it as a new module.

    Language runtimes work before they look at a request. In a reactor that work is in
    `_initialize`: it is run here, with nothing of the host, and the new module begins where it
    ends. Every request still gets an instance of its own. Name the function that handles requests
    as `entrypoint` in modules.toml.

    What the initialisation takes for random or for the time is the same in every instance then.

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
    help="The export that initialises; the new module does not have it.",
)
def snapshot(module: Path, output: Path, initialize: str) -> None:
    """Make a snapshot."""
    try:
        content = module.read_bytes()
    except OSError as error:
        raise ConfigurationError(Problem(f"cannot be read: {error.strerror}", module)) from None
    try:
        made = snapshots.snapshot(content, initialize)
    except snapshots.SnapshotError as error:
        raise ConfigurationError(Problem(str(error), module)) from None
    try:
        output.write_bytes(made)
    except OSError as error:
        raise WagiError(f"{output}: cannot be written: {error.strerror}") from None
    click.echo(f"{output}: {len(made):,} bytes, initialised by {initialize}")
