"""Output of commands on stderr: errors and warnings, and progress on a terminal."""

from __future__ import annotations

import os
import sys
import time

import click

from wagi.observe.text import paragraph

COLOR = False if os.environ.get("NO_COLOR") else None
"""Whether click uses colors: never with NO_COLOR (https://no-color.org), else on terminals."""
_MIN_INTERVAL_S = 0.1  # between two updates of the progress line
_shown_at = -_MIN_INTERVAL_S


def print_error(kind: str, problem: object) -> None:
    """Print a problem, with control characters escaped.

    Args:
        kind: ``error`` or ``warning``.
        problem: The message, which may contain text from a module or a server.
    """
    label = click.style(f"{kind}:", fg="red" if kind == "error" else "yellow", bold=True)
    click.echo(f"{label} {paragraph(str(problem))}", err=True, color=COLOR)


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
