"""``wagi logs``: print what handlers have written to stderr."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from wagi.cli.completion import complete_route
from wagi.cli.options import (
    SettingsCommand,
    manifest_path,
    map_option,
    setting_options,
    settings_from,
)
from wagi.config.settings import Settings
from wagi.config.text import suggest_file
from wagi.errors import ConfigurationError, Problem, WagiError
from wagi.observe.log_files import LogFile, LogReader, logs_in, temporary_folders
from wagi.observe.text import one_line
from wagi.routing import RoutePattern, RouteTable

_POLL_INTERVAL_S = 0.2


@click.command(
    cls=SettingsCommand,
    short_help="Print what handlers have written to stderr.",
    help="""Print what the handler of ROUTE has written to stderr, or that of every route.

    ROUTE is a route as in modules.toml, or a path that it matches. The logs are those in --log-dir.
    Without it, they are those of the latest server of the route map that has logs: `wagi serve`
    creates a temporary directory and prints its name.

    \b
    Examples:
      wagi logs
      wagi logs -f /hello
      wagi logs -n 20 --log-dir /var/log/wagi /api/...
    """,
)
@click.argument("route", required=False, metavar="[ROUTE]", shell_complete=complete_route)
@click.option("-f", "--follow", is_flag=True, help="Wait for further lines, until Ctrl-C.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0),
    metavar="N",
    help="Print only the last N lines of each log.",
)
@map_option
@setting_options("log_dir", "bindle")
def logs(
    route: str | None, follow: bool, lines: int | None, config: Path | None, **options: Any
) -> None:
    """Print logs."""
    settings = settings_from(options)
    finder = _Finder(settings, manifest_path(None, config, settings), route)
    found = finder.find()
    if not found and not follow:
        raise WagiError(finder.explain())
    printer = _Printer(shows_routes=route is None)
    readers = {log: LogReader(log.path) for log in found}
    for log, reader in readers.items():
        content = reader.lines()
        printer.print(log, content if lines is None else content[max(0, len(content) - lines) :])
    while follow:
        time.sleep(_POLL_INTERVAL_S)
        for log in finder.find():
            reader = readers.setdefault(log, LogReader(log.path))
            printer.print(log, reader.lines())


class _Finder:
    """Finds the logs of a route, or of all routes.

    Args:
        settings: Name the log directory, or a bindle.
        file: The route map; None for a bindle.
        route: The route, or a path that it matches; None for all routes.

    Raises:
        ConfigurationError: The log directory or the route map does not exist, or logs are not kept.
    """

    def __init__(self, settings: Settings, file: Path | None, route: str | None) -> None:
        if settings.log_dir == "none":
            raise ConfigurationError(Problem("expected the log directory, found --log-dir none"))
        self._folder = settings.log_dir
        self._route = route
        self._served = str(file.resolve()) if file else str(settings.bindle)
        self._name = str(file or settings.bindle)
        missing = self._folder if self._folder is not None else file
        if missing is not None and not missing.exists():
            raise ConfigurationError(Problem(f"no such file: {missing}{suggest_file(missing)}"))

    def _folders(self) -> Sequence[Path]:
        return [self._folder] if self._folder is not None else temporary_folders(self._served)

    def find(self) -> list[LogFile]:
        """Find the logs, in the first directory that has some."""
        return next(filter(None, map(self._matching, self._folders())), [])

    def _matching(self, folder: Path) -> list[LogFile]:
        logs = logs_in(folder)
        route = self._route
        if route is None:
            return logs
        if exact := [log for log in logs if log.route == route]:
            return exact
        # The order of the routes in the map is not known here: the most specific one comes first.
        logs.sort(key=lambda log: len(log.route), reverse=True)
        match = RouteTable((RoutePattern.parse(log.route), log) for log in logs).match(route)
        return [match.target] if match else []

    def explain(self) -> str:
        """Explain that nothing was found."""
        for folder in self._folders():
            if routes := [log.route for log in logs_in(folder)]:
                return f"no log of {self._route} in {folder}: there are logs of {', '.join(routes)}"
        where = f" in {self._folder}" if self._folder is not None else ""
        return (
            f"no logs of {self._name}{where}: its handlers have not written to stderr, or it is"
            " served with another --log-dir"
        )


class _Printer:
    """Prints lines of logs.

    Args:
        shows_routes: Whether to print the route before the lines, where they are from another log
            than those before.
    """

    def __init__(self, shows_routes: bool) -> None:
        self._shows_routes = shows_routes
        self._last: LogFile | None = None

    def print(self, log: LogFile, lines: Sequence[bytes]) -> None:
        """Print lines of a log, with control characters escaped."""
        if self._shows_routes and lines and log != self._last:
            blank = "" if self._last is None else "\n"
            click.echo(f"{blank}==> {one_line(log.route)} <==")
            self._last = log
        for line in lines:
            click.echo(one_line(line.decode("utf-8", "backslashreplace")))
