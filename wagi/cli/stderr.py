"""What a command says on stderr: what is wrong, and on a terminal how far loading has come."""

from __future__ import annotations

import os
import sys
import time

import click

from wagi.observe.text import paragraph

COLOR = False if os.environ.get("NO_COLOR") else None
"""Whether click colors: never with NO_COLOR (https://no-color.org), else on terminals."""
_EVERY = 0.1  # seconds between two lines
_shown_at = -_EVERY


def complain(kind: str, problem: object) -> None:
    """Tell of a problem, whose text may come from a module or a server.

    Parameters: ``kind`` error or warning.
    """
    label = click.style(f"{kind}:", fg="red" if kind == "error" else "yellow", bold=True)
    click.echo(f"{label} {paragraph(str(problem))}", err=True, color=COLOR)


def show_progress(text: str) -> None:
    """Write over the last line, or clear it; in a pipe say nothing. For a process that loads."""
    global _shown_at
    if sys.stderr is None or not sys.stderr.isatty():
        return
    now = time.monotonic()
    if text and now - _shown_at < _EVERY:
        return
    _shown_at = now if text else -_EVERY
    sys.stderr.write(f"\r\x1b[K{text}")
    sys.stderr.flush()
