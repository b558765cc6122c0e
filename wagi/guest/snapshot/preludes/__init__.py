"""Preludes: what interpreters run to prepare a script before there is a request."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

from wagi.guest.snapshot.errors import SnapshotError
from wagi.guest.snapshot.program import Directory, Program

PYTHON = "python"
_VALUE_OPTIONS = ("-W", "-X")
"""Options of Python whose value may be a word of its own."""
_ISOLATING_OPTIONS = frozenset("IP")
"""Options of Python with which the folder of the script is not searched for modules."""


@dataclass(frozen=True, slots=True)
class WarmUp:
    """A request that a script answers before the snapshot is made.

    Attributes:
        variables: Its CGI variables.
        body: Its body.
    """

    variables: Mapping[str, str]
    body: str = ""


@dataclass(frozen=True, slots=True)
class _CommandLine:
    """The command line of an interpreter.

    Attributes:
        interpreter: The first word.
        options: The options of the interpreter.
        script: The path of the script.
    """

    interpreter: str
    options: tuple[str, ...]
    script: str


def prelude_of(words: Sequence[str]) -> str:
    """The prelude for a command line, by the name of the interpreter; empty for others."""
    name = words[0].rpartition("/")[2].removesuffix(".wasm") if words else ""
    return PYTHON if name.rstrip("0123456789.") == PYTHON else ""


@cache
def prelude_text(prelude: str) -> str:
    """The source text of a prelude."""
    return (files(__name__) / f"{prelude}.py.txt").read_text(encoding="utf-8")


def script_of(words: Sequence[str]) -> str:
    """The script in the command line of an interpreter.

    Raises:
        SnapshotError: The command line has no script.
    """
    return _parse(words).script


def python_program(
    words: Sequence[str],
    variables: tuple[tuple[str, str], ...],
    directories: tuple[Directory, ...],
    packages: Sequence[str] = (),
    warm_up: WarmUp | None = None,
    memory_limit: int = 0,
) -> Program:
    """Describe how Python prepares a script.

    Args:
        words: The command line: ``python [OPTION]... SCRIPT [ARGUMENT]...``.
        variables: The variables for Python itself, such as ``PYTHONPATH``.
        directories: What the guest may read.
        packages: Directories of the guest that are searched for modules.
        warm_up: A request that the script answers first.
        memory_limit: Maximum size of the memory in bytes; 0 for no limit.

    Raises:
        SnapshotError: There is no script in the command line.
    """
    line = _parse(words)
    flags = "".join(option.lstrip("-") for option in line.options if option[:2] not in ("-W", "-X"))
    configuration = {
        "options": len(line.options),
        "adds_folder": not _ISOLATING_OPTIONS & set(flags),
        "packages": list(packages),
        "request": warm_up and {"variables": dict(warm_up.variables), "body": warm_up.body},
    }
    arguments = (line.interpreter, *line.options, "-c", prelude_text(PYTHON))
    program = Program((*arguments, json.dumps(configuration), line.script))
    return replace(
        program,
        variables=variables,
        directories=directories,
        has_prelude=True,
        memory_limit=memory_limit,
    )


def _parse(words: Sequence[str]) -> _CommandLine:
    options: list[str] = []
    rest = list(words[1:])
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option in ("-c", "-m", "-"):
            break
        options.append(option)
        if option in _VALUE_OPTIONS and rest:
            options.append(rest.pop(0))
    else:
        if rest:
            return _CommandLine(words[0], tuple(options), rest[0])
    found = " ".join(words) or "no arguments"
    raise SnapshotError(
        f"expected arguments such as `python /app/handler.py`, with the path of a script, found"
        f" `{found}`"
    )
