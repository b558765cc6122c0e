"""Variables and arguments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wagi.cgi.environment import BadRequest, RequestHead, RouteVariables, arguments


def head(
    headers: list[tuple[bytes, bytes]], path: str = "/r", query: str | None = None
) -> RequestHead:
    return RequestHead(
        method="GET",
        path=path,
        query=query,
        protocol="HTTP/1.1",
        headers=headers,
        content_length=0,
        scheme="http",
        server_name="example.com",
        server_port="80",
        remote_address="192.0.2.1",
    )


def environment(headers: list[tuple[bytes, bytes]], **configured: str) -> dict[str, str]:
    variables = RouteVariables.prepare("/r", "/r", configured).environment(head(headers), "")
    pairs = [line.decode().split("=", 1) for line in variables]
    assert len({name for name, _ in pairs}) == len(pairs), "a variable is there twice"
    return dict(pairs)  # type: ignore[arg-type]


token = st.text("abcXYZ-_09!", min_size=1, max_size=12).map(str.encode)
value = st.binary(max_size=12)


@given(st.lists(st.tuples(token, value), max_size=8))
def test_any_headers(headers: list[tuple[bytes, bytes]]) -> None:
    """Each variable is there once, and no header can make one that is not its own."""
    try:
        found = environment(headers)
    except BadRequest:
        return
    own = environment([])
    for name in found.keys() - own.keys():
        assert name.startswith("HTTP_")
    for name in own.keys() - {"CONTENT_TYPE"}:
        assert found[name] == own[name]


def test_header_like_configuration_yields_to_the_request() -> None:
    assert environment([], HTTP_X="configured")["HTTP_X"] == "configured"
    assert environment([(b"X", b"sent")], HTTP_X="configured")["HTTP_X"] == "sent"


def test_own_headers_have_variables_of_their_own() -> None:
    found = environment([(b"Content-Type", b"a/b"), (b"content-length", b"99")])
    assert found["CONTENT_TYPE"] == "a/b"
    assert found["CONTENT_LENGTH"] == "0"
    assert not [name for name in found if "HTTP_CONTENT" in name]


@pytest.mark.parametrize("bad", [b"\xff", b"a\x00b"])
def test_values_that_cannot_be_carried(bad: bytes) -> None:
    with pytest.raises(BadRequest):
        environment([(b"X", bad)])


@pytest.mark.parametrize(
    ("template", "query", "expected"),
    [
        (None, None, ["/r"]),
        (None, "", ["/r"]),
        (None, "a&b=%20", ["/r", "a", "b=%20"]),
        ("", "a", []),
        ("x ${ARGS} y", "a&b", ["x", "a", "b", "y"]),
        ("x ${ARGS} y", None, ["x", "y"]),
        ("--q=${ARGS}", "a&b c", ["--q=a b c"]),
        ("${SCRIPT_NAME}${SCRIPT_NAME}", "${ARGS}", ["/r/r"]),
        ("-${ARGS}", "${SCRIPT_NAME}", ["-${SCRIPT_NAME}"]),
    ],
)
def test_arguments(template: str | None, query: str | None, expected: list[str]) -> None:
    assert arguments(template, "/r", query) == [word.encode() for word in expected]


@given(st.text("ab &${}ARGS", max_size=20))
def test_a_client_cannot_add_words_to_the_fixed_part(query: str) -> None:
    words = arguments("fixed ${ARGS}", "/r", query)
    assert words[0] == b"fixed"
    assert len(words) == 1 + (len(query.split("&")) if query else 0)
