"""The certificate that is served: read with the routes, so that a reload takes a renewed one."""

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
    """Read a certificate and its key; None without both.

    Raises: ConfigurationError if one is missing or they cannot be used.
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
    """The TLS configuration of a server with this certificate.

    Raises: ssl.SSLError, OSError or ValueError if it cannot be used.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    with _without_name(certificate[0]) as chain, _without_name(certificate[1]) as key:
        # A key with a passphrase would stop and ask on the terminal.
        context.load_cert_chain(chain, key, password="")
    return context


@contextmanager
def _without_name(content: bytes) -> Iterator[str]:
    """The path of a file in memory: OpenSSL reads nothing but files."""
    with open(os.memfd_create("certificate"), "wb") as file:  # noqa: PTH123 - a descriptor
        file.write(content)
        file.flush()
        yield f"/dev/fd/{file.fileno()}"
