"""The variables that ``--env-file`` and ``--env`` give to every handler."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from wagi.config.settings import Settings
from wagi.config.text import decode_text
from wagi.config.values import check_variable
from wagi.errors import ConfigurationError, Problem

_LINE_END = re.compile(r"\r\n|\n|\r")


def configured_variables(settings: Settings) -> dict[str, str]:
    """Merge the files in their order, then the pairs of the command line.

    See docs/contract.md, "Variables".

    Raises: ConfigurationError for a file that is missing or is not KEY=VALUE lines.
    """
    variables: dict[str, str] = {}
    for path in settings.env_file:
        variables.update(_read(path))
    variables.update(settings.env)
    return variables


def _read(path: Path) -> dict[str, str]:
    try:
        text = decode_text(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(
            Problem(f"--env-file: cannot be read: {error.strerror}", path)
        ) from None
    except UnicodeDecodeError:
        raise ConfigurationError(Problem("--env-file: expected UTF-8 text", path)) from None
    # Without interpolation: the environment of the host must not become visible to handlers.
    pairs = (_pair(path, binding) for binding in parse_stream(StringIO(text)))
    return dict(pair for pair in pairs if pair)


def _pair(path: Path, binding: Binding) -> tuple[str, str] | None:
    """The variable that a statement sets. Returns: None for a comment or empty lines."""
    key, value = binding.key, binding.value
    try:
        if binding.error:
            raise ValueError
        if key is None:
            return None
        if value is None:
            raise ValueError
        check_variable(key, value)
        return key, value
    except ValueError:
        source = binding.original.string
        statement = source.lstrip()
        # python-dotenv counts the empty lines before a statement as part of it.
        skipped = source[: len(source) - len(statement)]
        line = binding.original.line + len(_LINE_END.findall(skipped))
        found = statement.splitlines()[0].rstrip() if statement else ""
        raise ConfigurationError(
            Problem(f"--env-file: expected KEY=VALUE, found {found!r}", path, line)
        ) from None
