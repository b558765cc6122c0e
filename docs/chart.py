"""Generate what the Helm chart repeats: the table of its values, and the schema of their entries.

The chart is deploy/chart/wagi. values.yaml is the source of the table in README.md, and the schema
of modules.toml that of the entries in values.schema.json.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[1] / "deploy/chart/wagi"
_BEGIN, _END = "<!-- values -->\n", "<!-- end of values -->\n"
_LINE = re.compile(r"^( *)(?:# (?P<comment>.*)|(?P<key>\w+):.*)$")


def readme() -> str:
    """The chart's README.md, with the table of values.yaml between its markers."""
    before, _, rest = (CHART / "README.md").read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    rows = [f"| `{name}` | {default} | {comment} |\n" for name, default, comment in values()]
    table = "".join(["| value | default | description |\n| --- | --- | --- |\n", *rows])
    return f"{before}{_BEGIN}{table}{_END}{after}"


def values() -> Iterator[tuple[str, str, str]]:
    """Read values.yaml: the values with a comment directly above, their defaults and comments."""
    text = (CHART / "values.yaml").read_text()
    defaults = yaml.safe_load(text)
    path: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        found = _LINE.match(line)
        if found and found["comment"] is not None:
            comment.append(found["comment"])
            continue
        if found and found["key"]:
            path[len(found[1]) // 2 :] = [found["key"]]
            if comment:
                yield ".".join(path), _format(defaults, path), " ".join(comment)
        comment = []


def _format(defaults: Any, path: list[str]) -> str:
    for key in path:
        defaults = defaults[key]
    return f"`{json.dumps(defaults)}`"


def values_schema() -> str:
    """values.schema.json, with the definitions of the schema of modules.toml."""
    command = [sys.executable, "-m", "wagi", "schema"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    entries = json.loads(text.replace("#/$defs/", "#/definitions/"))["$defs"]
    schema = json.loads((CHART / "values.schema.json").read_text())
    schema["definitions"] |= entries
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
