"""Command-line options, derived from the fields of the server's settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import ValidationError

from wagi.config.settings import Settings
from wagi.config.validation import KeyPath, explain_validation_error
from wagi.errors import ConfigurationError, Problem

F = TypeVar("F", bound=Callable[..., Any])


SOURCES = (
    "module_cache",
    "max_module_size",
    "insecure_registry",
    "bindle_path",
    "bindle_url",
    "bindle_http_user",
    "bindle_http_password",
    "bindle_insecure",
)
"""The settings of commands that fetch modules without serving them."""


LOCAL = ("env", "env_file", "hostname", "artefact_cache", *SOURCES)
"""The settings of commands that handle requests without a server."""


def setting_options(*names: str) -> Callable[[F], F]:
    """Make a decorator that adds an option to a command for each of these settings."""

    def decorate(command: F) -> F:
        for name in reversed(names):
            option = Settings.option(name)
            command = click.option(
                *option.flags,
                name,
                metavar=option.metavar or None,
                is_flag=not option.metavar or None,
                envvar=option.variable,
                multiple=option.is_repeatable,
                show_envvar=True,
                help=option.help,
            )(command)
        return command

    return decorate


server_options = setting_options(*Settings.model_fields)


map_option = click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    default=Path("modules.toml"),
    metavar="FILE",
    help="Route map: a modules.toml, a pod manifest or a module.",
)


def manifest_argument(command: F) -> F:
    """Add the route map to a command: as an argument or, compatible with Wagi, as ``-c``."""
    path = click.Path(path_type=Path)
    command = click.option(
        "-c", "--config", type=path, metavar="FILE", help="Route map, same as MODULES_TOML."
    )(command)
    return click.argument("file", required=False, type=path, metavar="[MODULES_TOML]")(command)


def manifest_path(file: Path | None, config: Path | None, settings: Settings) -> Path | None:
    """Choose the route map.

    Args:
        file: The argument, if given.
        config: The value of ``-c``, if given.
        settings: The settings, which may name a bindle instead.

    Returns:
        The file, by default ``modules.toml``; None for a bindle.

    Raises:
        click.UsageError: Two different route maps were given.
    """
    if settings.bindle is not None:
        if file is not None or config is not None:
            raise click.UsageError(
                f"expected either a modules.toml or a bindle, found both {file or config} and"
                f" {settings.bindle}"
            )
        return None
    if file is not None and config is not None and file != config:
        raise click.UsageError(f"expected one modules.toml, found both {config} and {file}")
    return file or config or Path("modules.toml")


def settings_from(values: dict[str, Any]) -> Settings:
    """Validate the options.

    Raises:
        ConfigurationError: Options are invalid; it has a problem for each.
    """
    given = {k: v for k, v in values.items() if v not in (None, (), False)}
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        mistakes = explain_validation_error(error, Settings, _name)
        raise ConfigurationError(Problem(mistake.message) for mistake in mistakes) from None


def _name(path: KeyPath) -> str:
    """How messages name an option: by all its flags."""
    return "/".join(Settings.option(str(path[0])).flags)
