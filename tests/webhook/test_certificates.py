"""The authority, what it issues, and when both are renewed."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

import pytest

from wagi.server.tls import tls_context

pytest.importorskip("cryptography")

from wagi.webhook.certificates import (
    KeyPair,
    bundle,
    create_authority,
    is_due,
    is_usable,
    issue,
)

pytestmark = pytest.mark.fast

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


def handshake(server: KeyPair, trusted: bytes, host: str) -> None:
    """Connect a client and a server in memory."""
    client_context = ssl.create_default_context(cadata=trusted.decode())
    server_context = tls_context((server.certificate, server.key))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=host)
    peer = server_context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        for side in (client, peer):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert client.cipher()


def test_clients_trust_what_the_authority_issues() -> None:
    authority = create_authority(NOW, 360 * DAY)
    server = issue(authority, ("a.b.svc", "a.b.svc.cluster.local"), NOW, 30 * DAY)
    handshake(server, authority.certificate, "a.b.svc")
    handshake(server, authority.certificate, "a.b.svc.cluster.local")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(server, authority.certificate, "other.svc")
    other = create_authority(NOW, DAY)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, other.certificate, "a.b.svc")


def test_a_bundle_trusts_the_earlier_authority_as_well() -> None:
    old, new = create_authority(NOW, 360 * DAY), create_authority(NOW, 360 * DAY)
    both = bundle(new.certificate, old.certificate, NOW)
    for authority in (old, new):
        handshake(issue(authority, ("a.svc",), NOW, DAY), both, "a.svc")
    assert both.startswith(new.certificate)
    assert bundle(new.certificate, both, NOW) == both


def test_a_bundle_does_not_grow() -> None:
    trusted = b""
    for _ in range(6):
        trusted = bundle(create_authority(NOW, DAY).certificate, trusted, NOW)
    assert trusted.count(b"BEGIN CERTIFICATE") == 4
    expired = create_authority(NOW - 10 * DAY, DAY)
    new = create_authority(NOW, DAY)
    assert bundle(new.certificate, expired.certificate, NOW) == new.certificate
    assert bundle(new.certificate, b"garbage", NOW) == new.certificate


@pytest.mark.parametrize(("day", "expected"), [(0, False), (19, False), (21, True), (40, True)])
def test_renewed_when_a_third_is_left(day: int, expected: bool) -> None:
    authority = create_authority(NOW, 30 * DAY)
    assert is_due(authority.certificate, NOW + day * DAY) is expected


def test_unusable_pairs() -> None:
    one, two = create_authority(NOW, DAY), create_authority(NOW, DAY)
    assert is_usable(one)
    assert not is_usable(KeyPair(one.certificate, two.key))
    assert not is_usable(KeyPair(b"", b""))
    assert not is_usable(KeyPair(one.certificate, b"x"))
