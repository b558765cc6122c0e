"""The message that ``wagi serve`` prints when it is ready."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from wagi.cli.console import format_error, uses_color
from wagi.gateway.route import Plan

if TYPE_CHECKING:
    from rich.text import Text

_log = logging.getLogger("wagi")


def startup_message(url: str, plan: Plan, log_dir: Path | None) -> str:
    """Format the message: a table for a terminal, plain lines for a pipe or a file.

    Args:
        url: The address of the server.
        plan: The routes that were loaded.
        log_dir: The directory of the module logs; None if there are none.
    """
    lines = [format_error("warning", warning) for warning in plan.warnings]
    if not uses_color():
        lines = list(map(click.unstyle, lines))
    if sys.stderr is not None and sys.stderr.isatty():
        return "\n".join([*lines, _format_table(url, plan, log_dir)])
    lines += [f"route {route.pattern.text} -> {route.name}" for route in plan.routes]
    logs = f", logs in {log_dir}" if log_dir else ""
    lines += [f"loaded {format_route_count(plan)} in {plan.load_seconds:.2f} s{logs}"]
    return "\n".join([*lines, f"listening on {url}"])


def log_startup(url: str, plan: Plan, log_dir: Path | None) -> None:
    """Log the message as records, for ``--log-format json``. The arguments are the same."""
    for warning in plan.warnings:
        _log.warning("%s", warning)
    for route in plan.routes:
        fields = {"route": route.pattern.text, "module": route.name}
        _log.info("route %s -> %s", *fields.values(), extra={"fields": fields})
    logs = f", logs in {log_dir}" if log_dir else ""
    _log.info("loaded %s in %.2f s%s", format_route_count(plan), plan.load_seconds, logs)
    _log.info("listening on %s", url, extra={"fields": {"url": url}})


def format_route_count(plan: Plan) -> str:
    """Format the number of routes, such as ``2 routes``."""
    return f"{len(plan.routes)} route{'' if len(plan.routes) == 1 else 's'}"


def _format_table(url: str, plan: Plan, log_dir: Path | None) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=True, header_style="bold")
    table.add_column("Route", overflow="fold")
    table.add_column("Module", overflow="fold")
    for route in plan.routes:
        table.add_row(_link(url, route.pattern.text), Text(route.name))
    console = Console(stderr=True, highlight=False)
    with console.capture() as capture:
        console.print(table)
        seconds = f"{plan.load_seconds:.2f} s"
        console.print(f"Loaded {format_route_count(plan)} in {seconds}.", style="dim")
        if log_dir:
            console.print(Text(f"Handlers log to {log_dir}", style="dim"))
        console.print(
            Text.assemble("Listening on ", (url, "bold green"), "  (press Ctrl-C to stop)")
        )
    return capture.get().rstrip("\n")


def _link(url: str, route: str) -> Text:
    """The URL of a route, as a link where the terminal supports it; the route on a Unix socket."""
    from rich.text import Text

    if url.startswith("unix:"):
        return Text(route)
    return Text(url + route, style=f"link {url}{quote(route.removesuffix('...'))}")
