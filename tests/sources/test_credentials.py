"""Credentials are sent only to the server they are for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.support.registry import background, docker_config, login
from tests.support.registry_modules import cache, entry, module
from tests.support.server import run_wagi, serving, write_files
from tests.support.tls import certificate_of

CONTENT = module("guarded")
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
IMAGE = json.dumps(
    {
        "schemaVersion": 2,
        "layers": [{"mediaType": "application/wasm", "digest": DIGEST, "size": len(CONTENT)}],
    }
).encode()


class Answers(BaseHTTPRequestHandler):
    """Records requests, and responds as a test defines: status, headers, content."""

    answer: Callable[[], tuple[int, dict[str, str], bytes]]

    def do_GET(self) -> None:
        status, headers, content = self.answer()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def test_redirects_drop_credentials(tmp_path: Path) -> None:
    """Registries redirect blobs to other servers, which must not get the credential."""
    seen: dict[str, list[str | None]] = {"registry": [], "storage": []}

    class Storage(Answers):
        def answer(self) -> tuple[int, dict[str, str], bytes]:
            seen["storage"].append(self.headers.get("Authorization"))
            return 200, {}, CONTENT

    with background(Storage) as storage:

        class Registry(Answers):
            def answer(self) -> tuple[int, dict[str, str], bytes]:
                sent = self.headers.get("Authorization")
                seen["registry"].append(sent)
                if sent is None:
                    return 401, {"WWW-Authenticate": 'Basic realm="here"'}, b""
                if "/manifests/" in self.path:
                    return 200, {}, IMAGE
                return 307, {"Location": f"http://127.0.0.1:{storage}/blob?signed"}, b""

        with background(Registry) as port:
            name = f"localhost:{port}"
            environment = docker_config(tmp_path / "docker", login(name)) | cache(tmp_path)
            manifest = entry(f"oci://{name}/moved:1")
            with serving(tmp_path, manifest, environment=environment) as server:
                assert server.get("/").text == "guarded"
    assert seen["registry"][0] is None
    assert all(str(sent).startswith("Basic ") for sent in seen["registry"][1:])
    assert seen["storage"] == [None]


def test_credentials_are_not_sent_without_tls(tmp_path: Path) -> None:
    """Even if a registry with TLS names a token server without it."""
    asked: list[str] = []

    class Tokens(Answers):
        def answer(self) -> tuple[int, dict[str, str], bytes]:
            asked.append(self.path)
            return 200, {}, b'{"token": "x"}'

    with background(Tokens) as tokens:

        class Registry(Answers):
            def answer(self) -> tuple[int, dict[str, str], bytes]:
                realm = f'Bearer realm="http://127.0.0.1:{tokens}/token",service="s"'
                return 401, {"WWW-Authenticate": realm}, b""

        certificate, key = certificate_of(tmp_path / "tls")
        with background(Registry, (certificate, key)) as port:
            name = f"0.0.0.0:{port}"  # resolves to loopback, but is not a loopback name
            environment = docker_config(tmp_path / "docker", login(name)) | cache(tmp_path)
            environment["SSL_CERT_FILE"] = str(certificate)
            write_files(tmp_path, {"modules.toml": entry(f"oci://{name}/clear:1")})
            done = run_wagi(tmp_path, "check", environment=environment)
    assert done.returncode == 1
    assert "which is not https:, so that a credential would be sent in the clear" in done.stderr
    assert asked == []
