"""A real nginx in front of a server."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.server import ROOT
from tests.support.tls import certificate_of
from tests.support.toolchains import tool


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def example_site(folder: Path, upstream: str) -> tuple[str, int]:
    """Adapt deploy/proxies/nginx.conf to a test.

    Args:
        folder: Gets the certificate of the site.
        upstream: The address of the server, as nginx writes it.

    Returns:
        The site, and its port for HTTPS.
    """
    certificate, key = certificate_of(folder)
    port = free_port()
    site = (ROOT / "deploy/proxies/nginx.conf").read_text()
    for shown, real in (
        ("unix:/run/wagi/wagi.sock", upstream),
        ("/etc/ssl/certs/wagi.pem", str(certificate)),
        ("/etc/ssl/private/wagi.key", str(key)),
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
    ):
        assert shown in site
        site = site.replace(shown, real)
    return re.sub(r"\n *listen \[::\].*", "", site), port


def command(folder: Path, site: str) -> list[str]:
    """Write a configuration of nginx to a folder, and return the command that runs it."""
    program = tool("nginx")
    config = folder / "nginx.conf"
    # The user of nginx cannot access the test's folders.
    user = "user root;" if os.getuid() == 0 else ""
    scratch = " ".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config.write_text(
        f"{user} daemon off; master_process off; pid {folder}/nginx.pid;"
        f" error_log {folder}/error.log; events {{}}"
        f" http {{ access_log off; {scratch}\n{site}\n}}"
    )
    return [program, "-p", str(folder), "-c", str(config), "-e", f"{folder}/error.log"]


@contextmanager
def nginx(folder: Path, site: str) -> Iterator[int]:
    """Run nginx; ``listen 80`` in its configuration is replaced by the port, which is yielded."""
    port = free_port()
    folder.mkdir(exist_ok=True)
    arguments = command(folder, site.replace("listen 80;", f"listen 127.0.0.1:{port};"))
    process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL)
    try:
        _wait_for(port, process, folder)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            log = folder / "error.log"
            assert process.poll() is None, log.read_text() if log.exists() else "nginx ended"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return
