"""The options of a server, made from the fields of its settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from wagi.config.settings import Flag, Settings
from wagi.errors import ConfigurationError, Problem

F = TypeVar("F", bound=Callable[..., Any])


def server_options(command: F) -> F:
    """Give a command an option for each setting."""
    for name, field in reversed(Settings.model_fields.items()):
        flag = _flag(field)
        command = click.option(
            *flag.names,
            name,
            metavar=flag.metavar,
            envvar=flag.variable,
            multiple=flag.repeatable,
            show_envvar=True,
            help=field.description,
        )(command)
    return command


def manifest_argument(command: F) -> F:
    """Give a command the file it works on, as an argument or, like the original, as ``-c``."""
    path = click.Path(path_type=Path)
    command = click.option("-c", "--config", type=path, metavar="FILE", help="modules.toml.")(
        command
    )
    return click.argument("file", required=False, type=path, metavar="[MODULES_TOML]")(command)


def manifest_path(file: Path | None, config: Path | None) -> Path:
    """The file that the user named; ``modules.toml`` if none. Raises: click.UsageError for two."""
    if file is not None and config is not None and file != config:
        raise click.UsageError(f"expected one modules.toml, found {config} and {file}")
    return file or config or Path("modules.toml")


def settings_from(values: dict[str, Any]) -> Settings:
    """Check the options. Raises: ConfigurationError naming each bad one."""
    given = {k: v for k, v in values.items() if v not in (None, ())}
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        raise ConfigurationError(Problem(_explain(item)) for item in error.errors()) from None


def _explain(item: Any) -> str:
    flag = _flag(Settings.model_fields[str(item["loc"][0])])
    message = item["ctx"]["error"] if item["type"] == "value_error" else item["msg"]
    found = "" if "found" in str(message) else f", found {item['input']!r}"
    return f"{flag.names[-1] if len(flag.names) == 1 else '/'.join(flag.names)}: {message}{found}"


def _flag(field: FieldInfo) -> Flag:
    (flag,) = (item for item in field.metadata if isinstance(item, Flag))
    return flag
