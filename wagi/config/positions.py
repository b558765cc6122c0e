"""Where the keys of a TOML document are: the parser that gives values forgets their lines.

A mistake in a value is reported with the line of its key. This scanner knows just enough of TOML
to find keys: table headers, and keys at the start of a statement. It runs on documents that tomli
has accepted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

Position = tuple[str | int, ...]

_KEY_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_KEY = re.compile(rf"\s*({_KEY_PART}(?:\s*\.\s*{_KEY_PART})*)\s*")
_PART = re.compile(_KEY_PART)


class Positions:
    """Answers: on which line (1-based) is the value at this path of keys and indices?"""

    def __init__(self, text: str) -> None:
        self._lines = {(): 1, **dict(_scan(text))}

    def line(self, path: Position) -> int:
        """The line of the key at ``path``, or of its nearest ancestor that has one."""
        while path not in self._lines:
            path = path[:-1]
        return self._lines[path]


def _scan(text: str) -> Iterator[tuple[Position, int]]:
    table: Position = ()
    counts: dict[Position, int] = {}
    for line, statement in _statements(text):
        if statement.startswith("[["):
            name = _parts(statement[2:])
            index = counts.get(name, 0)
            counts[name] = index + 1
            if index == 0:
                yield name, line
            table = (*name, index)
            yield table, line
        elif statement.startswith("["):
            table = _parts(statement[1:])
            yield table, line
        else:
            yield (*table, *_parts(statement)), line


def _parts(text: str) -> Position:
    match = _KEY.match(text)
    if not match:
        return ()
    return tuple(part.strip("\"'") for part in _PART.findall(match[1]))


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each statement with the line it starts on: a value may go on over several lines."""
    depth, delimiter, start = 0, "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if depth == 0 and not delimiter:
            start = number
            if line.strip() and not line.lstrip().startswith("#"):
                yield start, line.strip()
        depth, delimiter = _end_of_line(line, depth, delimiter)


_TOKEN = re.compile(r"\"\"\"|'''|\"(?:[^\"\\]|\\.)*\"|'[^']*'|#|[\[\]{}]|\\.", re.ASCII)


def _end_of_line(line: str, depth: int, delimiter: str) -> tuple[int, str]:
    """How deep in brackets, and in which multi-line string, the next line begins."""
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
