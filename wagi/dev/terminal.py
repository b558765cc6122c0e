"""Text that a program wrote for a terminal, such as the messages of a compiler. Pure."""

from __future__ import annotations

import re

# ECMA-48: control sequences (colors, cursor), strings (titles, links), two-character sequences.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_].*?(?:\x07|\x1b\\|\Z)|\x1b[ -/]*[0-~]?", re.DOTALL
)
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def plain_text(output: bytes) -> str:
    """Return output as plain text: without escape sequences, with the final state of each line.

    Programs overwrite a line by a carriage return, to show their progress.
    """
    text = _ESCAPES.sub("", output.decode(errors="replace"))
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return "\n".join(_CONTROL_CHARACTERS.sub("\ufffd", line) for line in lines)
