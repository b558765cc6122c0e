"""Modules from the web: by URL and sha256."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.support.registry import background
from tests.support.registry_modules import cache, entry, module
from tests.support.server import run_wagi, serving, write_files

CONTENT = module("from the web" + "." * 100_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    requests = 0

    def do_GET(self) -> None:
        type(self).requests += 1
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", "/hello.wasm")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path.startswith("/hello.wasm"):
            self.send_response(200)  # without a length: it ends with the connection
            self.end_headers()
            self.wfile.write(CONTENT)
        elif self.path == "/circle":
            self.send_response(302)
            self.send_header("Location", "/circle")
            self.end_headers()
        else:
            self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    with background(Handler) as port:
        yield f"http://127.0.0.1:{port}"


def test_a_download(tmp_path: Path, web: str) -> None:
    """A cached module is not downloaded again; redirects are followed."""
    manifest = entry(f"{web}/hello.wasm?token=secret", "/a", f'sha256 = "{SHA256}"')
    manifest += entry(f"{web}/moved", "/b", f'sha256 = "{SHA256}"')
    with serving(tmp_path, manifest, environment=cache(tmp_path)) as server:
        assert server.get("/a").text == server.get("/b").text == "from the web" + "." * 100_000
    before = Handler.requests
    with serving(tmp_path, manifest, environment=cache(tmp_path)) as server:
        assert server.get("/a").status == 200
    assert Handler.requests == before


@pytest.mark.parametrize(
    ("path", "extra", "options", "status", "message"),
    [
        ("/hello.wasm?token=secret", "", (), 2, "/hello.wasm: downloads need a sha256 key"),
        ("/hello.wasm", 'sha256 = "abc"', (), 2, "sha256: expected 64 lowercase hex digits"),
        ("/hello.wasm?token=secret", f'sha256 = "{"0" * 64}"', (), 1,
         f"expected sha256:{'0' * 64}, found sha256:{SHA256}"),
        ("/none", f'sha256 = "{"0" * 64}"', (), 1, "responded with 404"),
        ("/circle", f'sha256 = "{"0" * 64}"', (), 1, "redirects in a loop"),
        ("/hello.wasm", f'sha256 = "{SHA256}"', ("--max-module-size", "10KiB"), 1,
         "the content exceeds the limit of 10240 bytes (--max-module-size)"),
    ],
)  # fmt: skip
def test_error_messages(
    tmp_path: Path,
    web: str,
    path: str,
    extra: str,
    options: tuple[str, ...],
    status: int,
    message: str,
) -> None:
    write_files(tmp_path, {"modules.toml": entry(web + path, extra=extra)})
    done = run_wagi(tmp_path, "check", *options, environment=cache(tmp_path))
    assert done.returncode == status, done.stderr
    assert message in done.stderr
    assert "secret" not in done.stderr
    assert not [item for item in (tmp_path / "cache").rglob("*") if item.is_file()]


def test_a_digest_is_checked_for_files_too(tmp_path: Path) -> None:
    write_files(tmp_path, {"m.wasm": CONTENT})
    for digest, status in ((SHA256, 0), ("0" * 64, 1)):
        write_files(tmp_path, {"modules.toml": entry("m.wasm", extra=f'sha256 = "{digest}"')})
        done = run_wagi(tmp_path, "check")
        assert done.returncode == status
        assert done.returncode == 0 or f"m.wasm: expected sha256:{digest}, found" in done.stderr


def test_pull(tmp_path: Path, web: str) -> None:
    done = run_wagi(
        tmp_path, "pull", f"{web}/moved.wasm?x", "--sha256", SHA256, environment=cache(tmp_path)
    )
    assert (done.returncode, done.stdout) == (0, f"{web}/moved.wasm\n")
    assert (tmp_path / "moved.wasm").read_bytes() == CONTENT


def test_the_proxy_of_the_environment(tmp_path: Path) -> None:
    """HTTP_PROXY, as in curl; loopback addresses bypass the proxy."""
    seen: list[str] = []

    class Proxy(Handler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.path = "/hello.wasm"
            super().do_GET()

    manifest = entry("http://modules.invalid/x.wasm", extra=f'sha256 = "{SHA256}"')
    with background(Proxy) as port:
        environment = {**cache(tmp_path), "HTTP_PROXY": f"http://127.0.0.1:{port}", "NO_PROXY": ""}
        environment["http_proxy"] = environment["HTTP_PROXY"]
        with serving(tmp_path, manifest, environment=environment) as server:
            assert server.get("/").status == 200
    assert seen == ["http://modules.invalid/x.wasm"]


def test_netrc_is_ignored(tmp_path: Path, web: str) -> None:
    """Credentials come from Docker's configuration only, never from ~/.netrc."""
    write_files(tmp_path, {".netrc": "default login eve password evil\n"})
    seen: list[str | None] = []

    class Watching(Handler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization"))
            super().do_GET()

    with background(Watching) as port:
        url = f"http://127.0.0.1:{port}/hello.wasm"
        write_files(tmp_path, {"modules.toml": entry(url, extra=f'sha256 = "{SHA256}"')})
        environment = {**cache(tmp_path), "HOME": str(tmp_path), "NETRC": f"{tmp_path}/.netrc"}
        assert run_wagi(tmp_path, "check", environment=environment).returncode == 0
    assert seen == [None]
