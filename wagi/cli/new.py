"""``wagi new``: create a project."""

from __future__ import annotations

from pathlib import Path

import click

from wagi.templates import LANGUAGES, create


@click.command(
    short_help="Create a project with a handler, a build and a test.",
    help="""Create a project in the directory NAME: a handler, its build, a modules.toml and a test.

    \b
    Examples:
      wagi new hello --lang rust
      wagi new hello            (prompts for the language)
    """,
)
@click.argument("name", metavar="NAME")
@click.option(
    "--lang",
    type=click.Choice(list(LANGUAGES)),
    prompt="Language",
    help="Language of the handler.",
)
def new(name: str, lang: str) -> None:
    """Create a project."""
    create(name, lang, Path())
    language = LANGUAGES[lang]
    click.echo(
        f"{name}: a handler in {language.title}. It requires {language.needs}.\n\n"
        f"  cd {name}\n"
        f"  {language.build.replace('NAME', name)}\n"
        f"  wagi serve --watch\n"
        f"  pytest"
    )
