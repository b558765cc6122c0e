"""CGI variables and arguments."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.strings import block
from tests.support.variables import DROPPED, HEAD, parsed
from wagi.cgi.environment import BadRequest, RouteVariables, arguments

pytestmark = pytest.mark.fast

Headers = list[tuple[bytes, bytes]]


def environment(
    headers: Headers, pass_authorization: bool = False, **configured: str
) -> dict[str, str]:
    route = RouteVariables.prepare("/r", "/r", configured, pass_authorization)
    return parsed(route.environment(HEAD._replace(headers=headers), ""))


def variables_of(**fields: Any) -> dict[str, str]:
    """Return the variables of ``HEAD`` with some fields changed."""
    route = RouteVariables.prepare("/r", "/r", {})
    return parsed(route.environment(HEAD._replace(**fields), ""))


token = st.text("abcXYZ-_09!", min_size=1, max_size=12).map(str.encode)
known = st.sampled_from(["Authorization", "Content-Type", "Content-Length", "Host", *DROPPED])
name = token | known.map(str.encode) | known.map(lambda text: text.upper().encode())
value = st.binary(max_size=12)


@given(st.lists(st.tuples(name, value), max_size=8))
def test_arbitrary_headers(headers: Headers) -> None:
    """Each variable is set once and is valid UTF-8; only a NUL byte is an error."""
    dropped = (*DROPPED, "authorization")
    passed = {
        raw.decode().upper().replace("-", "_")
        for raw, _ in headers
        if b"_" not in raw and raw.decode().lower() not in dropped
    }
    try:
        found = environment(headers)
    except BadRequest:
        assert any(b"\0" in content for _, content in headers)
        return
    own = environment([])
    assert {f"HTTP_{variable}" for variable in passed} == found.keys() - own.keys()
    for variable in own.keys() - {"CONTENT_TYPE"}:
        assert found[variable] == own[variable]


@given(st.binary(max_size=12).filter(lambda content: b"\0" not in content))
def test_any_header_value_arrives_as_utf_8(content: bytes) -> None:
    """UTF-8 arrives unchanged; any other value is ISO-8859-1, converted to UTF-8."""
    try:
        expected = content.decode()
    except UnicodeDecodeError:
        expected = content.decode("iso-8859-1")
    assert environment([(b"X", content)])["HTTP_X"] == expected


def test_the_encoding_is_detected_per_value() -> None:
    found = environment([(b"X", b"caf\xe9"), (b"X", b"caf\xc3\xa9"), (b"Cookie", b"a=\xff")])
    assert found["HTTP_X"] == "café, café"
    assert found["HTTP_COOKIE"] == "a=ÿ"


def test_request_headers_override_header_like_configuration() -> None:
    assert environment([], HTTP_X="configured")["HTTP_X"] == "configured"
    assert environment([(b"X", b"sent")], HTTP_X="configured")["HTTP_X"] == "sent"


@pytest.mark.parametrize("variable", sorted({*variables_of(scheme="https")}))
def test_configuration_cannot_override_request_variables(variable: str) -> None:
    """Not even one that is unset for this request, such as HTTPS."""
    configured: dict[str, Any] = {variable: "configured"}
    assert environment([], **configured) == environment([])


def test_body_variables() -> None:
    """CONTENT_LENGTH is the actual length; the headers also appear as HTTP_* variables."""
    found = environment([(b"Content-Type", b"a/b"), (b"content-length", b"99")])
    assert found["CONTENT_TYPE"] == found["HTTP_CONTENT_TYPE"] == "a/b"
    assert (found["CONTENT_LENGTH"], found["HTTP_CONTENT_LENGTH"]) == ("0", "99")
    found = environment([])
    assert (found["CONTENT_TYPE"], found["CONTENT_LENGTH"]) == ("", "0")
    assert not [variable for variable in found if variable.startswith("HTTP_")]


@pytest.mark.parametrize("header", DROPPED)
@pytest.mark.parametrize("pass_authorization", [False, True])
def test_dropped_headers(header: str, pass_authorization: bool) -> None:
    own = environment([], pass_authorization)
    for written in (header, header.upper(), header.title()):
        assert environment([(written.encode(), b"x")], pass_authorization) == own


def test_authorization_is_passed_on_if_enabled() -> None:
    headers = [(b"aUTHORIZATION", b"Bearer secret")]
    assert environment(headers, pass_authorization=False) == environment([])
    found = environment(headers, pass_authorization=True)
    assert found["HTTP_AUTHORIZATION"] == "Bearer secret"


def test_dropping_authorization_keeps_a_configured_variable() -> None:
    """The operator's variable of the same name keeps its value."""
    headers = [(b"Authorization", b"sent")]
    found = environment(headers, HTTP_AUTHORIZATION="configured")
    assert found["HTTP_AUTHORIZATION"] == "configured"
    found = environment(headers, pass_authorization=True, HTTP_AUTHORIZATION="configured")
    assert found["HTTP_AUTHORIZATION"] == "sent"


