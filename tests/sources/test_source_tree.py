"""What a module is built from: files, directories and patterns."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.server import write_files
from wagi.sources.source_tree import SourceTree

pytestmark = pytest.mark.fast

FILES = {"src/a.c": "", "src/deep/b.c": "", "src/deep/b.h": "", "c.c": "", "node_modules/d.c": ""}


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("src", "src", {"src/a.c", "src/deep/b.c", "src/deep/b.h"}),
        ("src/a.c", "src/a.c", {"src/a.c"}),
        ("src/**/*.c", "src", {"src/a.c", "src/deep/b.c"}),
        ("**/*.c", ".", {"c.c", "src/a.c", "src/deep/b.c"}),
        ("*.h", ".", {"src/deep/b.h"}),
        ("./src/*.c", "src", {"src/a.c", "src/deep/b.c"}),
        ("none", "none", set()),
        ("none/*.c", "none", set()),
    ],
)
def test_its_files(tmp_path: Path, text: str, path: str, expected: set[str]) -> None:
    write_files(tmp_path, FILES)
    tree = SourceTree.parse(text, tmp_path)
    assert tree.path == tmp_path / path
    assert {str(file.relative_to(tmp_path)) for file in tree.files()} == expected
    assert all(tree.contains(tmp_path / name) for name in expected)


def test_a_file_that_does_not_exist_yet(tmp_path: Path) -> None:
    assert SourceTree.parse("src/**/*.c", tmp_path).contains(tmp_path / "src/new/x.c")
    assert not SourceTree.parse("src/**/*.c", tmp_path).contains(tmp_path / "src/new/x.h")
    assert SourceTree.parse("src", tmp_path).contains(tmp_path / "src/new/x.h")
    assert not SourceTree.parse("src", tmp_path).contains(tmp_path / "src2")


def test_a_new_directory_may_have_new_files(tmp_path: Path) -> None:
    """Those that are created at once are not reported."""
    write_files(tmp_path, {"src/new/x.c": "", "other/x.c": "", "src/x.h": "", "src/out/x.o": ""})
    tree = SourceTree.parse("src/**/*.c", tmp_path)
    changed = ("src/new", "src/new/x.c", "src/x.h", "other", "other/x.c", "src/out")
    assert [tree.is_affected_by(tmp_path / name) for name in changed] == [
        True, True, False, False, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["../shared/*.c", "{}/shared/*.c"])
def test_a_pattern_outside_of_the_project(tmp_path: Path, text: str) -> None:
    write_files(tmp_path, {"shared/a.c": "", "project/b.c": ""})
    tree = SourceTree.parse(text.format(tmp_path), tmp_path / "project")
    assert [path.resolve() for path in tree.files()] == [tmp_path / "shared/a.c"]
    assert tree.contains(tmp_path / "shared/a.c")
    assert not tree.contains(tmp_path / "project/b.c")


def test_a_file_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    write_files(tmp_path, {"a[1].c": "", "a1.c": ""})
    assert list(SourceTree.parse("a[1].c", tmp_path).files()) == [tmp_path / "a[1].c"]
