"""The command line, with one module per command."""

from __future__ import annotations

import faulthandler
import gc
import sys
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

import click

from wagi import __version__
from wagi.cli.console import COLOR, print_error
from wagi.errors import ConfigurationError, WagiError

_HELP = """The WebAssembly gateway: CGI for WASI modules.

\b
Examples:
  wagi new hello --lang rust       create a project
  wagi serve                       serve ./modules.toml on 127.0.0.1:3000
  wagi serve hello.wasm            serve a single module, without a modules.toml
  wagi serve --listen :8080 -e GREETING=hi modules.toml
  wagi hello.wasm                  same as wagi serve hello.wasm
  wagi -c modules.toml             same as wagi serve modules.toml
  wagi build                       build the modules
  wagi check modules.toml          validate everything without serving
  wagi compile modules.toml        compile ahead of time for a fast start
  wagi push hello.wasm oci://registry.example/hello:1.0
  wagi inspect hello.wasm          show what a module imports and exports
"""


_COMMANDS = {
    "new": "new",
    "add": "add",
    "serve": "serve",
    "build": "build",
    "check": "check",
    "call": "call",
    "run": "call",
    "routes": "routes",
    "test": "test",
    "test-server": "test_server",
    "logs": "logs",
    "inspect": "inspect",
    "compile": "compile",
    "snapshot": "snapshot",
    "push": "push",
    "pull": "pull",
    "webhook": "webhook",
    "schema": "schema",
    "completion": "completion",
    "doctor": "doctor",
    "version": "version",
    "help": "help",
}
"""The commands, and the modules that define them."""


class _Commands(click.Group):
    """Imports a command only when it is used, so that starting one does not load the others.

    An unsupported wasmtime is then reported like any other error.
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
        # Imported objects live forever: scanning them would take a tenth of the start-up time.
        gc.disable()
        try:
            module = import_module(f"wagi.cli.{_COMMANDS[name]}")
        finally:
            gc.enable()
        commands = (item for item in vars(module).values() if isinstance(item, click.Command))
        return next(command for command in commands if command.name == name)


def version_text() -> str:
    """Format the versions of wagi, its core, wasmtime and Python, one per line."""
    import platform
    from importlib import metadata

    from wagi.guest import core  # importing it reads the environment, which may be invalid

    return (
        f"wagi, version {__version__}\ncore: {core.DESCRIPTION}\n"
        f"wasmtime: {metadata.version('wasmtime')}\nPython: {platform.python_version()}"
    )


def _show_version(context: click.Context, _option: click.Parameter, is_given: bool) -> None:
    if is_given:
        click.echo(version_text())
        context.exit()


@click.group(cls=_Commands, help=_HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.pass_context
def cli(context: click.Context) -> None:
    """The root command."""
    context.color = COLOR


def main() -> None:
    """Run the command line and exit: 0 is success, 1 failure, 2 bad usage or configuration."""
    if sys.stderr is not None:
        # Must precede the import of commands, which creates engines. wasmtime turns signals into
        # traps and forwards the others, so its handlers have to be installed after these.
        faulthandler.enable()
    arguments = sys.argv[1:]
    if arguments and _is_served(arguments[0]):
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
            print_error("error", problem)
        sys.exit(error.exit_status)
    except WagiError as error:
        print_error("error", error)
        sys.exit(error.exit_status)
    except BrokenPipeError:
        sys.exit(1)
    finally:
        gc.freeze()  # avoids a final collection that scans every module: 80 ms


def _is_served(argument: str) -> bool:
    """Whether the first argument belongs to `wagi serve`, whose name may be omitted."""
    if argument.startswith("-"):
        # Wagi has no subcommands: `wagi -c modules.toml` serves.
        return argument not in _ROOT_OPTIONS
    if argument in _COMMANDS:
        return False
    path = Path(argument)
    if path.suffix in (".wasm", ".wat", ".toml"):
        return path.is_file()
    return any((path / name).is_file() for name in ("modules.toml", "spin.toml"))


_ROOT_OPTIONS = ("-h", "--help", "-V", "--version")
