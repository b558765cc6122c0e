"""``wagi pull``: download a module to a file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from wagi import assembly
from wagi.cli.console import print_error, show_progress
from wagi.cli.options import SOURCES, SettingsCommand, setting_options, settings_from
from wagi.config.settings import Settings
from wagi.errors import WagiError
from wagi.sources.module_request import FetchedModule, ModuleRequest
from wagi.sources.modules import fetch_modules
from wagi.sources.references import file_name, parse_reference
from wagi.storage import write_atomically


@click.command(
    cls=SettingsCommand,
    short_help="Download a module.",
    help="""Download the module at REFERENCE (oci:, bindle: or https:) to a file.

    Prints the immutable reference of the module, by its digest.

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
    help="Output file; NAME.wasm in the current directory by default, - for stdout.",
)
@click.option(
    "--sha256", default="", metavar="HEX", help="Expected SHA-256; required for https: references."
)
@setting_options(*SOURCES)
def pull(reference: str, output: Path | None, sha256: str, **options: Any) -> None:
    """Download a module."""
    fetched = fetch_one(reference, sha256, settings_from(options))
    if output == Path("-"):
        sys.stdout.buffer.write(fetched.content)
        return
    path = output or Path(file_name(parse_reference(reference)))
    try:
        write_atomically(path, fetched.content, 0o666 & ~_umask())
    except OSError as error:
        raise WagiError(f"{path}: {error.strerror}") from None
    click.echo(fetched.resolved)
    click.echo(f"{len(fetched.content)} bytes in {path}", err=True)


def fetch_one(reference: str, sha256: str, settings: Settings) -> FetchedModule:
    """Fetch a module for a command that does not serve. Warnings go to stderr.

    Raises:
        WagiError: The module cannot be fetched.
    """
    with assembly.stores(settings) as kept:
        request = ModuleRequest(reference, Path(), sha256)
        (fetched,) = fetch_modules(
            [request], kept.modules, assembly.fetch_options(settings), show_progress
        )
    if isinstance(fetched, WagiError):
        raise fetched
    for warning in fetched.warnings:
        print_error("warning", warning)
    return fetched


def _umask() -> int:
    value = os.umask(0o077)
    os.umask(value)
    return value
