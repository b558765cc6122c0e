"""The attributes of spans."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wagi.observe.exchange import Exchange
from wagi.observe.failure import Failure
from wagi.observe.traces.attributes import (
    MAX_LENGTH,
    ServerRequest,
    outbound_attributes,
    request_attributes,
    response_attributes,
    server_error,
    span_name,
)

pytestmark = pytest.mark.fast
REQUEST = ServerRequest(
    "GET", "/a", None, "http", "a.test", None, "HTTP/1.0", "", "192.0.2.1", "10.0.0.1", "1234"
)


def exchange(status: int, outcome: str = "", failure: str = "") -> Exchange:
    record = Exchange("id", "GET", "/a", "HTTP/1.1", "192.0.2.1", {}, "/a", "a.wasm", status)
    record.outcome = outcome
    record.failure = Failure(failure) if failure else None
    return record


def test_what_is_unknown_is_missing() -> None:
    request = REQUEST._replace(host="", client="", peer=None, peer_port="")
    assert request_attributes(request) == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "url.path": "/a",
        "network.protocol.version": "1.0",
    }
    assert "url.path" not in request_attributes(request._replace(method="", path=""))


@pytest.mark.parametrize(
    ("method", "route", "name"),
    [
        ("GET", "/a/...", "GET /a/..."),
        ("GET", "", "GET"),
        ("PROPFIND", "/a", "HTTP /a"),
        ("", "", "HTTP"),
    ],
)
def test_names_are_few(method: str, route: str, name: str) -> None:
    assert span_name(method, route) == name


@given(st.text(st.one_of(st.characters(), st.sampled_from("\udc80\x00=&?"))))
def test_any_text_of_a_client_can_be_exported(text: str) -> None:
    request = REQUEST._replace(method=text, path=text, query=text, host=text, user_agent=text * 100)
    for value in request_attributes(request).values():
        if isinstance(value, str):
            value.encode()
            assert len(value) <= MAX_LENGTH * 6


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("a=b", "a=b"),
        ("sig=x", "sig=REDACTED"),
        ("a=b&Signature=x%20y&c=d", "a=b&Signature=REDACTED&c=d"),
        (
            "AWSAccessKeyId=1&X-Goog-Signature=2",
            "AWSAccessKeyId=REDACTED&X-Goog-Signature=REDACTED",
        ),
        ("design=x", "design=x"),
    ],
)
def test_credentials_in_queries(query: str, shown: str) -> None:
    assert request_attributes(REQUEST._replace(query=query))["url.query"] == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://a/b", "http://a/b"),
        ("http://user@a/b", "http://REDACTED@a/b"),
        ("https://user:pass@a", "https://REDACTED:REDACTED@a"),
        ("http://u:p%40x@a:1/b@c?sig=1", "http://REDACTED:REDACTED@a:1/b@c?sig=REDACTED"),
    ],
)
def test_credentials_in_urls(url: str, shown: str) -> None:
    assert outbound_attributes("GET", url, "a", 80, 0)["url.full"] == shown


@pytest.mark.parametrize(
    ("record", "error"),
    [
        (exchange(200, "completed"), ""),
        (exchange(200, "exit"), ""),
        (exchange(404, failure="no route"), ""),
        (exchange(503, failure="full"), "503"),
        (exchange(500, "trap", "unreachable"), "trap"),
        (exchange(504, "timeout", "slow"), "timeout"),
        (exchange(200, "trap", "unreachable, after the headers were sent"), "trap"),
        (exchange(499, "cancelled", "gone"), "client_closed_request"),
        (exchange(500, "completed"), "500"),
    ],
)
def test_errors_of_the_server(record: Exchange, error: str) -> None:
    assert server_error(record) == error
    attributes = response_attributes(record)
    assert attributes.get("error.type", "") == error
    assert ("http.response.status_code" in attributes) == (record.status != 499)
