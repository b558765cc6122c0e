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
        ("unix:x,mode=0666", UnixPath(Path("x"), 0o666)),
        ("unix:/x,group=www-data,mode=620", UnixPath(Path("/x"), 0o620, "www-data")),
    ],
)
def test_listen(text: str, expected: object) -> None:
    assert parse_listen(text) == expected


@pytest.mark.parametrize("text", ["", "x", "x:", "x:y", "::1:3000", "[::g]:1", "x:65536", "unix:"])
def test_bad_listen(text: str) -> None:
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        parse_listen(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("unix:,mode=0660", "expected HOST:PORT"),
        ("unix:/x,owner=wagi", "expected mode=0660 or group=NAME after the path, found 'owner=w"),
        ("unix:/x,0660", "expected mode=0660 or group=NAME after the path, found '0660'"),
        ("unix:/x,mode=", "expected mode=0660 or group=NAME after the path, found 'mode='"),
        ("unix:/x,group=a,group=b", "expected one group, found 'a' and 'b'"),
        ("unix:/x,mode=rw", "expected a mode of three octal digits, such as 0660, found 'rw'"),
        ("unix:/x,mode=0o660", "expected a mode of three octal digits"),
        ("unix:/x,mode=0689", "expected a mode of three octal digits"),
        ("unix:/x,mode=4755", "expected a mode of three octal digits"),
        ("unix:/x,mode=0440", "mode 0440 lets no user connect: connecting requires write"),
    ],
)
def test_bad_options_of_a_unix_socket(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
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
