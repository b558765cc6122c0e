"""YAML documents with the lines of their nodes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from wagi.config.text import read_text
from wagi.config.validation import KeyPath
from wagi.errors import ConfigurationError, Problem
from wagi.routemap.lines import Item, LineMap, Span

_LINE_END = re.compile("\r\n|[\r\n\x85\u2028\u2029]")  # as in YAML 1.1


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML document.

    Attributes:
        value: The parsed document.
        lines: The lines of its keys and items.
    """

    value: Any
    lines: LineMap


def read_documents(path: Path) -> list[Document]:
    """Read all documents of a YAML file, except for empty ones.

    Raises:
        ConfigurationError: The file cannot be read, or is not valid YAML.
    """
    text = read_text(path)
    lines = _LINE_END.split(text)
    try:
        return list(_documents(text, lines))
    except yaml.MarkedYAMLError as error:
        problem = Problem(f"not valid YAML: {error.problem}", path)
        if (mark := error.problem_mark) is not None:
            source = (lines[mark.line :] or [""])[0]
            column = mark.column + 1
            problem = replace(problem, line=mark.line + 1, column=column, source=source)
        raise ConfigurationError(problem) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(Problem(f"not valid YAML: {error}", path)) from None


def _documents(text: str, lines: list[str]) -> Iterator[Document]:
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # check_node found one
            value = loader.construct_document(node)
            if value is not None:
                yield Document(
                    value,
                    LineMap(
                        {(): Item(_span(node), _span(node)), **dict(_items(node, (), set()))}, lines
                    ),
                )
    finally:
        loader.dispose()


def _items(node: yaml.Node, path: KeyPath, seen: set[int]) -> Iterator[tuple[KeyPath, Item]]:
    """Find the places of the children of a node."""
    if id(node) in seen:  # an alias: without this check, nested aliases would take forever
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, str(key.value))
            yield inner, Item(_span(key), _span(value))
            yield from _items(value, inner, seen)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*path, index), Item(_span(item), _span(item))
            yield from _items(item, (*path, index), seen)


def _span(node: yaml.Node) -> Span:
    start, end = node.start_mark, node.end_mark
    width = end.column - start.column if end.line == start.line else 0
    return Span(start.line + 1, start.column + 1, width, end.line + 1)
