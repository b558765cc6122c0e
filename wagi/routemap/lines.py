"""Lines of the keys of a document: the parsers that produce values do not keep them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from wagi.config.validation import KeyPath

_KEY_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_KEY = re.compile(rf"\s*({_KEY_PART}(?:\s*\.\s*{_KEY_PART})*)\s*")
_PART = re.compile(_KEY_PART)


class LineMap:
    """The lines of a document by the paths of its keys.

    Args:
        lines: The lines, counted from 1.
    """

    def __init__(self, lines: Mapping[KeyPath, int]) -> None:
        self._lines = {(): 1, **lines}

    def line(self, path: KeyPath) -> int:
        """The line of a key, or of its nearest ancestor that has one."""
        while path not in self._lines:
            path = path[:-1]
        return self._lines[path]


@dataclass(frozen=True, slots=True)
class Statement:
    """A key with its value, or the header of a table.

    Attributes:
        path: The key or the table.
        first: Its first line, counted from 1.
        last: Its last line, which is another one if the value spans several lines.
    """

    path: KeyPath
    first: int
    last: int


def toml_lines(text: str) -> LineMap:
    """Find the lines of the keys of a TOML document; see ``toml_statements``."""
    return LineMap({item.path: item.first for item in toml_statements(text)})


def toml_statements(text: str) -> Iterator[Statement]:
    """Find the keys of a TOML document.

    The scanner knows just enough of TOML for that: table headers, and keys at the start of a
    statement. A key in an inline table has the place of that table.

    Args:
        text: A document that tomli has accepted.
    """
    table: KeyPath = ()
    counts: dict[KeyPath, int] = {}
    for first, last, statement in _statements(text):
        if statement.startswith("[["):
            name = _parts(statement[2:])
            index = counts.get(name, 0)
            counts[name] = index + 1
            if index == 0:
                yield Statement(name, first, last)
            table = (*name, index)
            yield Statement(table, first, last)
        elif statement.startswith("["):
            table = _parts(statement[1:])
            yield Statement(table, first, last)
        else:
            yield Statement((*table, *_parts(statement)), first, last)


def _parts(text: str) -> KeyPath:
    match = _KEY.match(text)
    if not match:
        return ()
    return tuple(part.strip("\"'") for part in _PART.findall(match[1]))


def _statements(text: str) -> Iterator[tuple[int, int, str]]:
    """The first and the last line of each statement, and the text of the first one."""
    depth, delimiter, start, head = 0, "", 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        if depth == 0 and not delimiter:
            start, head = number, line.strip()
        depth, delimiter = _end_of_line(line, depth, delimiter)
        if depth == 0 and not delimiter and head and not head.startswith("#"):
            yield start, number, head


_TOKEN = re.compile(r"\"\"\"|'''|\"(?:[^\"\\]|\\.)*\"|'[^']*'|#|[\[\]{}]|\\.", re.ASCII)


def _end_of_line(line: str, depth: int, delimiter: str) -> tuple[int, str]:
    """The depth of brackets, and the open multi-line string, at the start of the next line."""
    at = 0
    while at < len(line):
        if delimiter:
            end = line.find(delimiter, at)
            if end < 0:
                return depth, delimiter
            at, delimiter = end + 3, ""
            continue
        match = _TOKEN.search(line, at)
        if not match or match[0] == "#":
            break
        at = match.end()
        if match[0] in ('"""', "'''"):
            delimiter = match[0]
        elif match[0] in "[{":
            depth += 1
        elif match[0] in "]}":
            depth -= 1
    return depth, delimiter
