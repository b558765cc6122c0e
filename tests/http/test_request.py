"""Request targets and hosts."""

from __future__ import annotations

import pytest

from wagi.cgi.environment import BadRequest
from wagi.http.request import Target

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a", Target("/a", None)),
        ("/a?", Target("/a", "")),
        ("/a?b=c?d", Target("/a", "b=c?d")),
        ("/a#f?b", Target("/a", None)),
        ("/é", Target("/é", None)),
        ("//a", Target("//a", None)),
        ("http://h/a?b", Target("/a", "b", "h")),
        ("HTTPS://h:1?b", Target("/", "b", "h:1")),
        ("http://user@h/", Target("/", None, "h")),
    ],
)
def test_targets(text: str, expected: Target) -> None:
    assert Target.parse("GET", text) == expected


@pytest.mark.parametrize(
    "text", ["*", "a", "h:80", "ftp://h/", "http:///a", "/a/../b", "/%2e%2E/", "/./", "/a\udcff"]
)
def test_invalid_targets(text: str) -> None:
    with pytest.raises(BadRequest):
        Target.parse("OPTIONS", text)


def test_a_proxy_request_is_rejected() -> None:
    with pytest.raises(BadRequest, match="not a proxy"):
        Target.parse("CONNECT", "/a")
