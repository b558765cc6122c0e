"""``wagi completion``: print a completion script for a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(
    short_help="Print a shell completion script.",
    help="""Print a script that completes wagi's commands and options in the given shell.

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
