"""Text from clients and guests, made fit for a log: one line, no terminal tricks."""

from __future__ import annotations

import re

_UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def one_line(text: str) -> str:
    """Escape what could end the line or move the terminal's cursor."""
    return _UNSAFE.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def paragraph(text: str) -> str:
    """The same for text of several lines: those after the first are indented.

    A name out of a module that has a line end in it cannot pass for a record of its own.
    """
    return "\n    ".join(one_line(line) for line in text.rstrip().split("\n"))
