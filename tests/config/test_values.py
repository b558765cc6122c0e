"""Values of options and keys: sizes, addresses, pairs."""

from __future__ import annotations

from pathlib import Path

import pytest

from wagi.config.values import (
    HostPort,
    UnixPath,
    parse_listen,
    parse_pair,
    parse_size,
)

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("value", "size"),
    [(0, 0), (5, 5), ("64MiB", 64 << 20), ("1 GiB", 1 << 30), ("2k", 2048), ("3MB", 3_000_000)],
)
def test_sizes(value: object, size: int) -> None:
    assert parse_size(value) == size


@pytest.mark.parametrize("value", [-1, 1.5, True, "", "x", "1XB", "-1", "1.5MiB", None])
def test_bad_sizes(value: object) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        parse_size(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:3000", HostPort("127.0.0.1", 3000)),
        (":80", HostPort("", 80)),
        ("[::1]:0", HostPort("[::1]", 0)),
        ("localhost:1", HostPort("localhost", 1)),
        ("unix:/run/x", UnixPath(Path("/run/x"))),
    ],
)
def test_listen(text: str, expected: object) -> None:
    assert parse_listen(text) == expected


@pytest.mark.parametrize("text", ["", "x", "x:", "x:y", "::1:3000", "[::g]:1", "x:65536", "unix:"])
def test_bad_listen(text: str) -> None:
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        parse_listen(text)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("A=1", ("A", "1")),
        ("A=", ("A", "")),
        ("A=b=c", ("A", "b=c")),
        ("A='b'", ("A", "b")),
        ('A="b"', ("A", "b")),
        ("A=\"'b'\"", ("A", "'b'")),
        ("A='b", ("A", "'b")),
    ],
)
def test_pairs(text: str, pair: tuple[str, str]) -> None:
    """One pair of surrounding quotes is removed; a value may be empty."""
    assert parse_pair(text) == pair
