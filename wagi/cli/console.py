"""Output of commands on stderr: errors and warnings, and progress on a terminal."""

from __future__ import annotations

import os
import sys
import time
from shutil import get_terminal_size

import click

from wagi.errors import Problem
from wagi.observe.terminal import supports_color
from wagi.observe.text import paragraph

COLOR = False if os.environ.get("NO_COLOR") else None
"""Whether click uses colors: never with NO_COLOR (https://no-color.org), else on terminals."""
_MIN_INTERVAL_S = 0.1  # between two updates of the progress line
_shown_at = -_MIN_INTERVAL_S


def print_error(kind: str, problem: object) -> None:
    """Print a problem, with control characters escaped.

    Args:
        kind: ``error`` or ``warning``.
        problem: The message, which may contain text from a module or a server; with the line of
            the file if it is a ``Problem`` with a place.
    """
    click.echo(format_error(kind, problem), err=True, color=COLOR)


def uses_color() -> bool:
    """Whether stderr is a terminal that may get colors."""
    return supports_color(sys.stderr)


def format_error(kind: str, problem: object) -> str:
    """Format a problem as ``print_error`` prints it, with colors."""
    color = "red" if kind == "error" else "yellow"
    text = f"{click.style(f'{kind}:', fg=color, bold=True)} {paragraph(str(problem))}"
    if not isinstance(problem, Problem):
        return text
    source, _, marker = problem.excerpt(get_terminal_size().columns).partition("\n")
    lines = [text, source, click.style(marker, fg=color) if marker else ""]
    return "\n".join(filter(None, lines))


def show_progress(text: str) -> None:
    """Replace the progress line, or clear it if ``text`` is empty. Only on a terminal."""
    global _shown_at
    if sys.stderr is None or not sys.stderr.isatty():
        return
    now = time.monotonic()
    if text and now - _shown_at < _MIN_INTERVAL_S:
        return
    _shown_at = now if text else -_MIN_INTERVAL_S
    sys.stderr.write(f"\r\x1b[K{text}")
    sys.stderr.flush()
