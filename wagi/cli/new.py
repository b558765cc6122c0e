"""``wagi new``: create a project."""

from __future__ import annotations

from pathlib import Path

import click

from wagi.templates import LANGUAGES, STATIC, STATIC_COMMANDS, create, create_static


@click.command(
    short_help="Create a project with a handler, a build and a test.",
    help="""Create a project in the directory NAME: a handler, its build, a modules.toml and a test.

    \b
    Examples:
      wagi new hello --lang rust
      wagi new hello            (prompts for the language)
      wagi new site --lang static
    """,
)
@click.argument("name", metavar="NAME")
@click.option(
    "--lang",
    type=click.Choice([*LANGUAGES, STATIC]),
    prompt="Language",
    help="Language of the handler, or static for a site without a handler.",
)
def new(name: str, lang: str) -> None:
    """Create a project."""
    if lang == STATIC:
        create_static(name, Path())
        commands = "\n".join(f"  {command}" for command in STATIC_COMMANDS)
        click.echo(f"{name}: a static site.\n\n  cd {name}\n{commands}")
        return
    create(name, lang, Path())
    language = LANGUAGES[lang]
    commands = "\n".join(f"  {command}" for command in (f"cd {name}", *language.commands(name)))
    click.echo(
        f"{name}: a handler in {language.title}. It requires {language.needs}.\n\n{commands}"
    )
