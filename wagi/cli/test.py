"""``wagi test``: replay recorded requests and compare the responses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from wagi.cli.console import print_error, show_progress
from wagi.cli.options import LOCAL, SettingsCommand, map_option, setting_options, settings_from
from wagi.observe.text import one_line
from wagi.testing.cases import differences, find_cases
from wagi.testing.local_gateway import NoResponseError, local_gateway


@click.command(
    cls=SettingsCommand,
    short_help="Replay recorded requests and compare the responses.",
    help="""Replay recorded requests (CASES: files or directories) and compare the responses.

    Exits with 1 if a response differs from the recorded one. To record a case, use
    `wagi call --record FILE`.

    \b
    Examples:
      wagi test cases/
      wagi test -c deploy/modules.toml cases/hello.toml
    """,
)
@click.argument("cases", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CASES…")
@map_option
@setting_options(*LOCAL)
def test(cases: tuple[Path, ...], config: Path, **options: Any) -> None:
    """Replay cases."""
    settings = settings_from(options)
    found = find_cases(cases)
    failed = 0
    with local_gateway(settings, config, show_progress) as gateway:
        for warning in gateway.warnings:
            print_error("warning", warning)
        for item in found:
            request = item.case.request
            try:
                answer = gateway.ask(
                    request.method, request.target, request.headers, request.content
                )
                lines = list(differences(item.case.response, answer))
            except (ValueError, NoResponseError) as error:
                lines = [str(error)]
            if lines:
                failed += 1
                click.echo(f"FAILED {item.path}")
                click.echo("\n".join(f"  {one_line(line)}" for line in lines))
    click.echo(f"{len(found) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
