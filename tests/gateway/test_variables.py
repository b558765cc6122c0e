"""The environment from the compiled core equals the one from Python."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.toolchains import require_core
from tests.support.variables import HEAD
from wagi.cgi.environment import BadRequest, RequestHead, RouteVariables
from wagi.gateway.variables import build_environment
from wagi.guest import core

_KNOWN = (
    *("Host", "Content-Type", "content-TYPE", "Authorization", "AUTHORIZATION", "Cookie", "Accept"),
    *("Proxy", "PROXY", "Proxy-Authorization", "Connection", "Transfer-Encoding", "X-Custom"),
    *("X_Custom", "", "Prox", "Proxyy"),
)
text = st.text("aZ09-._~%/", max_size=12) | st.text(max_size=6)
"""Mostly what requests have; sometimes NULs, surrogates and other characters."""
names = st.sampled_from([name.encode() for name in _KNOWN]) | st.text("aB-_1!", max_size=8).map(
    str.encode
)
values = st.binary(max_size=12) | st.text(st.characters(max_codepoint=126), max_size=20).map(
    str.encode
)
heads = st.builds(
    RequestHead,
    method=st.sampled_from(["GET", "POST", "a\0b"]),
    path=text,
    query=st.none() | text,
    protocol=st.sampled_from(["HTTP/1.0", "HTTP/1.1"]),
    headers=st.lists(st.tuples(names, values), max_size=8).map(tuple),
    content_length=st.integers(0, 2**63) | st.just(2**64),
    scheme=st.sampled_from(["http", "https"]),
    server_name=text,
    server_port=st.sampled_from(["80", "443", "3000", ""]),
    remote_address=text,
    remote_port=text,
    server_address=text,
)
routes = st.builds(
    RouteVariables.prepare,
    st.just("/r"),
    st.just("/r/..."),
    st.dictionaries(st.sampled_from(["A", "HTTP_ACCEPT", "PATH_INFO"]), st.just("é")),
    st.booleans(),
)
PLAIN = RouteVariables.prepare("/r", "/r", {"A": "b"})


def outcome(build: Any, *arguments: Any) -> bytes | str:
    try:
        built: bytes = build(*arguments)
    except (BadRequest, UnicodeEncodeError) as error:
        return type(error).__name__
    return built


@given(heads, routes, text)
@example(HEAD, PLAIN, "")
@example(HEAD._replace(headers=((b"A", b"1"), (b"a", b"2"))), PLAIN, "")
@example(HEAD._replace(headers=((b"Authorization", b"\0"),)), PLAIN, "")
@example(HEAD._replace(headers=((b"Cookie", b"x" * 20_000),)), PLAIN, "")
@example(HEAD._replace(headers=tuple((b"X-%d" % i, b"v") for i in range(200))), PLAIN, "/x")
def test_it_equals_the_reference(head: RequestHead, route: RouteVariables, raw: str) -> None:
    expected = outcome(route.environment, head, raw)
    assert outcome(build_environment, route, head, raw) == expected


def test_the_core_builds_what_browsers_send() -> None:
    """Not a comparison of Python with itself."""
    require_core()
    assert core.module is not None
    headers = tuple(
        (name.encode(), b"a value; q=0.9") for name in ("Host", "Cookie", "Sec-Fetch-Mode", "DNT")
    )
    head = HEAD._replace(headers=headers, query="a=b", scheme="https", server_port="8443")
    built = core.module.environment(PLAIN.fixed, head, "/é", False)
    assert built == PLAIN.environment(head, "/é")


@pytest.mark.parametrize("size", [16_000, 16_200, 16_384, 16_385])
def test_sizes_around_that_of_the_buffer(size: int) -> None:
    own = len(PLAIN.environment(HEAD._replace(headers=((b"A", b""),)), ""))
    for total in range(size - 3, size + 3):
        head = HEAD._replace(headers=((b"A", b"x" * (total - own)),))
        assert build_environment(PLAIN, head, "") == PLAIN.environment(head, "")


def changed(**fields: Any) -> RequestHead:
    """Return ``HEAD`` with some fields changed, perhaps to values of other types."""
    return HEAD._replace(**fields)


@pytest.mark.parametrize(
    "arguments",
    [
        (b"", (), "", False),
        (b"", HEAD[:-1], "", False),
        (b"", [*HEAD], "", False),
        (None, HEAD, "", False),
        (b"", changed(headers=[(b"A", b"b")]), "", False),
        (b"", changed(headers=((b"A",),)), "", False),
        (b"", changed(headers=((b"A", 1),)), "", False),
        (b"", changed(content_length=-1), "", False),
        (b"", changed(content_length="1"), "", False),
        (b"", changed(path=None), "", False),
        (b"", changed(scheme="ftp"), "", False),
        (b"", changed(path="\ud800"), "", False),
        (b"", HEAD, None, False),
    ],
)
def test_the_core_leaves_other_types_to_python(arguments: tuple[Any, ...]) -> None:
    require_core()
    assert core.module is not None
    assert core.module.environment(*arguments) is None
