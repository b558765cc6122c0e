"""A real OCI registry on loopback, with the usual kinds of authentication."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.support.nginx import free_port
from tests.support.toolchains import tool

USER, PASSWORD = "alice", "s3cret"
IDENTITY_TOKEN = "an-identity-token"
_HTPASSWD = f"{USER}:$2y$05$bJNz4XWHAViZx06P8Lai6OOVJofkRSrcBP75k54xl98KqKfHn6R/i\n"


class Registry:
    """A running registry.

    Attributes:
        name: HOST:PORT.
        storage: The directory of its files.
    """

    def __init__(self, port: int, storage: Path) -> None:
        self.port = port
        self.name = f"localhost:{port}"
        self.storage = storage

    def blob(self, digest: str) -> Path:
        """Return the file of a blob."""
        name = digest.removeprefix("sha256:")
        return self.storage / f"docker/registry/v2/blobs/sha256/{name[:2]}/{name}/data"

    def put_manifest(self, repository: str, tag: str, manifest: object, media_type: str) -> str:
        """Upload a manifest unchanged; return its digest."""
        content = json.dumps(manifest).encode()
        request = urllib.request.Request(
            f"http://{self.name}/v2/{repository}/manifests/{tag}",
            content,
            {"Content-Type": media_type},
            method="PUT",
        )
        urllib.request.urlopen(request).close()
        return "sha256:" + hashlib.sha256(content).hexdigest()

    def put_blob(self, repository: str, content: bytes) -> dict[str, object]:
        """Upload a blob; return its descriptor without a media type."""
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        base = f"http://{self.name}/v2/{repository}/blobs/uploads/"
        begun = urllib.request.urlopen(urllib.request.Request(base, b"", method="POST"))
        location = begun.headers["Location"]
        separator = "&" if "?" in location else "?"
        headers = {"Content-Type": "application/octet-stream"}
        url = f"{location}{separator}digest={digest}"
        urllib.request.urlopen(urllib.request.Request(url, content, headers, method="PUT")).close()
        return {"digest": digest, "size": len(content)}


@contextmanager
def registry(folder: Path, auth: str = "") -> Iterator[Registry]:
    """Run Debian's docker-registry; ``auth`` is its authentication, as YAML."""
    program = tool("docker-registry")
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = folder / "config.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/storage}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n{auth}"
    )
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [program, "serve", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/v2/", process, folder / "log")
        yield Registry(port, folder / "storage")
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def registry_with_passwords(folder: Path) -> Iterator[Registry]:
    """Run a registry with basic authentication."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "htpasswd").write_text(_HTPASSWD)
    with registry(folder, f"auth: {{htpasswd: {{realm: r, path: {folder}/htpasswd}}}}\n") as found:
        yield found


@contextmanager
def registry_with_tokens(folder: Path) -> Iterator[Registry]:
    """Run a registry with a token server for one user; pulling needs no credentials."""
    folder.mkdir(parents=True, exist_ok=True)
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    openssl = tool("openssl")
    subprocess.run(
        f"{openssl} req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=t"
        f" -keyout {key} -out {certificate}".split(),
        check=True,
        capture_output=True,
    )
    with _token_server(key, certificate) as port:
        auth = (
            f"auth: {{token: {{realm: 'http://127.0.0.1:{port}/token', service: registry,"
            f" issuer: tests, rootcertbundle: {certificate}}}}}\n"
        )
        with registry(folder, auth) as found:
            yield found


@contextmanager
def _token_server(key: Path, certificate: Path) -> Iterator[int]:
    basic = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent = self.headers.get("Authorization")
            if sent not in (None, basic):
                self._answer(401, {"errors": [{"message": "wrong password"}]})
                return
            query = {
                name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()
            }
            self._grant(query["scope"], writes=sent == basic)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            good = form["grant_type"] == "refresh_token" and form["client_id"]
            if not good or form["refresh_token"] != IDENTITY_TOKEN:
                self._answer(401, {"error": "invalid_grant"})
                return
            self._grant(form["scope"], writes=True)

        def _grant(self, scope: str, writes: bool) -> None:
            kind, name, actions = scope.split(":")
            allowed = [a for a in actions.split(",") if writes or a == "pull"]
            access = [{"type": kind, "name": name, "actions": allowed}]
            self._answer(200, {"token": _token(key, certificate, access)})

        def _answer(self, status: int, body: object) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with background(Handler) as port:
        yield port


@contextmanager
def background(
    handler: type[BaseHTTPRequestHandler], certificate: tuple[Path, Path] | None = None
) -> Iterator[int]:
    """Run a server of the standard library on a thread; yield its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.block_on_close = False
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _token(key: Path, certificate: Path, access: object) -> str:
    """Make a signed token (RFC 7519) according to the distribution's token specification."""
    lines = certificate.read_text().splitlines()
    der = "".join(line for line in lines if not line.startswith("-"))
    now = int(time.time())
    claims = {"iss": "tests", "sub": "", "aud": "registry", "exp": now + 300, "nbf": now - 10}
    claims |= {"iat": now, "jti": str(time.monotonic_ns()), "access": access}
    parts = [{"typ": "JWT", "alg": "RS256", "x5c": [der]}, claims]
    signed = ".".join(_base64url(json.dumps(part).encode()) for part in parts)
    signature = subprocess.run(
        [tool("openssl"), "dgst", "-sha256", "-sign", str(key)],
        input=signed.encode(),
        capture_output=True,
        check=True,
    ).stdout
    return f"{signed}.{_base64url(signature)}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError:
            return  # it requires authentication
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        else:
            return


def docker_config(folder: Path, content: object) -> dict[str, str]:
    """Write a configuration of Docker's client; return the environment that selects it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(content))
    return {"DOCKER_CONFIG": str(folder)}


def login(name: str, user: str = USER, password: str = PASSWORD) -> dict[str, object]:
    """Return the configuration that ``docker login`` writes."""
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"auths": {name: {"auth": auth}}}
