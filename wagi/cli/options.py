"""Command-line options, derived from the fields of the server's settings."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from pydantic import ValidationError

from wagi.config.settings import Settings, Topic
from wagi.config.validation import KeyPath, explain_validation_error
from wagi.config.values import parse_port
from wagi.errors import ConfigurationError, Problem
from wagi.routemap.reader import ROUTE_MAP_SUFFIXES, find_route_map

F = TypeVar("F", bound=Callable[..., Any])


SOURCES = (
    "module_cache",
    "max_module_size",
    "insecure_registry",
    "registry_config",
    "bindle_path",
    "bindle_url",
    "bindle_http_user",
    "bindle_http_password",
    "bindle_insecure",
)
"""The settings of commands that fetch modules without serving them."""


LOCAL = ("env", "env_file", "hostname", "artefact_cache", "bindle", *SOURCES)
"""The settings of commands that handle requests without a server."""


class SettingOption(click.Option):
    """An option that belongs to a topic and shows the default of its setting."""

    def __init__(self, *args: Any, topic: Topic, default_text: str = "", **kwargs: Any) -> None:
        """Declare the option.

        Args:
            *args: As of ``click.Option``.
            topic: The section of the help that lists it.
            default_text: The default that the help shows; empty for none.
            **kwargs: As of ``click.Option``.
        """
        super().__init__(*args, **kwargs)
        self.topic = topic
        self.default_text = default_text

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Append the default to click's record, in the same brackets."""
        record = super().get_help_record(ctx)
        if record is None or not self.default_text:
            return record
        flags, text = record
        default = f"default: {self.default_text}"
        if self.show_envvar and self.envvar:
            return flags, f"{text.removesuffix(']')}; {default}]"
        return flags, f"{text}  [{default}]"


def by_topic(
    options: Sequence[click.Parameter], context: click.Context
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Group the help of options by topic.

    Args:
        options: The options of a command.
        context: The context of the command.

    Yields:
        The title and the options with their help; options without a topic come first.
    """
    for topic in (None, *Topic):
        records = [
            record
            for option in options
            if getattr(option, "topic", None) is topic
            and (record := option.get_help_record(context))
        ]
        if records:
            yield topic.value if topic else "Options", records


class SettingsCommand(click.Command):
    """A command with options for settings: its help groups them by topic."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line, where ``-e`` and ``--env-file`` may have several values."""
        return super().parse_args(ctx, _repeat_flags(args))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each topic."""
        for title, records in by_topic(self.get_params(ctx), ctx):
            with formatter.section(title):
                formatter.write_dl(records)


def _repeat_flags(arguments: Sequence[str]) -> list[str]:
    """Write ``-e A=1 B=2`` as ``-e A=1 -e B=2``.

    The original takes all words up to the next option as values, but it has no arguments that might
    follow. Here, further words are values only if they look like values.
    """
    repeated: list[str] = []
    flag = ""  # of the values that are being read
    words = iter(arguments)
    for word in words:
        if word == "--":
            return [*repeated, word, *words]
        if word in _IS_FURTHER_VALUE:
            flag = word
            repeated += [word, *islice(words, 1)]
        elif flag and _IS_FURTHER_VALUE[flag](word):
            repeated += [flag, word]
        else:
            flag = ""
            repeated.append(word)
    return repeated


def _is_pair(word: str) -> bool:
    return _PAIR.match(word) is not None


def _is_env_file(word: str) -> bool:
    return Path(word).is_file() and Path(word).suffix not in ROUTE_MAP_SUFFIXES


_PAIR = re.compile(r"[A-Za-z_]\w*=")
_IS_FURTHER_VALUE = {
    **dict.fromkeys(("-e", "--env"), _is_pair),
    "--env-file": _is_env_file,
}


def setting_options(*names: str) -> Callable[[F], F]:
    """Make a decorator that adds an option to a command for each of these settings."""

    def decorate(command: F) -> F:
        for name in reversed(names):
            option = Settings.option(name)
            command = click.option(
                *option.flags,
                name,
                cls=SettingOption,
                topic=option.topic,
                default_text=option.default,
                metavar=option.metavar or None,
                is_flag=not option.metavar or None,
                envvar=option.variable,
                multiple=option.is_repeatable,
                show_envvar=True,
                help=option.help,
            )(command)
        return command

    return decorate


def server_options(command: F) -> F:
    """Add the options of a server to a command."""
    port = click.option(
        "-p",
        "--port",
        cls=SettingOption,
        topic=Topic.LISTENING,
        metavar="N",
        help="Port to listen on at 127.0.0.1: --port 8080 is --listen 127.0.0.1:8080. The"
        " variable PORT sets :PORT if no address is given.",
    )
    first, *others = Settings.model_fields
    return setting_options(first)(port(setting_options(*others)(command)))


map_option = click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Route map: a modules.toml, spin.toml or pod manifest, a module, or a directory with one"
    " of the first two.  [default: the current directory]",
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
        The file, by default that of the working directory; None for a bindle.

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
    return find_route_map(file or config or Path())


def settings_from(values: dict[str, Any]) -> Settings:
    """Validate the options.

    Raises:
        ConfigurationError: Options are invalid; it has a problem for each.
        click.UsageError: Both an address and a port were given.
    """
    given = {k: v for k, v in values.items() if v not in (None, (), False)}
    if "listen" in values:
        _choose_address(given)
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        mistakes = explain_validation_error(error, Settings, _name)
        raise ConfigurationError(Problem(mistake.message) for mistake in mistakes) from None


def _choose_address(given: dict[str, Any]) -> None:
    """Derive the address from ``--port`` or, if no address is given, from the variable PORT.

    A flag takes precedence over a variable, WAGI_LISTEN over PORT. Platforms such as Cloud Run and
    Heroku set PORT and connect from outside the container, so it listens on every interface.
    """
    port = given.pop("port", None)
    context = click.get_current_context()
    if port is not None:
        if context.get_parameter_source("listen") is ParameterSource.COMMANDLINE:
            raise click.UsageError("expected either --listen or --port, found both")
        given["listen"] = f"127.0.0.1:{_port(port, '-p/--port')}"
    elif "listen" not in given and (variable := os.environ.get("PORT")):
        given["listen"] = f":{_port(variable, 'PORT')}"


def _port(text: str, name: str) -> int:
    try:
        return parse_port(text)
    except ValueError as error:
        raise ConfigurationError([Problem(f"{name}: {error}")]) from None


def _name(path: KeyPath) -> str:
    """How messages name an option: by all its flags."""
    return "/".join(Settings.option(str(path[0])).flags)
