"""The client's address behind trusted proxies."""

from __future__ import annotations

import ipaddress

import pytest

from wagi.http.forwarded import ClientInfo, TrustedProxies

pytestmark = pytest.mark.fast

PROXIES = TrustedProxies(
    [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"), "unix"]
)


def client(
    peer: str | None, *headers: tuple[str, str], proxies: TrustedProxies = PROXIES
) -> ClientInfo:
    return proxies.client(peer, [(name.encode(), value.encode()) for name, value in headers])


@pytest.mark.parametrize("peer", ["192.0.2.1", "2001:db8::1", None])
def test_headers_of_untrusted_peers_are_ignored(peer: str | None) -> None:
    found = client(
        peer,
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-Proto", "https"),
        ("Forwarded", "for=6.6.6.6;host=evil"),
        proxies=TrustedProxies(),
    )
    assert found == ClientInfo(peer or "")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("6.6.6.6, 192.0.2.1", "192.0.2.1"),
        ("6.6.6.6, 192.0.2.1, 10.1.1.1", "192.0.2.1"),
        ("10.9.9.9, 10.1.1.1", "10.9.9.9"),
        ("192.0.2.1:1234", "192.0.2.1"),
        ("[2001:db8::1]:1234", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, unknown", "10.0.0.1"),
        ("6.6.6.6, nonsense, 10.1.1.1", "10.1.1.1"),
        ("", "10.0.0.1"),
    ],
)
def test_x_forwarded_for(value: str, expected: str) -> None:
    assert client("10.0.0.1", ("X-Forwarded-For", value)).address == expected


def test_repeated_headers_form_one_list() -> None:
    headers = ("X-Forwarded-For", "6.6.6.6"), ("x-forwarded-for", "192.0.2.1")
    assert client("10.0.0.1", *headers).address == "192.0.2.1"


def test_unix_socket() -> None:
    assert client(None, ("X-Forwarded-For", "192.0.2.1")).address == "192.0.2.1"
    assert client(None).address == ""


def test_ipv4_mapped_peer() -> None:
    assert client("::ffff:10.0.0.1", ("X-Forwarded-For", "192.0.2.1")).address == "192.0.2.1"


def test_proto_and_host() -> None:
    found = client(
        "fd00::1", ("X-Forwarded-Proto", "HTTPS"), ("X-Forwarded-Host", "a.example, b.example:81")
    )
    assert (found.scheme, found.host) == ("https", "b.example:81")
    assert client("fd00::1", ("X-Forwarded-Proto", "gopher")).scheme is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("for=192.0.2.1", ClientInfo("192.0.2.1", None, None, True, is_peer=False)),
        (
            'for="[2001:db8::1]:47";proto=https;host="a.example:8443"',
            ClientInfo("2001:db8::1", "https", "a.example:8443", True, is_peer=False),
        ),
        (
            "for=6.6.6.6;host=evil, FOR=192.0.2.1;Proto=http",
            ClientInfo("192.0.2.1", "http", None, True, is_peer=False),
        ),
        ("for=192.0.2.1, for=_hidden", ClientInfo("10.0.0.1", None, None, True)),
        ('for="192.0.2.1, for=6.6.6.6"', ClientInfo("10.0.0.1", None, None, True)),
        (';;,=,"', ClientInfo("10.0.0.1", None, None, True)),
    ],
)
def test_forwarded(value: str, expected: ClientInfo) -> None:
    """RFC 7239."""
    assert client("10.0.0.1", ("Forwarded", value)) == expected


def test_x_forwarded_takes_precedence_over_forwarded() -> None:
    found = client("10.0.0.1", ("Forwarded", "for=6.6.6.6"), ("X-Forwarded-For", "192.0.2.1"))
    assert found.address == "192.0.2.1"
