"""``wagi routes``: list the routes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from wagi.cli.check import load
from wagi.cli.options import (
    SettingsCommand,
    manifest_argument,
    manifest_path,
    server_options,
    settings_from,
)
from wagi.gateway.route import Plan, PlannedRoute, PlannedStatic
from wagi.observe.text import one_line


@click.command(
    cls=SettingsCommand,
    short_help="List the routes in matching order.",
    help="""List the routes in matching order, including those declared by `_routes`.

    \b
    Examples:
      wagi routes
      wagi routes --json deploy/modules.toml
    """,
)
@manifest_argument
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@server_options
def routes(file: Path | None, config: Path | None, as_json: bool, **options: Any) -> None:
    """List routes."""
    settings = settings_from(options)
    plan, _ = load(settings, manifest_path(file, config, settings), makes_snapshots=False)
    if as_json:
        click.echo(json.dumps([route.describe() for route in plan.routes], indent=2))
    elif sys.stdout.isatty():
        _print_table(plan)
    else:
        for cells in map(_cells, plan.routes):
            click.echo("\t".join(map(one_line, cells)))


def _print_table(plan: Plan) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    sources = [_source(route) for route in plan.routes]
    titles = ["Route", "Module", "Entrypoint", "Timeout", "Memory", "Concurrency"]
    for title in [*titles, "Source"] if any(sources) else titles:
        table.add_column(title, overflow="fold")
    for route, source in zip(plan.routes, sources, strict=True):
        cells = [*_cells(route), *_limits(route)]
        cells += [source] if any(sources) else []
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    Console().print(table)


def _cells(route: PlannedRoute | PlannedStatic) -> list[str]:
    return [route.pattern.text, route.name, route.entrypoint]


def _limits(route: PlannedRoute | PlannedStatic) -> list[str]:
    if isinstance(route, PlannedStatic):
        return ["", "", ""]
    limits = route.limits
    return [
        "none" if limits.timeout is None else f"{limits.timeout:g} s",
        f"{limits.memory_limit / 1024**2:g} MiB",
        str(limits.max_concurrency or "any"),
    ]


def _source(route: PlannedRoute | PlannedStatic) -> str:
    """Describe the origin of a route, unless it is obvious from its entry."""
    if isinstance(route, PlannedStatic):
        return ""
    found = "" if Path(route.source).exists() else route.source
    return f"{found} (from _routes)".strip() if route.is_dynamic else found
