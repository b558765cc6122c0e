"""Bindles for tests: standalone directories, and a small server that follows the specification.

No package registry has a Bindle server.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.support.registry import background

WASM = "application/wasm"


def parcel(
    name: str,
    content: bytes,
    media_type: str = "text/plain",
    features: Mapping[str, str] | None = None,
    member_of: tuple[str, ...] = (),
    requires: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Make a parcel with its content."""
    return {
        "content": content,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "mediaType": media_type,
        "name": name,
        "features": dict(features or {}),
        "memberOf": list(member_of),
        "requires": list(requires),
    }


def handler(content: bytes, route: str, *requires: str, **features: str) -> dict[str, Any]:
    """Make a parcel that is a handler."""
    return parcel(
        f"{route.strip('/') or 'root'}.wasm", content, WASM, {"route": route, **features},
        requires=requires,
    )  # fmt: skip


def file(name: str, content: bytes, *groups: str) -> dict[str, Any]:
    """Make a parcel that is a file for the handlers that require one of its groups."""
    return parcel(name, content, features={"file": "true"}, member_of=groups)


def invoice(
    bindle: str, parcels: list[dict[str, Any]], groups: Mapping[str, list[str]] | None = None
) -> str:
    """Make an invoice.

    Args:
        bindle: Name of the bindle.
        parcels: Its parcels.
        groups: The declared groups, each with the groups that it requires.
    """
    name, _, version = bindle.rpartition("/")
    lines = ['bindleVersion = "1.0.0"', "[bindle]", f'name = "{name}"', f'version = "{version}"']
    for group, requires in (groups or {}).items():
        lines += ["[[group]]", f"name = {json.dumps(group)}", f"requires = {json.dumps(requires)}"]
    for item in parcels:
        lines += ["[[parcel]]", "[parcel.label]"]
        lines += [f"{key} = {json.dumps(item[key])}" for key in ("sha256", "mediaType", "name")]
        lines += [f"size = {item['size']}"]
        if item["features"]:
            lines += ["[parcel.label.feature.wagi]"]
            lines += [f"{key} = {json.dumps(value)}" for key, value in item["features"].items()]
        lines += ["[parcel.conditions]"]
        lines += [f"{key} = {json.dumps(item[key])}" for key in ("memberOf", "requires")]
    return "\n".join(lines) + "\n"


def write_standalone(
    folder: Path,
    bindle: str,
    parcels: list[dict[str, Any]],
    groups: Mapping[str, list[str]] | None = None,
) -> Path:
    """Write a standalone bindle; return its directory."""
    own = folder / hashlib.sha256(bindle.encode()).hexdigest()
    (own / "parcels").mkdir(parents=True)
    (own / "invoice.toml").write_text(invoice(bindle, parcels, groups))
    for item in parcels:
        (own / "parcels" / f"{item['sha256']}.dat").write_bytes(item["content"])
    return own


class BindleServer:
    """A Bindle server.

    Attributes:
        content: Bytes by their path below /v1.
        requests: The paths that were requested.
    """

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.requests: list[str] = []
        self.authorization: str | None = None
        self.url = ""

    def add(
        self,
        bindle: str,
        parcels: list[dict[str, Any]],
        groups: Mapping[str, list[str]] | None = None,
    ) -> None:
        self.content[f"/v1/_i/{bindle}"] = invoice(bindle, parcels, groups).encode()
        for item in parcels:
            self.content[f"/v1/_i/{bindle}@{item['sha256']}"] = item["content"]


@contextmanager
def bindle_server(certificate: tuple[Path, Path] | None = None) -> Iterator[BindleServer]:
    """Run a Bindle server, with TLS if ``certificate`` (with its key) is given."""
    server = BindleServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.requests.append(self.path)
            if server.authorization not in (None, self.headers.get("Authorization")):
                self._answer(401, b"")
            elif self.path in server.redirects:
                self.send_response(302)
                self.send_header("Location", server.redirects[self.path])
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif self.path in server.content:
                self._answer(200, server.content[self.path])
            else:
                self._answer(404, b"")

        def _answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with background(Handler, certificate) as port:
        server.url = f"{'https' if certificate else 'http'}://127.0.0.1:{port}/v1"
        yield server