@pytest.mark.parametrize(
    ("scheme", "server_name", "port", "url"),
    [
        ("http", "example.com", "80", "http://example.com/r"),
        ("http", "example.com", "443", "http://example.com:443/r"),
        ("http", "[::1]", "3000", "http://[::1]:3000/r"),
        ("http", "[::1]", "80", "http://[::1]/r"),
        ("https", "example.com", "443", "https://example.com/r"),
        ("https", "example.com", "80", "https://example.com:80/r"),
        ("https", "[2001:db8::1]", "443", "https://[2001:db8::1]/r"),
    ],
)
def test_x_full_url(scheme: str, server_name: str, port: str, url: str) -> None:
    """X_FULL_URL omits the scheme's default port."""
    found = variables_of(scheme=scheme, server_name=server_name, server_port=port)
    assert found["X_FULL_URL"] == url
    assert (found["SERVER_NAME"], found["SERVER_PORT"]) == (server_name, port)
    assert found["REQUEST_SCHEME"] == scheme
    assert found.get("HTTPS") == ("on" if scheme == "https" else None)


@pytest.mark.parametrize(
    ("query", "uri"), [(None, "/r%20/"), ("", "/r%20/?"), ("a=%20&b", "/r%20/?a=%20&b")]
)
def test_request_uri_is_as_sent(query: str | None, uri: str) -> None:
    found = variables_of(path="/r%20/", query=query)
    assert found["REQUEST_URI"] == uri
    assert found["X_FULL_URL"] == f"http://example.com{uri}"


def test_connection_addresses() -> None:
    found = variables_of()
    assert (found["REMOTE_PORT"], found["SERVER_ADDR"]) == ("51234", "192.0.2.2")
    found = variables_of(remote_port="", server_address="")
    assert (found["REMOTE_PORT"], found["SERVER_ADDR"]) == ("", "")


@pytest.mark.parametrize(
    "fields",
    [
        {"headers": [(b"X", b"a\0b")]},
        {"headers": [(b"X", b"\xff\0")]},
        {"path": "/a\0b"},
        {"query": "\0"},
    ],
)
def test_a_nul_byte_is_rejected(fields: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        variables_of(**fields)


@pytest.mark.parametrize("raw", ["/%00", "/%ff", "/%c3%28"])
def test_a_path_that_is_not_utf_8_without_nul_is_rejected(raw: str) -> None:
    with pytest.raises(BadRequest):
        RouteVariables.prepare("/r", "/r/...", {}).environment(HEAD, raw)


@pytest.mark.parametrize(
    ("template", "query", "expected"),
    [
        (None, None, ["/r/x"]),
        (None, "", ["/r/x"]),
        (None, "a&b=%20", ["/r/x", "a", "b=%20"]),
        ("", "a", []),
        ("x ${ARGS} y", "a&b", ["x", "a", "b", "y"]),
        ("x ${ARGS} y", None, ["x", "y"]),
        ("--q=${ARGS}", "a&b c", ["--q=a b c"]),
        ("${SCRIPT_NAME}${SCRIPT_NAME}", "${ARGS}", ["/r/x/r/x"]),
        ("-${ARGS}", "${SCRIPT_NAME}", ["-${SCRIPT_NAME}"]),
        ("${OTHER} $ARGS", "a", ["${OTHER}", "$ARGS"]),
    ],
)
def test_arguments(template: str | None, query: str | None, expected: list[str]) -> None:
    assert arguments(template, "/r/x", query) == block(word.encode() for word in expected)


@given(st.text("ab &${}ARGS", max_size=20))
def test_a_query_cannot_add_arguments_to_fixed_text(query: str) -> None:
    words = arguments("fixed ${ARGS}", "/r", query).split(b"\0")[:-1]
    assert words[0] == b"fixed"
    assert len(words) == 1 + (len(query.split("&")) if query else 0)


@pytest.mark.parametrize("path", ["/${ARGS}", "/${SCRIPT_NAME}", "/\u00a0\u2003x"])
def test_a_path_is_not_expanded_as_a_template(path: str) -> None:
    words = arguments("a ${SCRIPT_NAME} ${ARGS} -${SCRIPT_NAME}${ARGS}", path, "q=1")
    assert words == block(word.encode() for word in ("a", path, "q=1", f"-{path}q=1"))


@pytest.mark.parametrize("template", [None, "${SCRIPT_NAME}", "${ARGS}"])
def test_a_nul_byte_in_an_argument_is_rejected(template: str | None) -> None:
    with pytest.raises(BadRequest):
        arguments(template, "/\0", "\0")
