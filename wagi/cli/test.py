"""``wagi test``: replay recorded requests and compare the responses."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click

from wagi.cli.console import print_error, show_progress
from wagi.cli.options import (
    LOCAL,
    SettingsCommand,
    manifest_path,
    map_option,
    setting_options,
    settings_from,
)
from wagi.errors import ConfigurationError, Problem, WagiError
from wagi.observe.text import one_line
from wagi.testing.cases import CaseFile, differences, find_cases
from wagi.testing.junit import Result, junit_report
from wagi.testing.local_gateway import Answer, LocalGateway, NoResponseError, local_gateway
from wagi.testing.rewrite import RewriteError, rewrite_case

_COLORS = {"-": "red", "+": "green"}


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
      wagi test -n hello cases/           cases with hello in their name
      wagi test -n 'form-*' cases/        cases whose whole name matches
      wagi test --update cases/           expect the current responses
      wagi test --junit report.xml cases/
    """,
)
@click.argument("cases", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CASES…")
@click.option(
    "-n",
    "--name",
    "names",
    multiple=True,
    metavar="NAME",
    help="Only cases with NAME in their file name, without .toml; a NAME with *, ? or [] is a"
    " pattern for the whole file name. May be repeated.",
)
@click.option(
    "--update",
    is_flag=True,
    help="Replace the values that failing cases expect by those of the response.",
)
@click.option(
    "--junit",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a report in the XML format of JUnit.",
)
@map_option
@setting_options(*LOCAL)
def test(
    cases: tuple[Path, ...],
    names: tuple[str, ...],
    update: bool,
    junit: Path | None,
    config: Path | None,
    **options: Any,
) -> None:
    """Replay cases."""
    settings = settings_from(options)
    selected = _select(find_cases(cases), names)
    with local_gateway(settings, manifest_path(None, config, settings), show_progress) as gateway:
        for warning in gateway.warnings:
            print_error("warning", warning)
        outcomes = [_replay(gateway, item, update) for item in selected]
    if junit is not None:
        _write(junit, junit_report([result for result, _ in outcomes]))
    failed = sum(bool(result.differences) for result, _ in outcomes)
    updated = sum(is_updated for _, is_updated in outcomes)
    passed = len(outcomes) - failed - updated
    click.echo(f"{passed} passed, {f'{updated} updated, ' if update else ''}{failed} failed")
    sys.exit(1 if failed else 0)


def _select(cases: Sequence[CaseFile], names: Sequence[str]) -> list[CaseFile]:
    """The cases with one of these names.

    Raises:
        ConfigurationError: A name selects no case.
    """
    if unused := [
        name for name in names if not any(_is_named(case.path.stem, name) for case in cases)
    ]:
        known = ", ".join(sorted({case.path.stem for case in cases}))
        raise ConfigurationError(
            Problem(f"--name {name}: no case has this name: there are {known}") for name in unused
        )
    return [
        case
        for case in cases
        if not names or any(_is_named(case.path.stem, name) for name in names)
    ]


def _is_named(stem: str, name: str) -> bool:
    return fnmatchcase(stem, name) if set(name) & set("*?[") else name in stem


def _replay(gateway: LocalGateway, item: CaseFile, update: bool) -> tuple[Result, bool]:
    """Send the request of a case, and print how the response differs.

    Returns:
        The result, and whether the case was updated.
    """
    request = item.case.request
    started = time.perf_counter()
    answer: Answer | None = None
    try:
        answer = gateway.ask(request.method, request.target, request.headers, request.content)
        lines = list(differences(item.case.response, answer))
    except (ValueError, NoResponseError) as error:
        lines = [str(error)]
    seconds = time.perf_counter() - started
    guest = answer.exchange.guest if answer else None
    stderr = bytes(guest.stderr) if guest else b""
    if not lines:
        return Result(item.path, seconds, stderr=stderr), False
    if update and answer is not None:
        try:
            rewrite_case(item, answer)
            _print(f"UPDATED {item.path}", lines)
            return Result(item.path, seconds, stderr=stderr), True
        except RewriteError as error:
            lines.append(f"not updated: {error}")
    _print(f"FAILED {item.path}", lines)
    return Result(item.path, seconds, lines, stderr), False


def _print(title: str, lines: Sequence[str]) -> None:
    """Print a diff, with a legend."""
    click.echo(one_line(title))
    legend = ("--- expected", "+++ received") if any(line[:1] in _COLORS for line in lines) else ()
    for line in (*legend, *lines):
        click.secho(f"  {one_line(line)}", fg=_COLORS.get(line[:1]))


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise WagiError(f"--junit {path}: {error.strerror}") from None
