"""Media types."""

from __future__ import annotations

import re

import pytest

from wagi.static.media_types import MEDIA_TYPES, media_type

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("index.html", "text/html; charset=utf-8"),
        ("a/B.HTML", "text/html; charset=utf-8"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.min.mjs", "text/javascript; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.txt", "text/plain; charset=utf-8"),
        ("a.json", "application/json"),
        ("a.svg", "image/svg+xml"),
        ("a.wasm", "application/wasm"),
        ("a.woff2", "font/woff2"),
        ("a.tar.gz", "application/gzip"),
        ("a", "application/octet-stream"),
        ("a.", "application/octet-stream"),
        ("a.unknown", "application/octet-stream"),
        ("html", "application/octet-stream"),
        ("x.html/LICENSE", "application/octet-stream"),
        (".html", "application/octet-stream"),
    ],
)
def test_types(path: str, expected: str) -> None:
    assert media_type(path) == expected


def test_the_table_is_well_formed() -> None:
    for extension, value in MEDIA_TYPES.items():
        assert re.fullmatch(r"[a-z0-9]+", extension)
        assert re.fullmatch(r"[a-z]+/[a-z0-9.+-]+(?:; charset=utf-8)?", value)
        assert value.startswith("text/") <= value.endswith("; charset=utf-8")
