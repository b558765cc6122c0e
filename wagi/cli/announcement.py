"""What ``wagi serve`` says when it is ready: lines for programs, a table for people."""

from __future__ import annotations

import sys
from pathlib import Path

from wagi.gateway.route import Plan
from wagi.observe.text import paragraph


def announcement(url: str, plan: Plan, seconds: float, log_dir: Path) -> str:
    """The text. Parameters: ``seconds`` that the start took."""
    lines = [f"warning: {paragraph(str(warning))}" for warning in plan.warnings]
    if sys.stderr is not None and sys.stderr.isatty():
        return "\n".join([*lines, _for_person(url, plan, seconds, log_dir)])
    lines += [f"route {route.pattern.text} -> {route.spec.name}" for route in plan.routes]
    lines += [f"loaded {count(plan)} in {seconds:.2f} s, logs in {log_dir}"]
    return "\n".join([*lines, f"listening on {url}"])


def count(plan: Plan) -> str:
    """How many routes there are, in words."""
    return f"{len(plan.routes)} route{'' if len(plan.routes) == 1 else 's'}"


def _for_person(url: str, plan: Plan, seconds: float, log_dir: Path) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=True, header_style="bold")
    table.add_column("Route", overflow="fold")
    table.add_column("Module", overflow="fold")
    for route in plan.routes:
        table.add_row(Text(route.pattern.text), Text(route.spec.name))
    console = Console(stderr=True, highlight=False)
    with console.capture() as capture:
        console.print(table)
        console.print(f"Loaded {count(plan)} in {seconds:.2f} s.", style="dim")
        console.print(Text(f"Handlers' stderr is kept in {log_dir}", style="dim"))
        console.print(Text.assemble("Listening on ", (url, "bold green"), "  (Ctrl-C stops)"))
    return capture.get().rstrip("\n")
