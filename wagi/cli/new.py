"""``wagi new``: a project to begin with."""

from __future__ import annotations

from pathlib import Path

import click

from wagi.templates import LANGUAGES, create


@click.command(
    short_help="Make a project: a handler, its build, a test.",
    help="""Make a project NAME: a handler, how it is built and served, and a test.

    \b
    Examples:
      wagi new hello --lang rust
      wagi new hello            (asks for the language)
    """,
)
@click.argument("name", metavar="NAME")
@click.option(
    "--lang",
    type=click.Choice(list(LANGUAGES)),
    prompt="Language",
    help="The language of the handler.",
)
def new(name: str, lang: str) -> None:
    """Make a project."""
    create(name, lang, Path())
    language = LANGUAGES[lang]
    click.echo(
        f"{name}: a handler in {language.title}. It needs {language.needs}.\n\n"
        f"  cd {name}\n"
        f"  {language.build.replace('NAME', name)}\n"
        f"  wagi serve --watch\n"
        f"  pytest"
    )
