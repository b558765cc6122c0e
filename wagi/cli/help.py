"""``wagi help``: print the help of a command."""

from __future__ import annotations

import click


@click.command(
    name="help",
    short_help="Show the help of a command.",
    help="""Show the help of COMMAND, same as `wagi COMMAND --help`; without it, list all commands.

    \b
    Examples:
      wagi help
      wagi help serve
    """,
)
@click.argument("name", required=False, metavar="[COMMAND]")
@click.pass_context
def show_help(context: click.Context, name: str | None) -> None:
    """Print the help."""
    root = context.find_root()
    if name is None:
        click.echo(root.get_help())
        return
    assert isinstance(root.command, click.Group)
    _, command, _ = root.command.resolve_command(root, [name])
    assert command is not None
    with click.Context(command, parent=root, info_name=name) as inner:
        click.echo(inner.get_help())
