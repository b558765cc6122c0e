"""How far loading has come, on a terminal."""

from __future__ import annotations

import sys
import time

_EVERY = 0.1  # seconds between two lines
_shown_at = -_EVERY


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
