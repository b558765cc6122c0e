"""Escape text from clients and guests for logs and terminals."""

from __future__ import annotations

import re

_UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def one_line(text: str) -> str:
    """Escape line ends and control characters."""
    return _UNSAFE.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def paragraph(text: str) -> str:
    """Escape text of several lines, and indent those after the first.

    Indentation prevents a name in a module that contains a line end from forging a log record.
    """
    return "\n    ".join(one_line(line) for line in text.rstrip().split("\n"))
