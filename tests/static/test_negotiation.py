"""Accept-Encoding."""

from __future__ import annotations

import pytest

from wagi.static.negotiation import preferred_codings

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", ""),
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("x-gzip", "gzip"),
        ("gzip, deflate, br, zstd", "br zstd gzip"),
        ("gzip;q=1.0, br;q=0.5", "gzip br"),
        ("gzip;q=0", ""),
        ("gzip;q=0.000, br", "br"),
        ("*", "br zstd gzip"),
        ("*;q=0.1, br;q=0", "zstd gzip"),
        ("gzip, *;q=0", "gzip"),
        ("identity", ""),
        ("identity, gzip", "gzip"),
        ("identity;q=1, gzip;q=0.5", ""),
        ("identity;q=0.5, gzip;q=0.5, br;q=0.4", "gzip"),
        ("identity;q=0", ""),
        ("deflate", ""),
        ("gzip ; q=0.5", "gzip"),
        ("gzip;Q=0.5", "gzip"),
        ("gzip;q=2, br;q=-1, zstd;q=x", ""),
        ("gzip;q=0.1234, br", "br"),
        ("gzip;level=9", ""),
        (", ,gzip,,", "gzip"),
        ("gz ip, g\x00zip", ""),
        ("gzip," * 1000, ""),
        (" " * 1000 + ";", ""),
    ],
)
def test_preferred_codings(accept: str, expected: str) -> None:
    assert " ".join(coding.name for coding in preferred_codings(accept)) == expected
