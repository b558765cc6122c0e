"""The JSON schema of modules.toml, for editors, and the help of every command."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tomli

from tests.support.help import command_names, help_of
from tests.support.server import ROOT, run_wagi, write_files

GOOD = '[[module]]\nroute = "/"\nmodule = "m.wasm"\n'


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run_wagi(tmp_path_factory.mktemp("schema"), "schema").stdout)
    return found


def test_the_published_file_is_the_schema(schema: dict[str, Any]) -> None:
    assert json.loads((ROOT / "docs/modules.schema.json").read_text()) == schema


def test_every_key_is_described(schema: dict[str, Any]) -> None:
    for table in (schema, *schema["$defs"].values()):
        for key, value in table["properties"].items():
            assert len(value["description"]) > 10, key


def test_the_schema_accepts_valid_files(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    page = (ROOT / "docs/reference.md").read_text()
    (reference,) = re.findall(r"```toml title=\"reference.toml\"\n(.*?)```", page, re.S)
    for text in (reference, GOOD, (ROOT / "modules.toml").read_text(), ""):
        jsonschema.validate(tomli.loads(text), schema)


@pytest.mark.parametrize(
    "text",
    ["[[module]]\nroute = '/'\n", GOOD + "rout = 1\n", GOOD + "timeout = 'x'\n", "[module]\na = 1",
     GOOD + "volumes = {a = 1}\n", GOOD + "memory_limit = true\n", GOOD + "pull = 'x'\n",
     GOOD + "timeout = -1\n", GOOD + "sha256 = 'x'\n", "[defaults]\nroute = '/'\n"],
)  # fmt: skip
def test_the_schema_rejects_invalid_files(
    schema: dict[str, Any], tmp_path: Path, text: str
) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tomli.loads(text), schema)
    write_files(tmp_path, {"modules.toml": text})
    assert run_wagi(tmp_path, "check").returncode == 2


def test_every_command_has_help_with_examples() -> None:
    commands = command_names()
    assert len(commands) > 12
    for command in commands:
        assert f"wagi {command}" in help_of(command).partition("Examples:\n")[2], command
