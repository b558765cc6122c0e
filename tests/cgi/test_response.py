"""The parser of a guest's output."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wagi.cgi.response import BadResponse, ResponseHead, ResponseParser

lines = st.one_of(
    st.sampled_from(
        [b"Content-Type: a", b"Status: 404 x", b"Location: /", b"X: \r", b"no colon", b"", b"\r"]
    ),
    st.binary(max_size=20),
)
outputs = st.one_of(
    st.lists(lines, max_size=6).map(b"\n".join),
    st.lists(lines, max_size=6).map(b"\r\n".join),
    st.binary(max_size=100),
)


def parse(pieces: list[bytes], limit: int = 64) -> tuple[ResponseHead, bytes] | str:
    """Head and body, or the reason why there are none."""
    parser = ResponseParser(limit)
    body = b""
    try:
        for piece in pieces:
            parser.feed(piece)
            if parser.head() is not None:
                body += parser.take_body()
        return parser.end(), body + parser.take_body()
    except BadResponse as error:
        return f"{error.status} {error}"


@given(outputs, st.lists(st.integers(0, 200), max_size=8))
@example(b"Status: 200\r\n\r\nbody", [12, 13, 14, 15])
@example(b"X: " + b"a" * 61 + b"\r\n\r\n", [66, 67])
def test_cuts_make_no_difference(output: bytes, cuts: list[int]) -> None:
    """The same result however the input is cut into pieces."""
    places = [0, *sorted(min(cut, len(output)) for cut in cuts), len(output)]
    pieces = [output[start:end] for start, end in pairwise(places)]
    assert (
        parse(pieces) == parse([output]) == parse([output[i : i + 1] for i in range(len(output))])
    )


@given(outputs)
def test_headers_cannot_split_the_response(output: bytes) -> None:
    """Whatever a guest prints, no name and no value has a line end or a control character."""
    parsed = parse([output], 1000)
    if not isinstance(parsed, str):
        for name, value in parsed[0].headers:
            assert name
            assert not any(ord(c) < 32 and c != "\t" for c in name + value)
            assert ":" not in name


def head_of(block: str) -> ResponseHead:
    parser = ResponseParser(64 * 1024)
    parser.feed(block.encode() + b"\n\n")
    return parser.end()


def test_headers_that_can_be_there_once() -> None:
    head = head_of("Content-Type: a\ncontent-type: b\nStatus: 201\nStatus: 500")
    assert head.headers == (("Content-Type", "a"),)
    assert head.status == 201
    assert len(head.warnings) == 2


def test_space_around_values() -> None:
    assert head_of("Content-Type: \t a b \t").headers == (("Content-Type", "a b"),)


@pytest.mark.parametrize("value", ["-1", "1 2", "x", "", "9" * 30, "+4", "٣"])
def test_content_length_that_is_no_number(value: str) -> None:
    assert head_of(f"Status: 200\nContent-Length: {value}").content_length is None


def test_warnings_are_bounded() -> None:
    assert len(head_of("Status: 200\n" + "x\n" * 1000 + "y").warnings) == 11
