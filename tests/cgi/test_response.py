"""The parser of a guest's output."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wagi.cgi.response import BadResponse, ResponseHead, ResponseParser

pytestmark = pytest.mark.fast

LARGE = 64 * 1024
LINE_ENDS = [b"\n", b"\r\n", b"\r\r\n"]

line_ends = st.sampled_from([*LINE_ENDS, b"\r\r\r\n", b"\r"])
lines = st.one_of(
    st.sampled_from(
        [
            *(b"Content-Type: a", b"Status: 404 x", b"Location: /", b"Status : 40", b"X: \xe9"),
            *(b"X: \r", b"no colon", b"", b"  ", b"  X-A: 1", b"HTTP/1.1 404 Not Found"),
            *(b"Content-Length: 4", b"Content-Length: 04", b"Content-Length: 5"),
        ]
    ),
    st.binary(max_size=20),
)
blocks = st.lists(st.tuples(lines, line_ends).map(b"".join), max_size=6).map(b"".join)
outputs = st.one_of(
    blocks,
    st.tuples(blocks, *[st.sampled_from(LINE_ENDS)] * 2, st.binary(max_size=20)).map(b"".join),
    st.binary(max_size=100),
)
limits = st.integers(20, 120)


def parse(pieces: list[bytes], limit: int = LARGE) -> tuple[ResponseHead, bytes] | str:
    """Return the head and body, or the error; check how much the parser buffers."""
    parser = ResponseParser(limit)
    body = b""
    try:
        for piece in pieces:
            buffered = parser.buffered
            parser.feed(piece)
            assert parser.buffered == buffered + len(piece)
            if parser.head() is not None:
                body += parser.take_body()
                assert parser.buffered == 0
        head = parser.end()
    except BadResponse as error:
        return f"{error.status} {error.reason}"
    body += parser.take_body()
    assert parser.take_body() == b""
    return head, body


def parse_at_once(output: bytes, limit: int = LARGE) -> tuple[ResponseHead, bytes] | str:
    """Parse output that a guest writes with one call before it ends."""
    parser = ResponseParser(limit)
    parser.feed(output)
    try:
        return parser.end(), parser.take_body()
    except BadResponse as error:
        return f"{error.status} {error.reason}"


def head_of(block: bytes | str) -> ResponseHead:
    parser = ResponseParser(LARGE)
    parser.feed((block.encode() if isinstance(block, str) else block) + b"\n\n")
    return parser.end()


def error_of(output: bytes) -> BadResponse:
    parser = ResponseParser(LARGE)
    parser.feed(output)
    with pytest.raises(BadResponse) as caught:
        parser.end()
    return caught.value


# How the output is split


@given(outputs, st.lists(st.integers(0, 200), max_size=8), limits)
@example(b"Status: 200\r\n\r\nbody", [12, 13, 14, 15], 64)
@example(b"Status: 200\r\r\n\r\r\nbody", [11, 12, 13, 14, 15, 16, 17], 64)
@example(b"\r\r\nStatus: 200\n\r\r\nbody", [1, 2, 3, 15, 16, 17], 64)
@example(b"X: " + b"a" * 61 + b"\r\n\r\n", [66, 67], 64)
@example(b"Status: 200\r\r\n\r\r\nbody", [11, 12, 13, 14, 15, 16], 17)
@example(b"Status: 200\r\r\n\r\r\nbody", [11, 12, 13, 14, 15, 16], 16)
def test_results_do_not_depend_on_splits(output: bytes, cuts: list[int], limit: int) -> None:
    places = [0, *sorted(min(cut, len(output)) for cut in cuts), len(output)]
    pieces = [output[start:end] for start, end in pairwise(places)]
    whole = parse_at_once(output, limit)
    assert parse([output], limit) == whole
    assert parse(pieces, limit) == whole
    assert parse([output[i : i + 1] for i in range(len(output))], limit) == whole


@given(outputs)
def test_the_header_limit_is_exact(output: bytes) -> None:
    """A header block of exactly the limit is accepted; one more byte is too large."""
    parsed = parse_at_once(output)
    if not isinstance(parsed, str):
        size = len(output) - len(parsed[1])
        assert parse_at_once(output, size) == parsed
        assert (
            parse_at_once(output, size - 1)
            == "500 The handler's header block is too large (header_limit)."
        )


@pytest.mark.parametrize("end", LINE_ENDS)
def test_the_limit_includes_the_empty_line(end: bytes) -> None:
    block = b"Status: 201" + end + end
    for pieces in ([block + b"body"], [block[i : i + 1] for i in range(len(block))] + [b"body"]):
        parsed = parse(pieces, len(block))
        assert not isinstance(parsed, str)
        assert (parsed[0].status, parsed[1]) == (201, b"body")
        assert (
            parse(pieces, len(block) - 1)
            == "500 The handler's header block is too large (header_limit)."
        )


def test_no_empty_line_within_the_limit() -> None:
    """Output of exactly the limit may still be completed; one more byte is too large."""
    parser = ResponseParser(64)
    parser.feed(b"x" * 64)
    assert parser.head() is None
    parser.feed(b"x")
    with pytest.raises(BadResponse, match="too large"):
        parser.head()


def test_a_large_body_is_copied_once() -> None:
    size = 1 << 20
    output = b"Status: 200\n\n" + bytes(size)
    parser = ResponseParser(LARGE)
    tracemalloc.start()
    try:
        parser.feed(output)
        parser.end()
        assert parser.buffered == size
        body = parser.take_body()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert body == bytes(size)
    assert parser.buffered == 0
    assert size <= peak < size * 1.5
    # After the head, pieces of the body are passed on unchanged.
    parser.feed(body)
    assert parser.take_body() is body


# Output that must not reach the client


@given(outputs)
def test_headers_cannot_split_the_response(output: bytes) -> None:
    """No header name or value contains a line end or control character."""
    parsed = parse([output])
    if isinstance(parsed, str):
        return
    assert 200 <= parsed[0].status <= 599
    for name, value in parsed[0].headers:
        assert name
        assert not any((byte < 32 and byte != 9) or byte == 127 for byte in name + value)
        assert not set(name) & set(b": \t\r\n")
        assert value == value.strip()
        assert name.lower() not in (b"status", b"content-length", b"transfer-encoding")


@given(outputs, st.sampled_from(LINE_ENDS))
def test_an_empty_first_line_makes_no_difference(output: bytes, first: bytes) -> None:
    if not output.startswith((b"\n", b"\r")):
        assert parse_at_once(first + output) == parse_at_once(output) or not output


header_lines = st.lists(
    st.tuples(
        st.sampled_from([b"Content-Type", b"Status", b"Location", b"X-A", b"Content-Length"]),
        st.sampled_from([b"1", b"404", b"a b", b"/caf\xe9", b"a\0b", b""]),
    ),
    min_size=1,
    max_size=5,
)


@given(header_lines, st.data())
def test_line_ends_and_white_space_make_no_difference(
    fields: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    def blanks() -> bytes:
        return data.draw(st.sampled_from([b"", b" ", b"\t", b"    "]))

    def line_end() -> bytes:
        return data.draw(st.sampled_from(LINE_ENDS))

    plain = b"".join(b"%s: %s\n" % field for field in fields) + b"\nbody"
    printed = b"".join(
        b"".join((blanks(), name, blanks(), b":", blanks(), value, blanks(), line_end()))
        for name, value in fields
    )
    assert parse_at_once(printed + line_end() + b"body") == parse_at_once(plain)


# Samples. Comments give the results of the original: compose_response in handlers.rs of
# deislabs/wagi 0.8.1.

CONTENT = ((b"Content-Type", b"a/b"),)

SAME_AS_THE_ORIGINAL: dict[bytes, tuple[int, tuple[tuple[bytes, bytes], ...], bytes]] = {
    b"Content-Type: a/b\n\nx": (200, CONTENT, b"x"),
    b"Content-Type: a/b\r\n\r\nx": (200, CONTENT, b"x"),
    b"Content-Type: a/b\r\r\n\r\r\nx": (200, CONTENT, b"x"),
    b"Content-Type: a/b\r\r\n\r\nx": (200, CONTENT, b"x"),
    b"Content-Type: a/b\n\r\r\nx": (200, CONTENT, b"x"),
    b"Content-Type: a/b\n\n\n\r\nx": (200, CONTENT, b"\n\r\nx"),
    b"\nContent-Type: a/b\n\nx": (200, CONTENT, b"x"),
    b"\r\nContent-Type: a/b\n\nx": (200, CONTENT, b"x"),
    b"\r\r\nContent-Type: a/b\n\nx": (200, CONTENT, b"x"),
    b"\n    Content-Type: a/b\n    X-A: 1\n\n    x": (200, (*CONTENT, (b"X-A", b"1")), b"    x"),
    # A line of white space is neither an empty line nor a header.
    b"  \nContent-Type: a/b\n  \nX-A: 1\n\nx": (200, (*CONTENT, (b"X-A", b"1")), b"x"),
    b"Content-Type : a/b\nX-A\t:1\n\n": (200, (*CONTENT, (b"X-A", b"1")), b""),
    b"Content-Type:\ta/b \t\n\n": (200, CONTENT, b""),
    b"Content-Type: c/d\nContent-Type: a/b\n\n": (200, CONTENT, b""),
    b"Location: /a\nLocation: /b\n\n": (302, ((b"Location", b"/b"),), b""),
    b"Location:\n\n": (302, ((b"Location", b""),), b""),
    b"Status: 404\nStatus: 410\n\n": (410, (), b""),
    b"Status:404\n\n": (404, (), b""),
    b"Status:\t404\n\n": (404, (), b""),
    b"Status: 404 a\0b\n\n": (404, (), b""),
    b"HTTP/1.0 404 Not Found\nStatus: 410\n\n": (410, (), b""),
    b"Location: /caf\xc3\xa9\n\n": (302, ((b"Location", b"/caf\xc3\xa9"),), b""),
    b"Location: /x\nStatus: 301\n\n": (301, ((b"Location", b"/x"),), b""),
    # An indented line is a separate header, never a continuation line.
    b"Status: 200\nX-A: 1\n  2\n\n": (200, ((b"X-A", b"1"),), b""),
    b"Status: 200\nX-A: 1\n  X-B: 2\n\n": (200, ((b"X-A", b"1"), (b"X-B", b"2")), b""),
}
OTHER_THAN_THE_ORIGINAL: dict[bytes, tuple[int, tuple[tuple[bytes, bytes], ...], bytes]] = {
    # The original ignores a status line: 200, or 500 without another control header.
    b"HTTP/1.1 404 Not Found\nContent-Type: a/b\n\n": (404, CONTENT, b""),
    b"HTTP/1.1 404 Not Found\r\n\r\nx": (404, (), b"x"),
    b"\n  HTTP/1.0 404\n\n": (404, (), b""),
    b"HTTP/1.1 301 Moved\nLocation: /x\n\n": (301, ((b"Location", b"/x"),), b""),
    # It ends the number at a space only: 502.
    b"Status: 404Not\n\n": (404, (), b""),
    b"Status: 404;x\n\n": (404, (), b""),
    b"Status: 404\tNot\n\n": (404, (), b""),
    b"Status: 404\0\n\n": (404, (), b""),
    # It requires UTF-8: 500.
    b"Status: 404 Non trouv\xe9\n\n": (404, (), b""),
    b"Location: /caf\xe9\n\n": (302, ((b"Location", b"/caf\xe9"),), b""),
    b"Status: 200\nX-A: \x80\xff\n\n": (200, ((b"X-A", b"\x80\xff"),), b""),
    # It keeps only the last one.
    b"Status: 200\nX-A: 1\nX-A: 2\n\n": (200, ((b"X-A", b"1"), (b"X-A", b"2")), b""),
    # It uses 302 if Location comes last.
    b"Status: 301\nLocation: /x\n\n": (301, ((b"Location", b"/x"),), b""),
    # It removes every CR, and fails on other control characters.
    b"Status: 200\nX-A: a\rb\n\n": (200, (), b""),
    b"Status: 200\nX-A: a\x07b\n\n": (200, (), b""),
}


@pytest.mark.parametrize(
    ("output", "expected"), [*SAME_AS_THE_ORIGINAL.items(), *OTHER_THAN_THE_ORIGINAL.items()]
)
def test_samples(
    output: bytes, expected: tuple[int, tuple[tuple[bytes, bytes], ...], bytes]
) -> None:
    parsed = parse_at_once(output)
    assert not isinstance(parsed, str), parsed
    head, body = parsed
    assert (head.status, head.headers, body) == expected


@pytest.mark.parametrize(
    ("output", "status", "reason"),
    [
        (b"", 500, "printed nothing"),
        (b"Content-Type: a/b\n", 500, "printed no empty line"),
        (b"\nbody", 500, "printed no empty line"),
        (b"\n\nContent-Type: a/b\n\n", 500, "none of the headers"),
        (b"X-A: 1\n\n", 500, "none of the headers"),
        # A status line is accepted in the first line only.
        (b"X-A: 1\nHTTP/1.1 404 Not Found\n\n", 500, "none of the headers"),
        (b"HTTP/2 404\n\n", 500, "none of the headers"),
        (b"HTTP/1.1404 x\n\n", 500, "none of the headers"),
    ],
)
def test_no_header_block(output: bytes, status: int, reason: str) -> None:
    error = error_of(output)
    assert error.status == status
    assert reason in error.reason


@pytest.mark.parametrize(
    "value",
    [
        *("100", "101 Switching Protocols", "199", "600", "999", "99", "0", "4040", "0404"),
        *("+200", "-200", "2e2", "", "fine", "x404", '"404"', "40 4", "\u0664\u0660\u0664", "\0"),
        "\xa0404",
    ],
)
@pytest.mark.parametrize("form", ["Status: {}\n\n", "HTTP/1.1 {}\nContent-Type: a/b\n\n"])
def test_an_invalid_status(value: str, form: str) -> None:
    """An error, never the default 200; the value is logged but not sent to the client."""
    output = form.format(value).encode()
    error = error_of(output)
    assert error.status == 502
    assert str(error) == "The handler's Status is not a number from 200 to 599."
    assert error.reason.endswith(f"599: found {value.encode().decode('latin-1')!a}")


@pytest.mark.parametrize("code", [200, 204, 299, 302, 404, 499, 599])
def test_lowest_and_highest_status(code: int) -> None:
    assert head_of(f"Status: {code}").status == code
    assert head_of(f"Status: {code} x").status == code


@pytest.mark.parametrize("name", ["Location", "Content-Type", "location", "CONTENT-TYPE"])
@pytest.mark.parametrize("character", ["\0", "\r", "\x07", "\x1b", "\x7f", "\x0b"])
def test_an_invalid_control_header(name: str, character: str) -> None:
    """A failed redirect must not become a 200, even beside a valid control header."""
    for others in ("", "Status: 301\n", "X-A: 1\n"):
        error = error_of(f"{others}{name}: a{character}b\n\n".encode())
        assert error.status == 502
        assert f"The handler's {name.title()} header has a control character (0x" in str(error)
        assert "found 'a" in error.reason


def test_an_overridden_control_header_is_not_an_error() -> None:
    """The last one takes precedence, so an earlier invalid one does not matter."""
    head = head_of("Location: /a\0b\nLocation: /c\nStatus: fine\nStatus: 307")
    assert (head.status, head.headers) == (307, ((b"Location", b"/c"),))
    assert [warning.split(":")[0] for warning in head.warnings] == [
        "ignored header 'Location' with the value '/a\\x00b'",
        "ignored header 'Status' with the value 'fine'",
    ]
    error = error_of(b"Location: /c\nLocation: /a\0b\n\n")
    assert error.status == 502


def test_equal_control_headers_cause_no_warning() -> None:
    assert head_of("Content-Type: a/b\ncontent-type: a/b").warnings == ()


@pytest.mark.parametrize("line", ["X Y: 1", "no colon", ": 1", "X\xe9: 1", "X\0: 1", "X-A: a\0b"])
def test_other_invalid_headers(line: str) -> None:
    """They are dropped with a warning that names them."""
    head = head_of(f"Status: 200\n{line}\nX-B: 2")
    assert head.headers == ((b"X-B", b"2"),)
    name = line.encode().decode("latin-1").partition(":")[0]
    assert [warning.partition(": the ")[0] for warning in head.warnings] == [
        f"dropped header {name!a}"
    ]


def test_hop_by_hop_headers() -> None:
    names = ["Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade", "TE", "Trailer", "Proxy-X"]
    head = head_of("Status: 200\n" + "".join(f"  {name} : x\n" for name in names) + "X-A: 1")
    assert head.headers == ((b"X-A", b"1"),)
    assert head.warnings == ()


# Content-Length


@pytest.mark.parametrize(
    "values", [["4"], ["4", "4"], ["4", "04", " 4 "], ["000000000000000004"]], ids=repr
)
def test_equal_content_lengths_are_merged(values: list[str]) -> None:
    head = head_of("Status: 200\n" + "\n".join(f"Content-Length: {value}" for value in values))
    assert head.content_length == 4
    assert (head.headers, head.warnings) == ((), ())


@pytest.mark.parametrize(
    "values",
    [
        *(["-1"], ["1 2"], ["x"], [""], ["9" * 30], ["+4"], ["\u0663"], ["4, 4"], ["4\0"], ["0x4"]),
        *(["4", "5"], ["4", "x"], ["x", "4"], ["4", "4", "5"], ["x", "x"]),
    ],
    ids=repr,
)
def test_invalid_content_lengths(values: list[str]) -> None:
    """An invalid or conflicting length is ignored; the actual length is used."""
    head = head_of("Status: 200\n" + "\n".join(f"Content-Length: {value}" for value in values))
    assert head.content_length is None
    assert head.headers == ()
    assert len(head.warnings) == 1
    assert "dropped header 'Content-Length': expected one number of bytes" in head.warnings[0]


# Warnings


def test_warnings_are_bounded() -> None:
    warnings = head_of("Status: 200\n" + "x\n" * 1000 + "y").warnings
    assert len(warnings) == 11
    assert warnings[-1] == "and 991 more of these"
    large = "Status: 200\n" + ("x" * 10_000 + ": \0\nContent-Type: " + "y" * 10_000 + "\n") * 2
    assert max(map(len, head_of(large + "Content-Type: a/b").warnings)) < 200


def test_warnings_are_printable() -> None:
    head = head_of(b"Status: 200\n\x1b[31m\xff: 1")
    assert all(warning.isascii() and warning.isprintable() for warning in head.warnings)
