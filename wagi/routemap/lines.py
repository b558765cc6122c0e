"""Positions of the keys and values of a document: parsers that produce values do not keep them."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli

from wagi.config.validation import KeyPath
from wagi.errors import ConfigurationError, Problem
from wagi.routemap.location import Location

_MAX_SOURCE = 10_000  # characters of a line that is shown
_KEY_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_KEY = re.compile(rf"{_KEY_PART}(?:[ \t]*\.[ \t]*{_KEY_PART})*")
_PART = re.compile(_KEY_PART)
_BLANK = re.compile(r"[ \t]*")
_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_HEADER = re.compile(rf"(\[\[?)[ \t]*({_KEY.pattern})[ \t]*\]\]?")
_STRING = re.compile(
    r'''"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*\'''', re.DOTALL
)
_BARE = re.compile(r"[^,\]}#\r\n]+")


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a text.

    Attributes:
        line: Its first line, from 1.
        column: Its first character in that line, from 1; 0 if only the line is known.
        width: The number of its characters in that line; 0 for all that follow.
        last_line: Its last line; 0 if it ends in its first one.
    """

    line: int
    column: int = 0
    width: int = 1
    last_line: int = 0


@dataclass(frozen=True, slots=True)
class Item:
    """The place of a value, of a table, or of an element of an array.

    Attributes:
        key: The key, or the header of a table; the value itself for an element of an array.
        value: The value; equal to ``key`` for a table with a header.
    """

    key: Span
    value: Span


class LineMap:
    """The positions of a document by the paths of its keys.

    Args:
        items: The values with their places.
        lines: The text of each line.
    """

    def __init__(self, items: Mapping[KeyPath, Item], lines: Sequence[str]) -> None:
        self._items = items
        self._lines = lines

    def line(self, path: KeyPath) -> int:
        """The line of a key, or of its nearest ancestor that has one; else the first line."""
        found = self._find(path)
        return 1 if found is None else found.key.line

    def span(self, path: KeyPath, of_key: bool = False) -> Span:
        """The place of a value, or of the key of its nearest ancestor that has one.

        Args:
            path: The path of the value.
            of_key: Whether to return the place of its key, as for a value that begins in another
                line than its key.
        """
        found = self._find(path)
        if found is None:
            return Span(1)
        shows_value = path in self._items and not of_key and found.value.line == found.key.line
        return found.value if shows_value else found.key

    def problem(
        self, message: str, file: Path, path: KeyPath, of_key: bool = False, name: str = ""
    ) -> Problem:
        """Report a problem with a value, or with its key; see ``span`` and ``location``."""
        return self._location(file, self.span(path, of_key), name).problem(message)

    def location(self, file: Path | None, path: KeyPath, name: str = "") -> Location:
        """The location of a value; ``name`` is what else messages name."""
        return self._location(file, self.span(path), name)

    def _location(self, file: Path | None, span: Span, name: str) -> Location:
        source = self._lines[span.line - 1] if span.column else ""
        source = source if len(source) <= _MAX_SOURCE else ""
        place = (span.column, span.width, source)
        return Location(file, span.line, name, 2, *place)

    def _find(self, path: KeyPath) -> Item | None:
        while path and path not in self._items:
            path = path[:-1]
        return self._items.get(path)


