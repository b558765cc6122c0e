"""The server's certificate. It is read with the routes, so that a reload picks up a renewed one."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wagi.errors import ConfigurationError, Problem

Certificate = tuple[bytes, bytes]
"""A certificate chain and its key, both PEM."""


def read_certificate(certificate: Path | None, key: Path | None) -> Certificate | None:
    """Read a certificate and its key.

    Args:
        certificate: The file with the certificate chain (PEM).
        key: The file with the private key (PEM).

    Returns:
        Their contents; None without both files.

    Raises:
        ConfigurationError: One of them is missing, or they cannot be used.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ConfigurationError(Problem("expected --tls-cert and --tls-key together"))
    for option, path in (("--tls-cert", certificate), ("--tls-key", key)):
        if not path.is_file():
            raise ConfigurationError(Problem(f"{option}: no such file: {path}"))
    try:
        read = certificate.read_bytes(), key.read_bytes()
        tls_context(read)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise ConfigurationError(
            Problem(f"--tls-cert {certificate} and --tls-key {key} cannot be used: {error}")
        ) from None
    return read


def tls_context(certificate: Certificate) -> ssl.SSLContext:
    """Make the TLS configuration of a server.

    Args:
        certificate: The certificate chain and its key.

    Raises:
        ssl.SSLError: They do not fit each other, or are not PEM.
        OSError: They cannot be passed to OpenSSL.
        ValueError: They cannot be used.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    load_certificate(context, certificate)
    return context


def load_certificate(context: ssl.SSLContext, certificate: Certificate) -> None:
    """Use a certificate for new connections. Raises: as ``tls_context`` does."""
    with _memory_file(certificate[0]) as chain, _memory_file(certificate[1]) as key:
        # Without a password, OpenSSL would prompt for the passphrase of an encrypted key.
        context.load_cert_chain(chain, key, password="")


@contextmanager
def _memory_file(content: bytes) -> Iterator[str]:
    """The path of an in-memory file: ``load_cert_chain`` accepts only paths."""
    with open(os.memfd_create("certificate"), "wb") as file:  # noqa: PTH123 - a descriptor
        file.write(content)
        file.flush()
        yield f"/dev/fd/{file.fileno()}"
