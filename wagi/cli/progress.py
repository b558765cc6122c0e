"""How far compiling has come, on a terminal."""

from __future__ import annotations

import sys
import time

_EVERY = 0.1  # seconds between two lines
_shown_at = -_EVERY


def show_progress(done: int, total: int) -> None:
    """Write over the last line; in a pipe say nothing. For a process that compiles once."""
    global _shown_at
    if sys.stderr is None or not sys.stderr.isatty():
        return
    now = time.monotonic()
    if done < total and now - _shown_at < _EVERY:
        return
    _shown_at = now
    end = "\r\x1b[K" if done == total else ""
    sys.stderr.write(f"\r\x1b[KCompiling modules: {done} of {total}{end}")
    sys.stderr.flush()
