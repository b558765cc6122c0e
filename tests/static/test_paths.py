"""Paths of requests as names of files."""

from __future__ import annotations

import pytest

from wagi.cgi.environment import BadRequest
from wagi.static.paths import FilePath, folder_location, parse_path

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("", FilePath("")),
        ("/", FilePath("", is_folder=True)),
        ("/a", FilePath("a")),
        ("/a/b.txt", FilePath("a/b.txt")),
        ("/a/", FilePath("a", is_folder=True)),
        ("/a%20b+c", FilePath("a b+c")),
        ("/%c3%a9", FilePath("é")),
        ("/é", FilePath("é")),
        ("/a%zz", FilePath("a%zz")),
        ("/a%2520b", FilePath("a%20b")),
        ("/a\\b", FilePath("a\\b")),
        ("/...", FilePath("...", is_hidden=True)),
        ("/.git/config", FilePath(".git/config", is_hidden=True)),
        ("/%2egit", FilePath(".git", is_hidden=True)),
        ("/a/.b/", FilePath("a/.b", is_folder=True, is_hidden=True)),
        ("/.well-known/x", FilePath(".well-known/x")),
        ("/.well-known/.x", FilePath(".well-known/.x", is_hidden=True)),
        ("/.well-knownx", FilePath(".well-knownx", is_hidden=True)),
        ("/a%2fb", FilePath("a/b", is_hidden=True)),
        ("//a", FilePath("/a", has_empty_name=True)),
        ("/a//b", FilePath("a//b", has_empty_name=True)),
        ("//", FilePath("", is_folder=True, has_empty_name=True)),
        ("/a//", FilePath("a/", is_folder=True, has_empty_name=True)),
    ],
)
def test_paths(raw: str, expected: FilePath) -> None:
    assert parse_path(raw) == expected


@pytest.mark.parametrize("raw", ["/a%00", "/%ff", "/%c0%ae%c0%ae/", "/a%00/b", "/%ed%a0%80"])
def test_invalid_paths(raw: str) -> None:
    with pytest.raises(BadRequest):
        parse_path(raw)


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/docs", None, "docs/"),
        ("/a/docs", "b=c&d", "docs/?b=c&d"),
        ("/a%20b", "", "a%20b/"),
        ("/a:b", None, "./a:b/"),
        ("/javascript:alert(1)", None, "./javascript:alert(1)/"),
        ("/é", None, "%C3%A9/"),
        ('/a"b<c>', None, "a%22b%3Cc%3E/"),
        ("/a\\b", None, "a%5Cb/"),
    ],
)
def test_location_of_a_folder(path: str, query: str | None, expected: str) -> None:
    assert folder_location(path, query) == expected
