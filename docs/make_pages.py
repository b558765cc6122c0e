"""Make the pages that are made of the code: the reference, and the quick start.

python -m docs.make_pages
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from docs import commands
from wagi.templates import LANGUAGES

DOCS = Path(__file__).parent

_REFERENCE = """\
# modules.toml

Entries are tried in their order; the first whose route matches answers. `wagi check` loads everything that a file names
and reports every mistake with its line. Editors that know JSON schemas complete the keys of a file whose first line is
`#:schema` and the path of [modules.schema.json](modules.schema.json), which `wagi schema` prints."""

_SIZES = """
Sizes are bytes, or texts such as `"64MiB"`. A limit of 0 is none; [security](security.md#limits) tells what happens
beyond each, and how the defaults were chosen.
"""

_QUICK_START = """\
# Quick start

`pip install wagi pytest`, then one of these. Each makes a project with a handler, the way to build it, a `modules.toml`
and a test, and serves it on http://localhost:3000. With `--watch` it is built again and served whenever it changes;
`wagi serve --dev` shows what it sees and does."""


def reference() -> str:
    """Every key of modules.toml, from its JSON schema."""
    command = [sys.executable, "-m", "wagi", "schema"]
    schema = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    tables = schema["$defs"]
    rules = tables["Rules"]["properties"]
    entry = {k: v for k, v in tables["ModuleEntry"]["properties"].items() if k not in rules}
    whole = {k: v for k, v in schema["properties"].items() if k == "default_host"}
    parts = [
        _REFERENCE,
        *_section("At the top", whole),
        *_section("In an entry, `[[module]]`", entry),
        *_section("In an entry, or in `[defaults]` for all of them", rules),
        *_section("A volume that is a table", tables["Volume"]["properties"]),
        _SIZES,
    ]
    return "\n".join(parts)


def _section(title: str, keys: dict[str, dict[str, object]]) -> list[str]:
    rows = [
        f"| `{key}` | {_default(value)} | {value['description']} |" for key, value in keys.items()
    ]
    return ["", f"## {title}", "", "| key | default | what it is |", "| --- | --- | --- |", *rows]


def _default(value: dict[str, object]) -> str:
    if "default" not in value:
        return ""
    default = value["default"]
    if default is None:
        return "none"
    if isinstance(default, int) and default >= 1024 and default % 1024 == 0:
        units = {"GiB": 1024**3, "MiB": 1024**2, "KiB": 1024}
        unit = next(unit for unit, size in units.items() if default >= size)
        return f'`"{default // units[unit]}{unit}"`'
    return f"`{json.dumps(int(default) if isinstance(default, float) else default)}`"


def quickstart() -> str:
    """From nothing to a tested handler, in each language that ``wagi new`` knows."""
    parts = [_QUICK_START]
    for key, language in LANGUAGES.items():
        build = language.build.replace("NAME", "hello")
        parts += [
            "",
            f"## {language.title}",
            "",
            f"Needs {language.needs}.",
            "",
            "```text",
            f"wagi new hello --lang {key}",
            "cd hello",
            build,
            "pytest",
            "wagi serve --watch",
            "```",
        ]
    return "\n".join(parts) + "\n"


PAGES = {
    "reference.md": reference,
    "quickstart.md": quickstart,
    "commands.md": commands.page,
    "wagi.1": commands.manual,
}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (DOCS / name).write_text(make())
