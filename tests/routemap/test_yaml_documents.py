"""YAML documents and their lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from wagi.errors import ConfigurationError
from wagi.routemap.yaml_documents import Document, read_documents

pytestmark = pytest.mark.fast

TEXT = """\
a:
  b: 1
  c:
    - x: 2
    -
      y: 3
---
# nothing
---
[one, *two]
"""


def read(folder: Path, text: str) -> list[Document]:
    (folder / "file.yaml").write_text(text)
    return read_documents(folder / "file.yaml")


def test_documents_and_lines(tmp_path: Path) -> None:
    first, second = read(tmp_path, TEXT.replace("*two", "two"))
    assert first.value == {"a": {"b": 1, "c": [{"x": 2}, {"y": 3}]}}
    assert second.value == ["one", "two"]
    paths = [(), ("a",), ("a", "b"), ("a", "c"), ("a", "c", 0, "x"), ("a", "c", 1)]
    assert [first.lines.line(path) for path in paths] == [1, 1, 2, 3, 4, 6]
    assert first.lines.line(("a", "c", 1, "missing", 5)) == 6
    assert second.lines.line((1,)) == 10


def test_aliases_have_the_line_of_their_use(tmp_path: Path) -> None:
    (document,) = read(tmp_path, "a: &anchor {x: 1}\nb: *anchor\nc: &loop [*loop]\n")
    assert document.value["b"] == {"x": 1}
    assert document.lines.line(("b", "x")) == 2
    assert document.lines.line(("c", 0, 0, 0)) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEXT, "file.yaml:10: not valid YAML: found undefined alias 'two'"),
        ("a: [1", "file.yaml:1: not valid YAML: expected ',' or ']'"),
        ("a: !!python/object:os.system x", "file.yaml:1: not valid YAML: could not determine"),
        ("a: 2020-99-99", "file.yaml: not valid YAML: month must be in 1..12"),
        ("{[1]: 2}", "file.yaml:1: not valid YAML: found unhashable key"),
    ],
)
def test_invalid_documents(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text)
    assert str(caught.value).removeprefix(f"{tmp_path}/").startswith(message)
