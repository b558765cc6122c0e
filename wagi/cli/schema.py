"""``wagi schema``: print the JSON schema of modules.toml."""

from __future__ import annotations

import json

import click

from wagi.routemap.modules_toml import ModulesToml


@click.command(
    short_help="Print the JSON schema of modules.toml.",
    help="""Print the JSON schema of modules.toml.

    Editors with a TOML language server use it to validate and complete a modules.toml whose first
    line is `#:schema FILE`, where FILE is a path or URL.

    \b
    Examples:
      wagi schema > modules.schema.json
    """,
)
def schema() -> None:
    """Print the schema."""
    found = ModulesToml.model_json_schema()
    for table in (found, *found["$defs"].values()):
        for value in table["properties"].values():
            value.pop("title", None)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "modules.toml"}
    click.echo(json.dumps({**found, **head}, indent=2))
