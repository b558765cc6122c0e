"""The help of commands, without a process for each."""

from __future__ import annotations

from click.testing import CliRunner

from wagi.cli import cli


def help_of(*command: str) -> str:
    """Return the help of a command, such as ``help_of("serve")``."""
    done = CliRunner().invoke(cli, [*command, "--help"], prog_name="wagi", env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.stdout


def command_names() -> list[str]:
    """Return the names of all commands, as the help lists them."""
    listing = help_of().partition("Commands:\n")[2]
    return [line.split()[0] for line in listing.splitlines() if line.startswith("  ")]
