"""Shell completion: of routes, and ``wagi completion``, which prints the script for a shell."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from wagi.cli.options import manifest_path
from wagi.config.settings import Settings
from wagi.errors import WagiError
from wagi.routemap.entries import Entry, ModuleEntry
from wagi.routemap.reader import MODULE_SUFFIXES, read_route_map
from wagi.routing import RoutePattern

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@click.command(
    short_help="Print a shell completion script.",
    help="""Print a script that completes wagi's commands, options and routes in the given shell.

    \b
    Examples:
      wagi completion bash >> ~/.bashrc
      wagi completion zsh >> ~/.zshrc
      wagi completion fish > ~/.config/fish/completions/wagi.fish
    """,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), metavar="bash|zsh|fish")
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a completion script."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "wagi", "_WAGI_COMPLETE").source())


def complete_route(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete a route of the route map that the command line names."""
    return _items((entry.route for entry in _entries(context)), incomplete)


def complete_path(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the path of a request from the routes, or its method."""
    if incomplete and not incomplete.startswith("/"):
        return _items(_METHODS, incomplete)
    patterns = []
    for entry in _entries(context):
        with contextlib.suppress(ValueError):  # it is not a route
            patterns.append(RoutePattern.parse(entry.route))
    return _items(
        (f"{item.stem}/" if item.wildcard else item.stem for item in patterns), incomplete
    )


def complete_module(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the file of a module, then the request to it."""
    if any(Path(word).suffix in MODULE_SUFFIXES for word in context.params.get("words") or ()):
        return _items(_METHODS, incomplete)
    return [CompletionItem(incomplete, type="file")]


def complete_build(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the name of an entry with a build command, or else a file."""
    entries = [
        entry
        for entry in _entries(context)
        if isinstance(entry, ModuleEntry) and entry.build is not None
    ]
    names = [name for entry in entries for name in (Path(entry.module).stem, entry.route)]
    return _items(names, incomplete) or [CompletionItem(incomplete, type="file")]


def _entries(context: click.Context) -> Iterable[Entry]:
    """The entries of the route map; none if it is missing or invalid."""
    with contextlib.suppress(WagiError):
        path = manifest_path(None, context.params.get("config"), Settings())
        if path is not None:
            return read_route_map(path).entries
    return ()


def _items(values: Iterable[str], incomplete: str) -> list[CompletionItem]:
    found = dict.fromkeys(value for value in values if value.startswith(incomplete))
    return [CompletionItem(value) for value in found]
