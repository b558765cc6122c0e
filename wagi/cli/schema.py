"""``wagi schema``: print the JSON schema of modules.toml."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator
from itertools import pairwise
from textwrap import dedent

import click
from pydantic import BaseModel

from wagi.config.entries import ModuleEntry, Rules, Volume
from wagi.config.manifest import Manifest


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
    found = Manifest.model_json_schema()
    tables: tuple[type[BaseModel], ...] = (Manifest, ModuleEntry, Rules, Volume)
    texts = {key: text for table in tables for key, text in _docstrings(table)}
    for table in (found, *found["$defs"].values()):
        for key, value in table["properties"].items():
            value.pop("title", None)
            value["description"] = texts[key]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "modules.toml"}
    click.echo(json.dumps({**found, **head}, indent=2))


def _docstrings(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Yield the fields of a model with the docstrings that follow them."""
    (definition,) = ast.parse(dedent(inspect.getsource(model))).body
    assert isinstance(definition, ast.ClassDef)
    for field, after in pairwise(definition.body):
        match field, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=text)):
                yield name, str(text)
