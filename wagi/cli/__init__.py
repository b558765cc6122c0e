"""The command line: one file for each command."""

from __future__ import annotations

import faulthandler
import gc
import sys
from difflib import get_close_matches
from importlib import import_module

import click

from wagi import __version__
from wagi.cli.stderr import COLOR, complain
from wagi.errors import ConfigurationError, WagiError

_HELP = """The WebAssembly gateway: CGI for WASI modules.

\b
Examples:
  wagi new hello --lang rust       a project to begin with
  wagi serve                       serve ./modules.toml on 127.0.0.1:3000
  wagi serve hello.wasm            serve one module, no modules.toml needed
  wagi serve --listen :8080 -e GREETING=hi modules.toml
  wagi -c modules.toml             the same as wagi serve modules.toml
  wagi check modules.toml          load everything, report every problem, serve nothing
  wagi compile modules.toml        compile ahead of time: serving then starts at once
  wagi push hello.wasm oci://registry.example/hello:1.0
  wagi inspect hello.wasm          what a module is, and what it needs
"""


_COMMANDS = {
    "new": "new",
    "serve": "serve",
    "check": "check",
    "call": "call",
    "run": "call",
    "routes": "routes",
    "test": "test",
    "test-server": "test_server",
    "inspect": "inspect",
    "compile": "compile",
    "snapshot": "snapshot",
    "push": "push",
    "pull": "pull",
    "schema": "schema",
    "completion": "completion",
}
"""The commands and the files that they are in."""


class _Commands(click.Group):
    """Imports a command when it is wanted: a start should not wait for all the others.

    And a wasmtime that does not fit is an error like any other.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        near = get_close_matches(args[0], _COMMANDS, n=1)
        if args[0] not in _COMMANDS and near:
            raise click.UsageError(f"no command {args[0]!r}: did you mean {near[0]!r}?", ctx)
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        gc.disable()  # what is imported stays: looking at it again and again is a tenth of a start
        try:
            module = import_module(f"wagi.cli.{_COMMANDS[name]}")
        finally:
            gc.enable()
        commands = (item for item in vars(module).values() if isinstance(item, click.Command))
        return next(command for command in commands if command.name == name)


def _show_version(context: click.Context, _option: click.Parameter, is_given: bool) -> None:
    if is_given:
        from wagi.guest import core  # it reads the environment, which may be wrong

        click.echo(f"wagi, version {__version__}\ncore: {core.DESCRIPTION}")
        context.exit()


@click.group(cls=_Commands, help=_HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.pass_context
def cli(context: click.Context) -> None:
    """The root of all commands."""
    context.color = COLOR


def main() -> None:
    """Run the command line and exit: 0 success, 1 failure, 2 bad usage or configuration."""
    if sys.stderr is not None:
        # Before commands are imported and make engines: a guest traps by a signal, and wasmtime's
        # handlers, which pass on what is not theirs, have to be in front of these.
        faulthandler.enable()
    arguments = sys.argv[1:]
    # The original had no commands: `wagi -c modules.toml` serves.
    if arguments and arguments[0].startswith("-") and arguments[0] not in _ROOT_OPTIONS:
        arguments = ["serve", *arguments]
    try:
        cli.main(arguments, prog_name="wagi", standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except ConfigurationError as error:
        for problem in error.problems:
            complain("error", problem)
        sys.exit(error.exit_status)
    except WagiError as error:
        complain("error", error)
        sys.exit(error.exit_status)
    except BrokenPipeError:
        sys.exit(1)
    finally:
        gc.freeze()  # the collection at the end would look at all modules once more: 80 ms


_ROOT_OPTIONS = ("-h", "--help", "--version")
