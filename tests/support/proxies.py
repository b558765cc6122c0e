"""The proxies of deploy/proxies, each as a real process in front of a server."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import nginx
from tests.support.apache import MODULES as APACHE_MODULES
from tests.support.nginx import free_port
from tests.support.server import ROOT
from tests.support.tls import certificate_of
from tests.support.toolchains import missing, tool

PROXIES = ROOT / "deploy/proxies"
SOCKET = "/run/wagi/wagi.sock"
ADDRESS = "127.0.0.1:3000"
HOST = "example.com"
BODY_LIMIT = 20_000_000
"""The size limit of request bodies in tests, in place of 100 MiB in the configurations."""

_APACHE = """
ServerRoot "{folder}"
DefaultRuntimeDir "{folder}"
PidFile httpd.pid
ErrorLog error.log
ServerName localhost
{user}
Listen 127.0.0.1:{http}
Listen 127.0.0.1:{https}
{modules}
Include "{folder}/wagi.conf"
"""
_APACHE_LOADS = (
    *("mpm_event", "authz_core", "alias", "socache_shmcb", "ssl", "headers", "unique_id"),
    *("proxy", "proxy_http"),
)


@dataclass(frozen=True)
class Ports:
    """Where a proxy listens on 127.0.0.1."""

    http: int
    https: int


@contextmanager
def proxy(name: str, folder: Path, upstream: str) -> Iterator[Ports]:
    """Run a proxy with its configuration of deploy/proxies.

    Args:
        name: nginx, caddy, haproxy or apache.
        folder: A directory that all users can access.
        upstream: The path of the server's unix socket, or HOST:PORT.

    Yields:
        The ports for HTTP and HTTPS.
    """
    ports = Ports(free_port(), free_port())
    command = _COMMANDS[name](folder, upstream, ports)
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        _wait_for(ports.https, process, folder)
        yield ports
    finally:
        process.terminate()
        process.wait(20)


def check(command: Sequence[str], folder: Path) -> str:
    """Run a program that checks a configuration. Returns: what it printed."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=_environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def adapted(name: str, replacements: Mapping[str, str]) -> str:
    """Read a configuration, and replace what differs in a test: each text must be in it."""
    text = (PROXIES / name).read_text()
    for shown, real in replacements.items():
        assert shown in text, shown
        text = text.replace(shown, real)
    return text


def _over(name: str, upstream: str, over_unix: str, over_tcp: str) -> dict[str, str]:
    """Select the line for a unix socket, or the one for TCP, which is in a comment."""
    assert f"# {over_tcp}" in (PROXIES / name).read_text()
    line = over_unix if upstream.startswith("/") else over_tcp
    return {over_unix: line.replace(SOCKET, upstream).replace(ADDRESS, upstream)}


def _nginx(folder: Path, upstream: str, ports: Ports) -> list[str]:
    """Write the configuration, check it, and return the command."""
    certificate, key = certificate_of(folder)
    name = "nginx.conf"
    site = adapted(
        name,
        _over(name, upstream, f"server unix:{SOCKET};", f"server {ADDRESS};")
        | {
            "/etc/ssl/certs/wagi.pem": str(certificate),
            "/etc/ssl/private/wagi.key": str(key),
            "    listen [::]:80;\n": "",
            "    listen [::]:443 ssl;\n": "",
            "listen 80;": f"listen 127.0.0.1:{ports.http};",
            "listen 443 ssl;": f"listen 127.0.0.1:{ports.https} ssl;",
            "client_max_body_size 100m;": f"client_max_body_size {BODY_LIMIT};",
        },
    )
    command = nginx.command(folder, site)
    check([*command, "-t"], folder)
    return command


