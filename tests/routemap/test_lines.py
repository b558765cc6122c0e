"""Positions of keys and values in TOML files."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli

from wagi.config.validation import KeyPath
from wagi.errors import ConfigurationError
from wagi.routemap.lines import parse_toml, toml_lines

pytestmark = pytest.mark.fast

TEXT = '''# comment
top = """
[[module]]
route = "not a key"
"""
[defaults]
timeout = 1  # [[module]]
environment = {A = "[", B = ']'}

[[module]]
route = "/a"
"quoted key" = 1
argv = [
  "x = 1",
]
[[module]]
route = '/b#'
volumes."/data" = "x"
[module.environment]
DEEP = "1"
[[module.array]]
[[module.array]]
[module.array.table]
x = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 2),
        (("defaults",), 6),
        (("defaults", "timeout"), 7),
        (("defaults", "environment", "A"), 8),
        (("module",), 10),
        (("module", 0), 10),
        (("module", 0, "route"), 11),
        (("module", 0, "quoted key"), 12),
        (("module", 0, "argv"), 13),
        (("module", 0, "argv", 0), 14),
        (("module", 1, "route"), 17),
        (("module", 1, "volumes", "/data"), 18),
        (("module", 1, "environment", "DEEP"), 20),
        (("module", 1, "missing"), 16),
        (("module", 1, "array", 0), 21),
        (("module", 1, "array", 1, "table", "x"), 24),
        (("module", 0, "environment"), 10),
        (("unknown",), 1),
    ],
)
def test_lines(path: KeyPath, line: int) -> None:
    assert toml_lines(TEXT).line(path) == line


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("defaults", "timeout"), "timeout", "1"),
        (("defaults", "environment"), "environment", "{A = \"[\", B = ']'}"),
        (("defaults", "environment", "B"), "B", "']'"),
        (("module", 0), "[[module]]", "[[module]]"),
        (("module", 0, "quoted key"), '"quoted key"', "1"),
        (("module", 0, "argv", 0), '"x = 1"', '"x = 1"'),
        (("module", 0, "argv"), "argv", "argv"),  # its value is longer than a line
        (("module", 1, "volumes", "/data"), 'volumes."/data"', '"x"'),
        (("module", 1, "environment"), "[module.environment]", "[module.environment]"),
        (("module", 1, "missing"), "[[module]]", "[[module]]"),
    ],
)
def test_spans(path: KeyPath, key: str, value: str) -> None:
    lines = toml_lines(TEXT)
    for of_key, expected in ((True, key), (False, value)):
        problem = lines.problem("wrong", Path("modules.toml"), path, of_key)
        start = problem.column - 1
        if (path, of_key) != (("module", 0, "argv"), False):
            assert problem.source[start : start + problem.width] == expected
        else:
            assert (problem.source, problem.column) == ("argv = [", len("argv = ["))


@pytest.mark.parametrize(
    "text",
    [
        'a.b."c d".\'e\' = {f = [1, {g = "}"}], "\\u0068" = 1979-05-27 07:32:00} # x = 1\n',
        'a = \'\'\'\n\'\' \'\n\'\'\'\'\nb = """\\\n  x \\""" """""\nc = [ # ]\n  [1,],\n]\n',
        "[a.b]\n[[a.c]]\nd = true\n[[a.c]]\n[a.c.d]\ne = -inf\n",
        "a = 1\r\n[b]\r\nc = 2\r\n",
        "",
    ],
)
def test_every_key_of_a_document_is_found(text: str) -> None:
    lines = toml_lines(text)

    def check(value: object, path: KeyPath) -> None:
        if path:
            assert path in lines._items, path
        if isinstance(value, dict):
            for key, inner in value.items():
                check(inner, (*path, key))
        if isinstance(value, list):
            for index, inner in enumerate(value):
                check(inner, (*path, index))

    check(tomli.loads(text), ())


@pytest.mark.parametrize(
    "text", ["a", "a = [", 'a = "', "a = {b = ", "= 1", "[", "[[a", "a = [" * 5000]
)
def test_other_texts_are_harmless(text: str) -> None:
    toml_lines(text)


def test_syntax_errors() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_toml("a = 1\nb = [x\n", Path("a.toml"))
    assert caught.value.explain() == (
        "a.toml:2: not valid TOML: Invalid value (column 6)\n2 | b = [x\n  |      ^"
    )
    with pytest.raises(ConfigurationError, match="nested too deeply"):
        parse_toml("a = " + "[" * 100_000, Path("a.toml"))
