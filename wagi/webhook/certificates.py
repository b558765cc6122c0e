"""Certificates for the webhook: a certificate authority, and what it issues. Pure.

Needs ``cryptography``, the extra ``webhook``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_CLOCK_SKEW = timedelta(minutes=5)  # between the clocks of two machines
_RENEWAL_SHARE = 3  # renewed when this part of the lifetime is left, as cert-manager does
_MAX_AUTHORITIES = 4  # in a bundle


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate, or a chain of them, and the private key of the first one; both PEM."""

    certificate: bytes
    key: bytes


def create_authority(now: datetime, lifetime: timedelta) -> KeyPair:
    """Create a certificate authority that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("wagi webhook CA")
    builder = _builder(name, name, key.public_key(), now, lifetime)
    # Several authorities have the same name: clients distinguish them by this.
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return _sign(builder, key, key)


def issue(authority: KeyPair, hosts: Sequence[str], now: datetime, lifetime: timedelta) -> KeyPair:
    """Issue a certificate for a server.

    Args:
        authority: Signs it.
        hosts: The DNS names of the server.
        now: The time.
        lifetime: How long it is valid.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    issuer_key = _load_key(authority.key)
    builder = _builder(_name("wagi webhook"), issuer.subject, key.public_key(), now, lifetime)
    names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    builder = builder.add_extension(names, critical=False)
    builder = builder.add_extension(usage, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    return _sign(builder, key, issuer_key)


def is_usable(authority: KeyPair) -> bool:
    """Whether a certificate and a key are PEM and belong together."""
    try:
        certificate = x509.load_pem_x509_certificate(authority.certificate)
        return certificate.public_key() == _load_key(authority.key).public_key()
    except (ValueError, TypeError):
        return False


def is_due(certificate: bytes, now: datetime) -> bool:
    """Whether the first certificate of a chain has to be renewed."""
    first = x509.load_pem_x509_certificate(certificate)
    begin, end = first.not_valid_before_utc + _CLOCK_SKEW, first.not_valid_after_utc
    return now >= end - (end - begin) / _RENEWAL_SHARE


def bundle(authority: bytes, earlier: bytes, now: datetime) -> bytes:
    """Return the certificates that clients should trust.

    Args:
        authority: The certificate of the authority, which comes first.
        earlier: A bundle of earlier ones; replicas may still use certificates that these issued.
        now: The time; expired ones are left out.
    """
    try:
        known = x509.load_pem_x509_certificates(earlier) if earlier else []
    except ValueError:
        known = []
    valid = [item for item in known if item.not_valid_after_utc > now]
    certificates = dict.fromkeys([x509.load_pem_x509_certificate(authority), *valid])
    return b"".join(
        item.public_bytes(Encoding.PEM) for item in list(certificates)[:_MAX_AUTHORITIES]
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + lifetime)
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _sign(
    builder: x509.CertificateBuilder,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> KeyPair:
    certificate = builder.sign(issuer_key, hashes.SHA256())
    return KeyPair(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


def _load_key(text: bytes) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(text, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("expected the key of an elliptic curve")
    return key
