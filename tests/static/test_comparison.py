"""docs/static.md: how wagi, nginx and Caddy answer the same requests."""

from __future__ import annotations

import gzip
import http.client
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.nginx import free_port, nginx
from tests.support.server import ROOT, serving, write_files
from tests.support.toolchains import tool

PAGE = (ROOT / "docs/static.md").read_text()
ROW = re.compile(
    r"^\| `([A-Z]+) (\S+)`(?: with `([^`]+)`)? \| (\d+[ a-z]*) \| (\d+[ a-z]*) \| ([\w ]+) \|", re.M
)
SCRIPT = b"x" * 1000
FILES: dict[str, str | bytes] = {
    "secret": "secret",
    "public/a.txt": "0123456789",
    "public/empty.txt": "",
    "public/docs/index.html": "docs",
    "public/no-index/x": "x",
    "public/.hidden": "x",
    "public/script.js": SCRIPT,
    "public/script.js.gz": gzip.compress(SCRIPT),
    "public/only.js.gz": gzip.compress(SCRIPT),
}


@contextmanager
def caddy(folder: Path, public: Path) -> Iterator[int]:
    """Run Caddy; its port."""
    program, port = tool("caddy"), free_port()
    folder.mkdir()
    (folder / "Caddyfile").write_text(
        f"{{\n admin off\n auto_https off\n}}\n:{port} {{\n root * {public}\n"
        " file_server {\n  precompressed br zstd gzip\n }\n}\n"
    )
    process = subprocess.Popen(
        [program, "run", "--config", "Caddyfile", "--adapter", "caddyfile"],
        cwd=folder,
        env={**os.environ, "HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


def answer(port: int, method: str, path: str, header: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        if header:
            connection.putheader(*header.split(": ", 1))
        if method == "POST":
            connection.putheader("Content-Length", "0")
        connection.endheaders()
        response = connection.getresponse()
        response.read()
        return f"{response.status} {response.headers.get('Content-Encoding', '')}".strip()
    except TimeoutError:
        return "hangs"
    finally:
        connection.close()


def test_every_row_of_the_table(tmp_path: Path) -> None:
    rows = ROW.findall(PAGE)
    assert len(rows) == PAGE.partition("| request | wagi")[2].count("\n|") - 1 > 20
    write_files(tmp_path, FILES)
    public = tmp_path / "public"
    (public / "link-to-outside").symlink_to("../secret")
    os.mkfifo(public / "pipe")
    site = f"server {{ listen 80; root {public}; gzip_static on; location ~ /\\. {{ deny all; }} }}"
    manifest = '[[module]]\nroute = "/..."\nstatic = "public"\n'
    with (
        serving(tmp_path, manifest) as server,
        nginx(tmp_path / "nginx", site) as nginx_port,
        caddy(tmp_path / "caddy", public) as caddy_port,
    ):
        ports = (server.port, nginx_port, caddy_port)
        for method, path, header, *expected in rows:
            found = [answer(port, method, path, header) for port in ports]
            assert found == expected, (method, path, header)


@pytest.mark.fast
def test_the_table_is_one_of_differences() -> None:
    assert [row for row in ROW.findall(PAGE) if len(set(row[3:])) == 1] == []
