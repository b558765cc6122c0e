"""``wagi push``: push modules to an OCI registry."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from wagi import assembly
from wagi.cli.console import show_progress
from wagi.cli.options import SettingsCommand, setting_options, settings_from
from wagi.config.values import parse_pair
from wagi.errors import ConfigurationError, Problem
from wagi.guest.binary import MalformedModuleError, check_sections
from wagi.sources.publish import publish


@click.command(
    cls=SettingsCommand,
    short_help="Push modules to an OCI registry.",
    help="""Push modules (FILE…) to an OCI registry, and print the reference by digest.

    Credentials come from Docker's configuration: log in with `docker login`, `oras login` or
    `az acr login`.

    \b
    Examples:
      wagi push hello.wasm oci://registry.example/hello:1.0
      wagi push --layout cncf hello.wasm oci://registry.example/hello:1.0
      wagi push --annotation org.opencontainers.image.source=https://git.example/hello \\
          hello.wasm oci://localhost:5000/hello:1.0
    """,
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE…")
@click.argument("target", metavar="oci://REGISTRY/NAME:TAG")
@click.option(
    "--layout",
    type=click.Choice(["wasm-to-oci", "cncf"]),
    default="wasm-to-oci",
    show_default=True,
    help="Layout of the image: wasm-to-oci for Wagi and Krustlet, cncf for wkg, Spin and runwasi.",
)
@click.option(
    "--annotation",
    "annotations",
    multiple=True,
    metavar="KEY=VALUE",
    help="Annotation to add to the manifest.",
)
@setting_options("insecure_registry", "registry_config")
def push(
    files: tuple[Path, ...], target: str, layout: Any, annotations: tuple[str, ...], **options: Any
) -> None:
    """Push modules to a registry."""
    settings = settings_from(options)
    try:
        pairs = dict(map(parse_pair, annotations))
    except ValueError as error:
        raise ConfigurationError(Problem(f"--annotation: {error}")) from None
    modules = [(path.name, _read(path)) for path in files]
    fetch_options = assembly.fetch_options(settings)
    click.echo(
        publish(target, modules, layout, pairs, _created(files), fetch_options, show_progress)
    )


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        check_sections(content)
    except OSError as error:
        raise ConfigurationError(Problem(f"{path}: {error.strerror}")) from None
    except MalformedModuleError as error:
        raise ConfigurationError(Problem(f"{path}: {error}")) from None
    return content


def _created(files: tuple[Path, ...]) -> datetime:
    """The time of creation: not the current time, so that digests are reproducible."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    seconds = int(epoch) if epoch.isdigit() else max(path.stat().st_mtime for path in files)
    return datetime.fromtimestamp(seconds, UTC)
