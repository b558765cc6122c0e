"""Preconditions and ranges."""

from __future__ import annotations

import pytest

from wagi.static.conditions import (
    ByteRange,
    UnsatisfiableRangeError,
    Validators,
    check_preconditions,
    format_date,
    parse_date,
    relevant_fields,
    select_range,
)

pytestmark = pytest.mark.fast

MODIFIED = 784111777
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
EARLIER, LATER = format_date(MODIFIED - 1), format_date(MODIFIED + 1)
FILE = Validators('"abc"', MODIFIED)
UNDATED = Validators('"abc"', None)
UNTAGGED = Validators(None, MODIFIED)


@pytest.mark.parametrize(
    "text", [DATE, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
)
def test_dates(text: str) -> None:
    """RFC 9110 §5.6.7."""
    assert parse_date(text) == MODIFIED


@pytest.mark.parametrize(
    "text",
    ["", "x", "0", "Sun, 99 Nov 1994 08:49:37 GMT", f"{DATE}, {DATE}", "x" * 100_000, '"abc"',
     "Sun, 06 Nov 99999999 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 +99999999999"],
)  # fmt: skip
def test_invalid_dates(text: str) -> None:
    assert parse_date(text) is None


@pytest.mark.parametrize(
    ("fields", "validators", "status"),
    [
        ({}, FILE, None),
        ({"if-none-match": '"abc"'}, FILE, 304),
        ({"if-none-match": 'W/"abc"'}, FILE, 304),
        ({"if-none-match": '"x", W/"y","abc"'}, FILE, 304),
        ({"if-none-match": "*"}, FILE, 304),
        ({"if-none-match": "abc"}, FILE, None),
        ({"if-none-match": '"abc'}, FILE, None),
        ({"if-none-match": '"abcd"'}, FILE, None),
        ({"if-none-match": '"x"', "if-modified-since": DATE}, FILE, None),
        ({"if-none-match": '"abc"'}, UNTAGGED, None),
        ({"if-modified-since": DATE}, FILE, 304),
        ({"if-modified-since": LATER}, FILE, 304),
        ({"if-modified-since": EARLIER}, FILE, None),
        ({"if-modified-since": "x"}, FILE, None),
        ({"if-modified-since": DATE}, UNDATED, None),
        ({"if-match": '"abc"'}, FILE, None),
        ({"if-match": '"x", "abc"'}, FILE, None),
        ({"if-match": "*"}, FILE, None),
        ({"if-match": 'W/"abc"'}, FILE, 412),
        ({"if-match": '"x"'}, FILE, 412),
        ({"if-match": ""}, FILE, 412),
        ({"if-match": '"abc"', "if-unmodified-since": EARLIER}, FILE, None),
        ({"if-unmodified-since": DATE}, FILE, None),
        ({"if-unmodified-since": EARLIER}, FILE, 412),
        ({"if-unmodified-since": EARLIER}, UNDATED, None),
        ({"if-unmodified-since": "x"}, FILE, None),
        ({"if-match": '"x"', "if-none-match": '"abc"'}, FILE, 412),
        ({"if-match": '"abc"', "if-none-match": '"abc"'}, FILE, 304),
        ({"if-match": '"x,y"'}, Validators('"x,y"', None), None),
    ],
)
def test_preconditions(fields: dict[str, str], validators: Validators, status: int | None) -> None:
    assert check_preconditions(fields, validators) == status


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-", (0, 10)),
        ("bytes=2-4", (2, 3)),
        ("bytes=2-99", (2, 8)),
        ("bytes=9-9", (9, 1)),
        ("bytes=-3", (7, 3)),
        ("bytes=-99", (0, 10)),
        ("BYTES=0-0", (0, 1)),
        ("bytes= 0-0 ", (0, 1)),
        ("bytes=0-0,", (0, 1)),
        ("bytes=000000000000000000000000-00", (0, 1)),
        ("bytes=0-" + "9" * 10_000, (0, 10)),
        ("bytes=-" + "9" * 10_000, (0, 10)),
        ("bytes=0-0,2-3", None),
        ("bytes=99-,98-", None),
        ("bytes=" + "0-," * 10_000, None),
        ("bytes=4-2", None),
        ("bytes=-", None),
        ("bytes=", None),
        ("bytes", None),
        ("bytes=a-b", None),
        ("bytes=0x1-2", None),
        ("bytes=١-٢", None),
        ("bytes=1 - 2", None),
        ("bytes=--1", None),
        ("items=0-1", None),
        ("bytes=0-1, bytes=0-1", None),
        ("", None),
    ],
)
def test_ranges(text: str, expected: tuple[int, int] | None) -> None:
    assert select_range({"range": text}, FILE, 10) == expected


@pytest.mark.parametrize(
    "text", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=" + "9" * 99 + "-"]
)
def test_unsatisfiable_ranges(text: str) -> None:
    with pytest.raises(UnsatisfiableRangeError):
        select_range({"range": text}, FILE, 10)
    assert select_range({"range": text}, FILE, 0) is None  # as in Go: an empty file is sent whole


@pytest.mark.parametrize(
    ("if_range", "validators", "applies"),
    [
        ('"abc"', FILE, True),
        ('W/"abc"', FILE, False),
        ('"x"', FILE, False),
        ('"abc"', UNTAGGED, False),
        (DATE, FILE, True),
        (EARLIER, FILE, False),
        (LATER, FILE, False),
        (DATE, UNDATED, False),
        ("x", UNDATED, False),
        ("", FILE, False),
    ],
)
def test_if_range(if_range: str, validators: Validators, applies: bool) -> None:
    fields = {"range": "bytes=0-0", "if-range": if_range}
    assert select_range(fields, validators, 10) == (ByteRange(0, 1) if applies else None)


def test_repeated_fields_are_joined() -> None:
    headers = [(b"If-None-Match", b'"a"'), (b"X", b"y"), (b"IF-NONE-MATCH", b'"\xff"')]
    assert relevant_fields(headers) == {"if-none-match": '"a", "\xff"'}
