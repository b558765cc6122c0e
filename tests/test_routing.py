"""Patterns, tables and dynamic routes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wagi.routing import RoutePattern, RouteTable, dynamic_routes, has_dot_segment

pytestmark = pytest.mark.fast

segments = st.lists(st.sampled_from(["a", "b", "ab", "", "%2e", "..."]), max_size=4)
paths = segments.map(lambda parts: "/" + "/".join(parts))
patterns = st.builds(
    lambda parts, wildcard: "/" + "/".join(parts) + ("/..." if wildcard else ""),
    st.lists(st.sampled_from(["a", "b", "ab", ""]), max_size=3),
    st.booleans(),
)


def matches(pattern: str, path: str) -> bool:
    """The definition in docs/contract.md, literally."""
    if pattern.endswith("/..."):
        stem = pattern[:-4]
        return path == stem or path.startswith(stem + "/")
    return path == pattern


@given(st.lists(patterns, max_size=6), paths)
def test_the_first_match_is_used(texts: list[str], path: str) -> None:
    table = RouteTable((RoutePattern.parse(text), text) for text in texts)
    expected = next((text for text in texts if matches(text, path)), None)
    match = table.match(path)
    assert (match.target if match else None) == expected
    if match:
        stem = match.pattern.stem
        assert path == (stem + match.raw_path_info if match.pattern.wildcard else stem)


@given(patterns, patterns, paths)
def test_a_covering_pattern_matches_more(first: str, second: str, path: str) -> None:
    if first in RoutePattern.parse(second).covering_wildcards() and matches(second, path):
        assert matches(first, path)


@pytest.mark.parametrize("text", ["", "x", "...", "/a/.../b", "/.../...", "/a?b", "/a#b/..."])
def test_bad_patterns(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        RoutePattern.parse(text)


@pytest.mark.parametrize(
    ("text", "script_name"),
    [("/", "/"), ("/...", "/"), ("/env/...", "/env"), ("/env", "/env"), ("/a//...", "/a/")],
)
def test_script_name(text: str, script_name: str) -> None:
    assert RoutePattern.parse(text).script_name == script_name


def test_dynamic_routes_are_joined_and_reversed() -> None:
    parent = RoutePattern.parse("/parent/...")
    routes = dynamic_routes(parent, "one first\n\n /two/...  second \n")
    assert [(pattern.text, name) for pattern, name in routes] == [
        ("/parent/two/...", "second"),
        ("/parent/one", "first"),
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/../b", True),
        ("/%2e", True),
        ("/a%2f..%2Fb", True),
        ("/a/...", False),
        ("/a.b/%2e%2ea", False),
        ("/a%252e", False),
    ],
)
def test_dot_segments(path: str, expected: bool) -> None:
    assert has_dot_segment(path) is expected


@pytest.mark.parametrize(
    ("route", "instead"),
    [
        ("/a/*", "/a/..."),
        ("/*", "/..."),
        ("/a/*.html", "/a/..."),
        ("/b/{id}", "/b/..."),
        ("/b/{id}/c/{x}", "/b/..."),
        ("/b/:id", "/b/..."),
        ("/b/<id>/...", "/b/..."),
        ("/b/[id]", "/b/..."),
        ("/c...", "/c/..."),
        ("/a", None),
        ("/a/...", None),
        ("/a:b", None),
        ("/a/12:30", None),
        ("/a.b..", None),
    ],
)
def test_patterns_of_other_routers(route: str, instead: str | None) -> None:
    hint = RoutePattern.parse(route).literal_hint()
    assert (hint is None) == (instead is None)
    if hint is not None:
        assert "only literally" in hint
        assert f"write {instead}" in hint


def test_an_optional_slash() -> None:
    """Only of exact routes, and only one; other routes of that path keep their precedence."""
    texts = ("/a", "/b/...", "/", "/a/b/", "/a/...")
    patterns = [replace(RoutePattern.parse(text), optional_slash=True) for text in texts]
    table = RouteTable((pattern, pattern.text) for pattern in patterns)

    def found(path: str) -> str | None:
        match = table.match(path)
        return match.target if match else None

    assert [found(path) for path in ("/a", "/a/", "/a//", "/a/x", "/b/", "/ab/", "/")] == [
        "/a", "/a", "/a/...", "/a/...", "/b/...", None, "/",
    ]  # fmt: skip
    match = table.match("/a/")
    assert match is not None
    assert match.raw_path_info == ""
    assert RouteTable([(RoutePattern.parse("/a"), "")]).match("/a/") is None
