"""Excerpts of files: the line, and a marker below the mistake."""

from __future__ import annotations

import time

import pytest

from wagi.excerpt import excerpt

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("source", "column", "width", "expected"),
    [
        ('rout = "/a"', 1, 4, ['7 | rout = "/a"', "  | ^^^^"]),
        ("a = ", 5, 1, ["7 | a =", "  |    ^"]),
        ("a = b c  \r", 5, 0, ["7 | a = b c", "  |     ^^^"]),
        ("a = b", 0, 0, ["7 | a = b"]),
        ("\ta = x", 6, 1, ["7 |     a = x", "  |         ^"]),
        ("a\tb", 3, 1, ["7 | a    b", "  |      ^"]),
        ("名 = x", 5, 1, ["7 | 名 = x", "  |      ^"]),
        ("a = 名前", 5, 2, ["7 | a = 名前", "  |     ^^^^"]),
        ("e\u0301 = x", 6, 1, ["7 | e\u0301 = x", "  |     ^"]),
        ("\x1b[1m = \x9b1m", 8, 1, ["7 | \\x1b[1m = \\x9b1m", "  |           ^^^^"]),
        ("a = \u202ex\u2028", 5, 1, ["7 | a = \\u202ex", "  |     ^^^^^^"]),
        ("a", 9, 4, ["7 | a", "  |  ^"]),
    ],
    ids=["key", "end", "rest", "line", "tab", "tab-inside", "wide", "wide-marked", "combining",
         "escape", "bidi", "behind"],
)  # fmt: skip
def test_excerpts(source: str, column: int, width: int, expected: list[str]) -> None:
    assert excerpt(source, 7, column, width, 80).splitlines() == expected


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/m.wasm?token=abc", "https://h/m.wasm?*********"),
        ("https://h/m.wasm?a=1#b", "https://h/m.wasm?***#b"),
        ("https://user:pass@h/m", "https://*********@h/m"),
        ("oci://h/m@sha256:12", "oci://h/m@sha256:12"),
    ],
)
def test_secrets_of_urls_are_hidden(url: str, shown: str) -> None:
    """The marker stays where it is."""
    expected = [f'7 | module = "{shown}"', "  |          " + "^" * (len(url) + 2)]
    assert excerpt(f'module = "{url}"', 7, 10, len(url) + 2, 80).splitlines() == expected


@pytest.mark.parametrize("column", [1, 20, 100, 250, 299, 300])
def test_long_lines_are_clipped(column: int) -> None:
    """The mistake stays in sight."""
    source = "".join(chr(ord("a") + at % 26) for at in range(300))
    shown, marker = excerpt(source, 12, column, 1, 60).splitlines()
    assert len(shown) <= 60
    assert shown[marker.index("^")] == source[column - 1]
    assert ("…" in shown[:8]) == (column > 60)
    assert shown.endswith("…") == (column < 260)


def test_a_mistake_longer_than_the_terminal() -> None:
    shown, marker = excerpt("k = " + "x" * 200, 1, 5, 200, 60).splitlines()
    assert len(shown) <= 60
    assert len(marker) <= 60


def test_huge_lines() -> None:
    started = time.process_time()
    excerpt("x" * 1_000_000, 1, 500_000, 0, 80)
    assert time.process_time() - started < 1
