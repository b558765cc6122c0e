"""YAML documents with the lines of their nodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from wagi.config.text import read_text
from wagi.config.validation import KeyPath
from wagi.errors import ConfigurationError, Problem
from wagi.routemap.lines import LineMap


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
    try:
        return list(_documents(read_text(path)))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise ConfigurationError(Problem(f"not valid YAML: {error.problem}", path, line)) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(Problem(f"not valid YAML: {error}", path)) from None


def _documents(text: str) -> Iterator[Document]:
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # check_node found one
            value = loader.construct_document(node)
            if value is not None:
                yield Document(value, LineMap(dict(_lines(node, (), set()))))
    finally:
        loader.dispose()


def _lines(node: yaml.Node, path: KeyPath, seen: set[int]) -> Iterator[tuple[KeyPath, int]]:
    yield path, node.start_mark.line + 1
    if id(node) in seen:  # an alias: without this check, nested aliases would take forever
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, str(key.value)), key.start_mark.line + 1
            for inner, line in _lines(value, (*path, str(key.value)), seen):
                if len(inner) > len(path) + 1:
                    yield inner, line
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _lines(item, (*path, index), seen)
