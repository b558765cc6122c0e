"""Allowed destinations of outbound requests."""

from __future__ import annotations

import pytest

from wagi.outbound.destinations import Destinations

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("entries", "url", "allowed"),
    [
        ((), ("https", "a.example", 443), False),
        (("insecure:allow-all",), ("http", "127.1", 80), False),
        (("insecure:allow-all",), ("http", "2130706433", 80), False),
        (("insecure:allow-all",), ("http", "0x7f000001", 80), False),
        (("insecure:allow-all",), ("http", "0177.0.0.1", 80), False),
        (("insecure:allow-all",), ("http", "127.1.example", 80), True),
        (("127.0.0.1",), ("http", "127.1", 80), True),
        (("https://a.example",), ("https", "a.example", 443), True),
        (("https://a.example",), ("https", "a.example", 8443), True),
        (("https://a.example",), ("http", "a.example", 80), False),
        (("https://a.example:443",), ("https", "a.example", 8443), False),
        (("https://A.Example/path",), ("https", "a.example", 443), True),
        (("https://a.example",), ("https", "b.a.example", 443), False),
        (("https://a.example",), ("https", "a.example.evil", 443), False),
        (("https://a.example",), ("https", "xa.example", 443), False),
        (("a.example",), ("http", "a.example", 80), True),
        (("a.example:81",), ("http", "a.example", 80), False),
        (("a.example:81",), ("http", "a.example", 81), True),
        (("insecure:allow-all",), ("http", "a.example", 80), True),
        (("insecure:allow-all",), ("http", "8.8.8.8", 80), True),
        (("insecure:allow-all",), ("http", "127.0.0.1", 80), False),
        (("insecure:allow-all",), ("http", "169.254.169.254", 80), False),
        (("insecure:allow-all",), ("http", "10.1.2.3", 80), False),
        (("insecure:allow-all",), ("http", "0.0.0.0", 80), False),
        (("insecure:allow-all",), ("http", "100.64.0.1", 80), False),
        (("insecure:allow-all",), ("http", "224.0.0.1", 80), False),
        (("insecure:allow-all",), ("http", "::1", 80), False),
        (("insecure:allow-all",), ("http", "::ffff:127.0.0.1", 80), False),
        (("insecure:allow-all",), ("http", "64:ff9b::7f00:1", 80), False),
        (("insecure:allow-all",), ("http", "2002:7f00:1::", 80), False),
        (("insecure:allow-all",), ("http", "fe80::1", 80), False),
        (("insecure:allow-all",), ("http", "fe80::1%eth0", 80), False),
        (("insecure:allow-all",), ("http", "fd00:ec2::254", 80), False),
        (("insecure:allow-all",), ("http", "2606:4700::1111", 80), True),
        (("127.0.0.1",), ("http", "127.0.0.1", 80), True),
        (("http://127.0.0.1:81",), ("http", "127.0.0.1", 80), False),
        (("http://[::1]:81",), ("http", "::1", 81), True),
        (("[::1]",), ("http", "::1", 81), True),
        (("10.0.0.0/8",), ("http", "10.1.2.3", 80), True),
        (("10.0.0.0/8",), ("http", "11.1.2.3", 80), False),
        (("insecure:allow-all", "10.0.0.0/8"), ("http", "10.1.2.3", 80), True),
        (("*.example",), ("http", "a.example", 80), True),
        (("*.example",), ("http", "a.b.example", 80), True),
        (("*.example",), ("http", "example", 80), False),
        (("*.example",), ("http", "aexample", 80), False),
        (("*.example",), ("http", "a.example.evil", 80), False),
        (("https://*.example:443",), ("https", "a.example", 443), True),
        (("https://*.example:443",), ("https", "a.example", 444), False),
        (("https://*.example:443",), ("http", "a.example", 443), False),
        (("https://*",), ("https", "a.example", 8443), True),
        (("https://*",), ("https", "8.8.8.8", 443), True),
        (("https://*",), ("https", "127.0.0.1", 443), False),
        (("https://*",), ("http", "a.example", 80), False),
        (("*.0.0.1",), ("http", "127.0.0.1", 80), False),
        (("https://*", "127.0.0.1"), ("https", "127.0.0.1", 443), True),
    ],
)
def test_allowed_urls(entries: tuple[str, ...], url: tuple[str, str, int], allowed: bool) -> None:
    why = Destinations(entries).why_denied(*url)
    assert (not why) == allowed, why


@pytest.mark.parametrize(
    ("entries", "address", "allowed"),
    [
        (("a.example",), "8.8.8.8", True),
        (("a.example",), "127.0.0.1", False),
        (("a.example",), "::ffff:10.0.0.1", False),
        (("insecure:allow-all",), "192.168.1.1", False),
        (("insecure:allow-all",), "nonsense", False),
        (("*",), "127.0.0.1", False),
        (("*.example",), "127.0.0.1", False),
        (("*.example", "127.0.0.1"), "127.0.0.1", True),
        (("a.example", "127.0.0.1"), "127.0.0.1", True),
        (("a.example", "127.0.0.1"), "127.0.0.2", False),
        (("a.example", "http://127.0.0.1:81"), "127.0.0.1", False),
        (("a.example", "127.0.0.0/8"), "127.3.2.1", True),
        (("localhost",), "127.0.0.1", True),
        (("http://localhost:80",), "::1", True),
        (("http://localhost:81",), "127.0.0.1", False),
        (("localhost",), "10.0.0.1", False),
    ],
)
def test_allowed_addresses(entries: tuple[str, ...], address: str, allowed: bool) -> None:
    assert Destinations(entries).allows_address(address, 80) == allowed


@pytest.mark.parametrize(
    "entry",
    ["", "ftp://a.example", "https://", "*example", "a.*.example", "a b", "10.0.0.1/8", "http://u:p@a.example",
     "a.example:99999", "https://a.example:x", "insecure:allow-nobody", "[::1", "/etc"],
)  # fmt: skip
def test_invalid_entries(entry: str) -> None:
    with pytest.raises(ValueError, match="expected https://HOST"):
        Destinations((entry,))
