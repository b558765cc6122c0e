"""Glob patterns."""

from __future__ import annotations

import pytest

from wagi.sources.globs import Glob, is_glob

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*.txt", "a.txt", True),
        ("*.txt", ".txt", True),
        ("*.txt", "a/b.txt", False),
        ("*.txt", "a.txt2", False),
        ("a/*.txt", "a/b.txt", True),
        ("a/*.txt", "a/b/c.txt", False),
        ("a/?", "a/b", True),
        ("a/?", "a//", False),
        ("a?b", "a/b", False),
        ("**/*.c", "x.c", True),
        ("**/*.c", "a/b/x.c", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**/b", "a/xb", False),
        ("a/**", "a/x/y", True),
        ("a/**", "ab", False),
        ("**", "a/b", True),
        ("[a-c].txt", "b.txt", True),
        ("[!a-c].txt", "b.txt", False),
        ("[!a-c]x", "/x", False),
        ("[]]", "]", True),
        ("[\\]", "\\", True),
        ("[^a]", "^", True),
        ("[^a]", "b", False),
        ("a.txt", "axtxt", False),
        ("a+", "aa", False),
        ("a\n*", "a\nb", True),
    ],
)
def test_a_pattern(pattern: str, path: str, matches: bool) -> None:
    assert Glob.parse(pattern).matches(path) == matches


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*.key", "a/b.key", True),
        ("secrets/*", "secrets/a/b", True),
        ("secrets/**", "secrets", True),
        ("secrets/**", "secrets2", False),
        ("**/secret", "a/secret", True),
        ("a?b", "a/b", True),
    ],
)
def test_a_pattern_that_crosses_slashes(pattern: str, path: str, matches: bool) -> None:
    assert Glob.parse(pattern, crosses_slash=True).matches(path) == matches


@pytest.mark.parametrize(
    ("pattern", "base", "depth"),
    [
        ("a/b/*.txt", "a/b", 1),
        ("*/x", "", 2),
        ("a/**/*.txt", "a", None),
        ("a.txt", "a.txt", 0),
    ],
)
def test_where_matches_can_be(pattern: str, base: str, depth: int | None) -> None:
    found = Glob.parse(pattern)
    assert (found.base, found.depth) == (base, depth)


@pytest.mark.parametrize("pattern", ["a**", "**b/c", "[a", "[]", "[z-a]", "***"])
def test_an_invalid_pattern(pattern: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Glob.parse(pattern)


def test_a_path_is_no_pattern() -> None:
    assert [is_glob(text) for text in ("a.txt", "a*", "a?", "[a]", "{a}")] == [
        False, True, True, True, False,
    ]  # fmt: skip
