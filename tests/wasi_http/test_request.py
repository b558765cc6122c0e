"""The requests that handlers of wasi:http get."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.variables import DROPPED, HEAD
from wagi.cgi.environment import RequestTooLarge
from wagi.cgi.spin import SpinRoute
from wagi.guest.http_exchange import HttpRequest
from wagi.wasi_http.request import RequestRules

pytestmark = pytest.mark.fast


def make(
    pass_authorization: bool = True, spin_route: SpinRoute | None = None, **fields: Any
) -> HttpRequest:
    rules = RequestRules.prepare("/base/r/...", {}, pass_authorization, spin_route)
    return rules.request(HEAD._replace(**fields), "/rest", None)


def test_a_request_is_passed_on_as_it_was_sent() -> None:
    headers = ((b"Accept", b"a"), (b"X-Bytes", b"\xff\x80"), (b"accept", b"b"))
    found = make(method="PATCH", path="/r/%41", query="a=%20&b", scheme="https", headers=headers)
    assert found == HttpRequest(
        method="PATCH",
        path_with_query="/r/%41?a=%20&b",
        scheme="https",
        authority="example.com:80",
        headers=((b"accept", b"a"), (b"x-bytes", b"\xff\x80"), (b"accept", b"b")),
    )


@pytest.mark.parametrize(
    ("scheme", "port", "expected"),
    [
        ("http", "80", "example.com"),
        ("https", "443", "example.com"),
        ("http", "443", "example.com:443"),
        ("http", "8080", "example.com:8080"),
    ],
)
def test_the_authority_has_no_default_port(scheme: str, port: str, expected: str) -> None:
    assert make(scheme=scheme, server_port=port).authority == expected


def test_an_empty_query_keeps_its_mark() -> None:
    assert make(query="").path_with_query == "/r?"
    assert make(query=None).path_with_query == "/r"


def test_headers_that_no_guest_gets() -> None:
    headers = [(name.title().encode(), b"x") for name in DROPPED]
    assert make(headers=[*headers, (b"X_Real_IP", b"x"), (b"host", b"h")]).headers == (
        (b"host", b"h"),
    )


def test_authorization_is_passed_unless_it_is_withheld() -> None:
    headers = ((b"Authorization", b"secret"), (b"a", b"b"))
    assert make(headers=headers).headers == ((b"authorization", b"secret"), (b"a", b"b"))
    assert make(pass_authorization=False, headers=headers).headers == ((b"a", b"b"),)


def test_a_route_of_spin_has_the_headers_of_spin() -> None:
    """With the names and values of Spin's crate ``trigger-http``, file ``headers.rs``."""
    sent = ((b"Spin-Client-Addr", b"forged"), (b"spin-path-info", b"forged"), (b"a", b"b"))
    found = make(spin_route=SpinRoute("/base", "/r/..."), query="q", headers=sent).headers
    assert dict(found) == {
        b"a": b"b",
        b"spin-path-info": b"/rest",
        b"spin-full-url": b"http://example.com/r?q",
        b"spin-matched-route": b"/base/r/...",
        b"spin-base-path": b"/base",
        b"spin-raw-component-route": b"/r/...",
        b"spin-component-route": b"/r",
        b"spin-client-addr": b"192.0.2.1:51234",
    }
    assert len(found) == 8
    assert make(headers=sent).headers == tuple((name.lower(), value) for name, value in sent)


def test_the_environment_has_the_configured_variables_only() -> None:
    rules = RequestRules.prepare("/r", {"A": "1", "PATH_INFO": "mine"}, True, None)
    assert rules.environment == b"A=1\0PATH_INFO=mine\0"


def test_the_size_is_limited() -> None:
    rules = RequestRules.prepare("/r", {}, True, None)
    head = HEAD._replace(headers=((b"abc", b"defg"),))
    assert rules.request(head, "", 9).headers
    with pytest.raises(RequestTooLarge, match="environment_limit"):
        rules.request(head, "", 8)
