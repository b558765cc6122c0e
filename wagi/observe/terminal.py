"""What a stream can show."""

from __future__ import annotations

import os
from typing import TextIO


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream, None if it is closed, is a terminal."""
    return stream is not None and stream.isatty()


def supports_color(stream: TextIO | None) -> bool:
    """Whether a stream may get colors (https://no-color.org)."""
    is_disabled = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return is_terminal(stream) and not is_disabled
