"""What the components of a spin.toml may call, as ``allowed_hosts``."""

from __future__ import annotations

import re

import pytest

from wagi.outbound.destinations import Destinations
from wagi.routemap.spin_hosts import allowed_hosts, allowed_http_hosts, has_template

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://a.example", ["https://a.example:443"]),
        ("http://a.example/", ["http://a.example:80"]),
        ("https://a.example:8443", ["https://a.example:8443"]),
        ("https://a.example:*", ["https://a.example"]),
        ("*://a.example:80", ["a.example:80"]),
        ("*://a.example:*", ["a.example"]),
        ("https://*.a.example", ["https://*.a.example:443"]),
        ("https://*", ["https://*:443"]),
        ("https://*:*", ["https://*"]),
        ("*://*:*", ["insecure:allow-all"]),
        ("http://localhost:8000..8002", ["http://localhost:8000", "http://localhost:8001"]),
        ("http://[::1]:8080", ["http://[::1]:8080"]),
        ("http://127.0.0.1:8080", ["http://127.0.0.1:8080"]),
        ("*://10.0.0.0/8:*", ["10.0.0.0/8"]),
        (" https://a.example ", ["https://a.example:443"]),
    ],
)
def test_an_entry(text: str, expected: list[str]) -> None:
    assert allowed_hosts(text) == expected
    Destinations(tuple(expected))  # no error


@pytest.mark.parametrize(
    ("entry", "url", "allowed"),
    [
        ("https://a.example", ("https", "a.example", 443), True),
        ("https://a.example", ("https", "a.example", 8443), False),
        ("https://a.example", ("http", "a.example", 443), False),
        ("https://a.example", ("https", "b.a.example", 443), False),
        ("https://*.example", ("https", "b.a.example", 443), True),
        ("https://*.example", ("https", "example", 443), False),
        ("*://a.example:*", ("http", "a.example", 9), True),
        ("*://*:*", ("http", "a.example", 9), True),
        ("*://*:*", ("http", "127.0.0.1", 9), False),
        ("http://localhost:8000..8010", ("http", "localhost", 8010), False),
        ("http://localhost:8000..8010", ("http", "localhost", 8009), True),
        ("*://10.0.0.0/8:*", ("http", "10.1.2.3", 8009), True),
    ],
)
def test_what_it_allows(entry: str, url: tuple[str, str, int], allowed: bool) -> None:
    assert (not Destinations(tuple(allowed_hosts(entry))).why_denied(*url)) == allowed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.example", "expected SCHEME://HOST or SCHEME://HOST:PORT, found 'a.example'"),
        ("", "expected SCHEME://HOST"),
        ("https://", "expected SCHEME://HOST"),
        ("https://a.example/path", "expected SCHEME://HOST"),
        ("https://a.example:x", "expected SCHEME://HOST"),
        ("https://{a,b}:1/", "expected SCHEME://HOST"),
        ("https://a b", "expected SCHEME://HOST"),
        ("https://a.*.example", "expected SCHEME://HOST"),
        ("redis://a.example", "handlers can send only HTTP requests: expected http, https or *"),
        ("postgres://*:*", "expected http, https or *, found 'postgres'"),
        ("*://a.example", "expected a port, as the scheme '*' has no default one"),
        ("http://self", "requests to the application's own components are not supported"),
        ("http://other.spin.internal", "requests to the application's own components"),
        ("http://*.spin.internal", "requests to the application's own components"),
        ("https://{{ host }}", "variables are not supported: write the host itself"),
        ("{{ url }}", "variables are not supported: write the host itself"),
        ("https://10.0.0.0/8", "for all schemes and ports: write *://10.0.0.0/8:*"),
        ("http://a:0..65536", "expected a range of at most 100 ports: write * for all ports"),
        ("http://a:9..8", "expected a port, or a range of ports such as 8000..8010"),
        ("http://a:65536", "expected a port, or a range of ports"),
        ("http://a:1.2", "expected a port, or a range of ports"),
    ],
)
def test_what_cannot_be_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        allowed_hosts(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.example", ["http://a.example:80", "https://a.example:443"]),
        ("a.example:8080", ["a.example:8080"]),
        ("https://a.example", ["http://a.example:80", "https://a.example:443"]),
        ("insecure:allow-all", ["insecure:allow-all"]),
    ],
)
def test_an_entry_of_version_1(text: str, expected: list[str]) -> None:
    """It allows http and https, whatever its scheme."""
    assert allowed_http_hosts(text) == expected


@pytest.mark.parametrize("text", ["", "a.example/path", "a.example:*", "self", "{{ x }}", "a b:c"])
def test_an_invalid_entry_of_version_1(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected HOST|not supported"):
        allowed_http_hosts(text)


def test_templates() -> None:
    texts = ("{{ a }}", "x{{a}}y", "{a}", "{{", "}}{{", "{{\na\n}}")
    assert [has_template(text) for text in texts] == [True, True, False, False, False, True]
