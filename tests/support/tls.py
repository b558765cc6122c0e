"""Self-signed certificates."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.toolchains import tool


def certificate_of(folder: Path) -> tuple[Path, Path]:
    """Create a certificate for localhost and its key (PEM)."""
    folder.mkdir(parents=True, exist_ok=True)
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            *(tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:0.0.0.0"),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key
