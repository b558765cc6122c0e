"""The command line: one file for each command."""

from __future__ import annotations

import sys

import click

from wagi import __version__
from wagi.cli.stderr import complain
from wagi.errors import ConfigurationError, WagiError

_HELP = """The WebAssembly gateway: CGI for WASI modules.

\b
Examples:
  wagi serve                       serve ./modules.toml on 127.0.0.1:3000
  wagi serve hello.wasm            serve one module, no modules.toml needed
  wagi serve --listen :8080 -e GREETING=hi modules.toml
  wagi -c modules.toml             the same as wagi serve modules.toml
  wagi check modules.toml          load everything, report every problem, serve nothing
  wagi compile modules.toml        compile ahead of time: serving then starts at once
  wagi push hello.wasm oci://registry.example/hello:1.0
  wagi inspect hello.wasm          what a module is, and what it needs
"""


@click.group(help=_HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="wagi")
def cli() -> None:
    """The root of all commands."""


def _add_commands() -> None:
    # Imported here, so that a wasmtime that does not fit is an error like any other.
    from wagi.cli.call import call, run
    from wagi.cli.check import check
    from wagi.cli.compile import compile_
    from wagi.cli.inspect import inspect
    from wagi.cli.pull import pull
    from wagi.cli.push import push
    from wagi.cli.routes import routes
    from wagi.cli.serve import serve
    from wagi.cli.snapshot import snapshot
    from wagi.cli.test import test
    from wagi.cli.test_server import test_server

    for command in (
        serve,
        check,
        call,
        run,
        test,
        test_server,
        routes,
        inspect,
        compile_,
        snapshot,
        push,
        pull,
    ):
        cli.add_command(command)


def main() -> None:
    """Run the command line and exit: 0 success, 1 failure, 2 bad usage or configuration."""
    arguments = sys.argv[1:]
    # The original had no commands: `wagi -c modules.toml` serves.
    if arguments and arguments[0].startswith("-") and arguments[0] not in _ROOT_OPTIONS:
        arguments = ["serve", *arguments]
    try:
        _add_commands()
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


_ROOT_OPTIONS = ("-h", "--help", "--version")
