"""``wagi doctor``: report which toolchains are installed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from wagi.builds.build import builds_of
from wagi.cli.options import manifest_path, map_option
from wagi.cli.toolchains import OTHER_TOOLS, TOOLCHAINS, Finding, Tool, languages_of
from wagi.config.settings import Settings
from wagi.observe.text import one_line
from wagi.routemap.reader import read_route_map
from wagi.templates import LANGUAGES


@click.command(
    short_help="Report which toolchains are installed.",
    help="""Report which tools for building handlers are installed, their versions, whether they are
    new enough, and how to get what is missing.

    The languages are those given, or those of the project in this directory, or with --all or
    without a project, all that `wagi new` offers. The exit status is 1 if a tool is missing or too
    old for one of the given languages or of the project; otherwise, if no language can be built.

    \b
    Examples:
      wagi doctor
      wagi doctor rust go
      wagi doctor --all --json
    """,
)
@click.argument("languages", nargs=-1, type=click.Choice(list(TOOLCHAINS)), metavar="[LANGUAGE]...")
@map_option
@click.option(
    "--all", "show_all", is_flag=True, help="Report all languages, not only the project's."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(languages: tuple[str, ...], config: Path | None, show_all: bool, as_json: bool) -> None:
    """Report toolchains."""
    needed = list(languages)
    if not languages and not show_all:
        needed = _project_languages(config)
    checked = {name: _check(TOOLCHAINS[name]) for name in needed or TOOLCHAINS}
    others = _check(OTHER_TOOLS)
    if as_json:
        report = {name: _as_json(rows) for name, rows in checked.items()}
        click.echo(json.dumps({"languages": report, "other": _as_json(others)}, indent=2))
    else:
        for name, rows in checked.items():
            _print(LANGUAGES[name].title, rows)
        _print("Optional", others)
    usable = [all(not found.problem for _, found in rows) for rows in checked.values()]
    is_healthy = all(usable) if needed else any(usable)
    sys.exit(0 if is_healthy else 1)


def _project_languages(config: Path | None) -> list[str]:
    """The languages of the builds of the route map, if there is one, in the order of the report."""
    path = manifest_path(None, config, Settings())
    assert path is not None  # there is no bindle
    if config is None and not path.is_file():
        return []
    found = {name for build in builds_of(read_route_map(path)) for name in languages_of(build)}
    return [name for name in TOOLCHAINS if name in found]


def _check(tools: Sequence[Tool]) -> list[tuple[Tool, Finding]]:
    return [(tool, found) for tool in tools if (found := tool.find()) is not None]


def _print(title: str, rows: Sequence[tuple[Tool, Finding]]) -> None:
    click.secho(title, bold=True)
    for tool, found in rows:
        if found.problem:
            mark = click.style("NO", fg="red")
            text = f"{tool.name}: {found.problem}: {tool.install}"
        else:
            mark = click.style("ok", fg="green")
            text = f"{tool.name} {found.version}".rstrip() + f"  {found.where}"
        click.echo(f"  {mark}  {one_line(text)}")


def _as_json(rows: Sequence[tuple[Tool, Finding]]) -> list[dict[str, Any]]:
    return [
        {
            "tool": tool.name,
            "ok": not found.problem,
            "version": found.version,
            "path": found.where,
            "problem": found.problem,
            "install": tool.install if found.problem else "",
        }
        for tool, found in rows
    ]
