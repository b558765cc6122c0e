"""``wagi version``: print the versions that matter for a bug report."""

from __future__ import annotations

import click

from wagi.cli import version_text


@click.command(
    name="version",
    short_help="Show the versions of wagi, wasmtime and Python.",
    help="""Show the versions of wagi, wasmtime and Python, and whether the core is compiled.

    \b
    Examples:
      wagi version
    """,
)
def show_version() -> None:
    """Print the versions."""
    click.echo(version_text())