def _caddy(folder: Path, upstream: str, ports: Ports) -> list[str]:
    certificate, key = certificate_of(folder)
    name = "Caddyfile"
    options = "{\nadmin off\nskip_install_trust\n"
    options += f"default_bind 127.0.0.1\nhttp_port {ports.http}\nhttps_port {ports.https}\n}}\n"
    site = adapted(
        name,
        _over(name, upstream, f"reverse_proxy unix/{SOCKET} {{", f"reverse_proxy {ADDRESS} {{")
        | {
            f"\n{HOST} {{": f"\n{HOST} {{\n\tlog\n",
            "# tls /etc/ssl/certs/wagi.pem /etc/ssl/private/wagi.key": f"tls {certificate} {key}",
            "> 104857600`": f"> {BODY_LIMIT}`",
        },
    )
    (folder / name).write_text(options + site)
    program = tool("caddy")
    arguments = ["--config", name, "--adapter", "caddyfile"]
    check([program, "validate", *arguments], folder)
    return [program, "run", *arguments]


def _haproxy(folder: Path, upstream: str, ports: Ports) -> list[str]:
    certificate, key = certificate_of(folder)
    combined = folder / "combined.pem"
    combined.write_bytes(certificate.read_bytes() + key.read_bytes())
    name = "haproxy.cfg"
    site = adapted(
        name,
        _over(
            name,
            upstream,
            f"server wagi unix@{SOCKET} check inter 2s",
            f"server wagi {ADDRESS} check inter 2s",
        )
        | {
            "    user haproxy\n    group www-data\n": "",
            "/etc/haproxy/certs/wagi.pem": str(combined),
            "bind :80\n": f"bind 127.0.0.1:{ports.http}\n",
            "bind :443 ": f"bind 127.0.0.1:{ports.https} ",
            "gt 104857600 ": f"gt {BODY_LIMIT} ",
        },
    )
    (folder / name).write_text(site)
    program = tool("haproxy")
    assert check([program, "-c", "-f", name], folder).strip() in ("", "Configuration file is valid")
    return [program, "-db", "-f", name]


def _apache(folder: Path, upstream: str, ports: Ports) -> list[str]:
    program = tool("apache2")
    for module in _APACHE_LOADS:
        if not (APACHE_MODULES / f"mod_{module}.so").exists():
            missing(f"{APACHE_MODULES}/mod_{module}.so does not exist: install apache2-bin")
    certificate, key = certificate_of(folder)
    name = "apache.conf"
    options = "nocanon flushpackets=on timeout=60 ttl=60"
    site = adapted(
        name,
        _over(
            name,
            upstream,
            f"ProxyPass / unix:{SOCKET}|http://localhost/ {options}",
            f"ProxyPass / http://{ADDRESS}/ {options}",
        )
        | {
            "/etc/ssl/certs/wagi.pem": str(certificate),
            "/etc/ssl/private/wagi.key": str(key),
            "<VirtualHost *:80>": f"<VirtualHost *:{ports.http}>",
            "<VirtualHost *:443>": f"<VirtualHost *:{ports.https}>",
            "-gt 104857600": f"-gt {BODY_LIMIT}",
        },
    )
    (folder / "wagi.conf").write_text(site)
    config = _APACHE.format(
        folder=folder,
        http=ports.http,
        https=ports.https,
        user="User #65534\nGroup #65534" if os.getuid() == 0 else "",
        modules="\n".join(
            f'LoadModule {module}_module "{APACHE_MODULES}/mod_{module}.so"'
            for module in _APACHE_LOADS
        ),
    )
    (folder / "httpd.conf").write_text(config)
    command = [program, "-f", str(folder / "httpd.conf")]
    assert "Syntax OK" in check([*command, "-t"], folder)
    return [*command, "-D", "FOREGROUND"]


_COMMANDS = {"nginx": _nginx, "caddy": _caddy, "haproxy": _haproxy, "apache": _apache}


def _environment(folder: Path) -> dict[str, str]:
    home = str(folder)
    return {"PATH": os.environ["PATH"], "HOME": home, "XDG_DATA_HOME": home}


def _wait_for(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            logs = "\n".join(path.read_text() for path in folder.glob("*.log"))
            assert process.poll() is None, logs
            assert time.monotonic() < deadline, logs
            time.sleep(0.05)
        else:
            return
