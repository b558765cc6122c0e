"""The variables that ``--env-file`` and ``--env`` give to every handler."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from dotenv import dotenv_values

from wagi.config.settings import Settings
from wagi.config.values import check_variable
from wagi.errors import ConfigurationError, Problem


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
        text = path.read_bytes().decode()
    except OSError as error:
        raise ConfigurationError(
            Problem(f"--env-file: cannot be read: {error.strerror}", path)
        ) from None
    except UnicodeDecodeError:
        raise ConfigurationError(Problem("--env-file: expected UTF-8 text", path)) from None
    variables: dict[str, str] = {}
    # One line at a time, without interpolation: the host's environment must not shine through.
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        variables.update(_read_line(path, number, stripped))
    return variables


def _read_line(path: Path, number: int, line: str) -> dict[str, str]:
    try:
        (pair,) = dotenv_values(stream=StringIO(line), interpolate=False).items()
        key, value = pair
        if value is None:
            raise ValueError
        check_variable(key, value)
    except ValueError:
        raise ConfigurationError(
            Problem(f"--env-file: expected KEY=VALUE, found {line!r}", path, number)
        ) from None
    return {key: value}