def parse_toml(text: str, file: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        ConfigurationError: It is not valid TOML.
    """
    # tomli reads universal line ends and rejects the bare CR at which str.splitlines would split.
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        message = f"not valid TOML: {error.msg} (column {error.colno})"
        source = (text.split("\n")[error.lineno - 1 :] or [""])[0][:_MAX_SOURCE]
        problem = Problem(message, file, error.lineno, column=error.colno, source=source)
    except RecursionError:
        problem = Problem("not valid TOML: it is nested too deeply", file)
    raise ConfigurationError(problem)


def toml_lines(text: str) -> LineMap:
    """Find the keys and values of a TOML document.

    Args:
        text: A document that tomli has accepted. Of another one, only a part may be found.
    """
    return LineMap(_TomlScanner(text).scan(), text.split("\n"))


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


def toml_statements(text: str) -> Iterator[Statement]:
    """Find the lines of the keys and tables of a TOML document, except in inline tables."""
    scanner = _TomlScanner(text)
    items = scanner.scan()
    for path in scanner.statements:
        item = items[path]
        yield Statement(path, item.key.line, item.value.last_line or item.value.line)


class _NotToml(Exception):
    """The scanner does not understand the text, although tomli did."""


class _TomlScanner:
    """Finds where keys and values are. It skips the checks of a parser.

    Attributes:
        statements: The paths of the tables with headers, and of keys outside of inline tables.
    """

    def __init__(self, text: str) -> None:
        self.statements: list[KeyPath] = []
        self._text = text
        self._at = 0
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]  # of lines
        self._items: dict[KeyPath, Item] = {}
        self._counts: dict[KeyPath, int] = {}  # of the elements of arrays of tables

    def scan(self) -> dict[KeyPath, Item]:
        """Return the items by their paths."""
        table: KeyPath = ()
        try:
            self._skip(_SPACE)
            while self._at < len(self._text):
                if self._text[self._at] == "[":
                    table = self._header()
                    self.statements.append(table)
                else:
                    self.statements.append(self._pair(table))
                self._skip(_SPACE)
        except (_NotToml, RecursionError):
            pass
        return self._items

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str]:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise _NotToml
        self._at = found.end()
        return found

    def _skip(self, pattern: re.Pattern[str]) -> None:
        self._match(pattern)

    def _next_is(self, letter: str) -> bool:
        return self._text.startswith(letter, self._at)

    def _expect(self, letter: str) -> None:
        if not self._next_is(letter):
            raise _NotToml
        self._at += 1

    def _span(self, start: int, end: int) -> Span:
        line = bisect_right(self._starts, start)
        first = self._text[start:end].partition("\n")[0].rstrip()
        last = bisect_right(self._starts, max(start, end - 1))
        return Span(line, start - self._starts[line - 1] + 1, max(1, len(first)), last)

    def _header(self) -> KeyPath:
        """Read ``[table]`` or ``[[table]]``, and return the path of the table."""
        found = self._match(_HEADER)
        *parents, name = _parts(found[2])
        span = self._span(found.start(), found.end())
        path: KeyPath = ()
        for part in parents:
            path = (*path, part)
            self._items.setdefault(path, Item(span, span))
            if path in self._counts:  # a table in the last element of an array
                path = (*path, self._counts[path] - 1)
        path = (*path, name)
        self._items.setdefault(path, Item(span, span))
        if found[1] == "[[":
            index = self._counts.get(path, 0)
            self._counts[path] = index + 1
            path = (*path, index)
            self._items[path] = Item(span, span)
        elif path in self._counts:
            path = (*path, self._counts[path] - 1)
        return path

    def _pair(self, table: KeyPath) -> KeyPath:
        """Read ``key = value``, and return the path of the key."""
        found = self._match(_KEY)
        key = self._span(found.start(), found.end())
        path = (*table, *_parts(found[0]))
        self._skip(_BLANK)
        self._expect("=")
        self._skip(_BLANK)
        for end in range(len(table) + 1, len(path)):  # the tables of a dotted key
            self._items.setdefault(path[:end], Item(key, key))
        self._items[path] = Item(key, self._value(path))
        return path

    def _value(self, path: KeyPath) -> Span:
        start = self._at
        if self._next_is("["):
            self._array(path)
        elif self._next_is("{"):
            self._inline_table(path)
        else:
            self._skip(_STRING if self._text[start : start + 1] in ('"', "'") else _BARE)
        return self._span(start, self._at)

    def _array(self, path: KeyPath) -> None:
        self._expect("[")
        for index in range(len(self._text)):
            self._skip(_SPACE)
            if self._next_is("]"):
                break
            value = self._value((*path, index))
            self._items[(*path, index)] = Item(value, value)
            self._skip(_SPACE)
            if not self._next_is(","):
                break
            self._expect(",")
        self._expect("]")

    def _inline_table(self, path: KeyPath) -> None:
        self._expect("{")
        while True:
            self._skip(_SPACE)
            if self._next_is("}"):
                break
            self._pair(path)
            self._skip(_SPACE)
            if not self._next_is(","):
                break
            self._expect(",")
        self._expect("}")


def _parts(text: str) -> KeyPath:
    return tuple(_unquote(part) for part in _PART.findall(text))


def _unquote(part: str) -> str:
    if part.startswith("'"):
        return part[1:-1]
    if part.startswith('"'):
        return _ESCAPE.sub(_unescape, part[1:-1])
    return part


_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))")
_ESCAPED = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}


def _unescape(match: re.Match[str]) -> str:
    code = match[1] or match[2]
    return chr(int(code, 16)) if code else _ESCAPED.get(match[3], match[3])
