"""Show a line of a text file, with a marker below a part of it, as cargo does. Pure."""

from __future__ import annotations

import re
import unicodedata

_MIN_WIDTH = 30  # columns
_TAB = "    "
_CUT = "…"
_SECRET = re.compile(r"(?<=://)[^/@?#\s\"']*(?=@)|(?<=\?)[^#\s\"']+")
"""The user of a URL, and its query, which may have a token."""


def excerpt(source: str, line: int, column: int, width: int, columns: int) -> str:
    """Show a line, without the secrets of its URLs.

    Args:
        source: The text of the line, which may hold control characters.
        line: Its number.
        column: The first marked character, from 1; 0 for no marker.
        width: The number of marked characters; 0 for all that follow.
        columns: Columns of the terminal.

    Returns:
        The line with its number, and a line with the marker.
    """
    source = source.rstrip()
    if "://" in source:
        source = _SECRET.sub(lambda found: "*" * len(found[0]), source)
    margin = f"{line} | "
    start = max(0, column - 1)
    end = min(start + width, len(source)) if width else len(source)
    room = max(_MIN_WIDTH, columns - len(margin))
    shown, before, marked = _clip(source, start, end, room)
    lines = [margin + shown]
    if column:
        lines.append(f"{' ' * (len(margin) - 2)}| {' ' * before}{'^' * max(1, marked)}")
    return "\n".join(lines)


def _clip(line: str, start: int, end: int, room: int) -> tuple[str, int, int]:
    """Cut a line so that it fits, with the mistake in sight.

    Returns:
        What to show, the columns before the mistake, and those of the mistake.
    """
    skipped = max(0, start - room)  # a line may be as long as the file
    line = line[skipped : start + 2 * room]
    start, end = start - skipped, end - skipped
    cells = [_cell(letter) for letter in line]
    widths = [sum(map(_columns, cell)) for cell in cells]
    first, last = 0, len(cells)
    while sum(widths[first:last]) > room - 2 * len(_CUT):
        # Half of the room is for what follows the beginning of the mistake.
        if first < start and sum(widths[first:start]) > room // 2:
            first += 1
        elif last > start + 1:
            last -= 1
        else:
            break
    prefix = _CUT if first or skipped else ""
    suffix = _CUT if last < len(cells) else ""
    before = len(prefix) + sum(widths[first:start])
    marked = sum(widths[start : min(end, last)])
    return f"{prefix}{''.join(cells[first:last])}{suffix}", before, marked


def _cell(letter: str) -> str:
    """Return what is shown for a character: nothing that controls a terminal."""
    if letter == "\t":
        return _TAB
    if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        code = ord(letter)
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    return letter


def _columns(letter: str) -> int:
    """Return how many columns of a terminal a character takes."""
    if unicodedata.combining(letter) or unicodedata.category(letter) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in ("W", "F") else 1
