"""``wagi pull``: fetch a module into a file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from wagi.cli.options import SOURCES, setting_options, settings_from
from wagi.cli.stderr import complain, show_progress
from wagi.config.settings import Settings
from wagi.errors import WagiError
from wagi.server import setup
from wagi.sources.modules import Fetched, Wanted, fetch_all
from wagi.sources.references import file_name, parse_reference
from wagi.storage import write_whole


@click.command(
    short_help="Fetch a module.",
    help="""Fetch the module that a reference (oci:, bindle:, https:) leads to, into a file.

    Prints the reference that will always lead to the same module.

    \b
    Examples:
      wagi pull oci://registry.example/hello:1.0
      wagi pull -o hello.wasm oci://registry.example/hello@sha256:…
    """,
)
@click.argument("reference", metavar="REFERENCE")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where to write it: NAME.wasm in this folder unless given; - is stdout.",
)
@click.option("--sha256", default="", metavar="HEX", help="What it must be; needed for https:.")
@setting_options(*SOURCES)
def pull(reference: str, output: Path | None, sha256: str, **options: Any) -> None:
    """Fetch a module."""
    fetched = fetch_one(reference, sha256, settings_from(options))
    if output == Path("-"):
        sys.stdout.buffer.write(fetched.content)
        return
    path = output or Path(file_name(parse_reference(reference)))
    try:
        write_whole(path, fetched.content, 0o666 & ~_umask())
    except OSError as error:
        raise WagiError(f"{path}: {error.strerror}") from None
    click.echo(fetched.resolved)
    click.echo(f"{len(fetched.content)} bytes in {path}", err=True)


def fetch_one(reference: str, sha256: str, settings: Settings) -> Fetched:
    """Fetch a module for a command that does not serve; warnings go to stderr.

    Raises: WagiError.
    """
    with setup.stores(settings) as kept:
        wanted = Wanted(reference, Path(), sha256)
        (fetched,) = fetch_all([wanted], kept.modules, setup.fetch_rules(settings), show_progress)
    if isinstance(fetched, WagiError):
        raise fetched
    if fetched.warning:
        complain("warning", fetched.warning)
    return fetched


def _umask() -> int:
    value = os.umask(0o077)
    os.umask(value)
    return value
