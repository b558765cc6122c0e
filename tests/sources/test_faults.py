"""Faulty registries: messages at startup, an intact cache, and a successful retry."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.support.faulty import Faults, faulty_proxy
from tests.support.nginx import free_port
from tests.support.registry import Registry, background, registry
from tests.support.registry_modules import MANIFEST, archive, cache, entry, module, push, put_image
from tests.support.server import ENVIRONMENT, WAGI, run_wagi, serving, write_files

pytestmark = pytest.mark.xdist_group("faults")
LARGE = module("a large module" + "!" * 400_000)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("faults")) as found:
        yield found


@pytest.fixture(scope="module")
def faults(running: Registry) -> Iterator[Faults]:
    with faulty_proxy(running.port) as found:
        yield found


def check(folder: Path, reference: str, *options: str) -> tuple[int, str]:
    write_files(folder, {"modules.toml": entry(reference)})
    done = run_wagi(folder, "check", *options, environment=cache(folder))
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def kept(folder: Path) -> list[Path]:
    return [path for path in (folder / "cache").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("part", "planned"),
    [
        ("/manifests/", ("503", "500", "502")),
        ("/manifests/", ("429",)),
        ("/manifests/", ("reset", "reset")),
        ("/blobs/", ("429", "503")),
        ("/blobs/", ("reset",)),
        ("/blobs/", ("cut", "cut", "cut")),
    ],
)
def test_transient_errors_are_retried(
    tmp_path: Path, running: Registry, faults: Faults, part: str, planned: tuple[str, ...]
) -> None:
    """429 and 5xx are retried after a pause; an interrupted download is resumed."""
    push(tmp_path, LARGE, f"oci://{running.name}/faults:1")
    faults.plan(part, *planned)
    manifest = entry(f"oci://localhost:{faults.port}/faults:1")
    with serving(tmp_path, manifest, environment=cache(tmp_path)) as server:
        assert server.get("/").text.startswith("a large module")
    assert not faults.planned
    ranges = [wanted for _, path, wanted in faults.seen if "/blobs/" in path]
    if planned == ("cut", "cut", "cut"):
        half, quarter = len(LARGE) // 2, len(LARGE) // 2 + (len(LARGE) + 1) // 4
        assert ranges[:2] == ["", f"bytes={half}-"]
        assert quarter - 2 <= int(re.sub(r"\D", "", ranges[2])) <= quarter + 2


@pytest.mark.parametrize(
    ("part", "fault", "times", "message"),
    [
        ("/manifests/", "503", 4, "responded with 503 Service Unavailable, in 4 attempts"),
        ("/manifests/", "429", 4, "responded with 429 Too Many Requests, in 4 attempts"),
        ("/manifests/", "reset", 9, "cannot be reached: Server disconnected"),
        ("/manifests/", "500", 4, "responded with 500 Internal Server Error, in 4 attempts"),
        ("/manifests/", "401", 1, "responded with 401"),
        ("/manifests/", "403", 1, "responded with 403"),
        ("/manifests/", "404", 1, "has no such image"),
        ("/manifests/", "418", 1, "responded with 418"),
        ("/manifests/", "corrupt", 1, "digest mismatch of the manifest: expected sha256:"),
        ("/manifests/", "cut", 1, "was interrupted"),
        ("/blobs/", "503", 4, "responded with 503 Service Unavailable, in 4 attempts"),
        ("/blobs/", "404", 1, "has no such image"),
        ("/blobs/", "cut", 4, "the download was interrupted"),
        ("/blobs/", "corrupt", 1, "digest mismatch: expected sha256:"),
        ("/blobs/", "more", 1, f"more than the expected {len(LARGE)} bytes"),
    ],
)
def test_permanent_errors_are_reported(
    tmp_path: Path,
    running: Registry,
    faults: Faults,
    part: str,
    fault: str,
    times: int,
    message: str,
) -> None:
    """One message with the reference; no partial file is kept, and the next attempt succeeds."""
    push(tmp_path, LARGE, f"oci://{running.name}/faults:1")
    reference = f"oci://localhost:{faults.port}/faults:1"
    faults.plan(part, *[fault] * times)
    status, stderr = check(tmp_path, reference)
    assert status == (2 if fault in ("401", "403", "404") else 1)
    assert stderr.startswith(f"error: modules.toml:3: module: {reference}: ")
    assert message in stderr
    assert stderr.count("error: ") == 1
    assert not [path for path in kept(tmp_path) if path.stat().st_size == len(LARGE)]
    assert not [path for path in kept(tmp_path) if path.suffix == ".partial"]
    faults.plan("nothing")
    assert check(tmp_path, reference)[0] == 0


def test_a_stalled_download_is_resumed(tmp_path: Path, running: Registry, faults: Faults) -> None:
    """After 20 seconds without data, from where it stopped."""
    push(tmp_path, LARGE, f"oci://{running.name}/stalls:1")
    faults.plan("/blobs/", "stall")
    manifest = entry(f"oci://localhost:{faults.port}/stalls:1")
    with serving(tmp_path, manifest, environment=cache(tmp_path)) as server:
        assert server.get("/").text.startswith("a large module")
    ranges = [wanted for _, path, wanted in faults.seen if "/blobs/" in path]
    assert ranges == ["", f"bytes={len(LARGE) // 2}-"]


def test_a_waiting_start_can_be_stopped(tmp_path: Path, running: Registry, faults: Faults) -> None:
    """SIGTERM ends it immediately, and no partial file is used as a module."""
    push(tmp_path, LARGE, f"oci://{running.name}/stopped:1")
    faults.plan("/blobs/", "stall")
    write_files(tmp_path, {"modules.toml": entry(f"oci://localhost:{faults.port}/stopped:1")})
    process = subprocess.Popen(
        [*WAGI, "serve", "--listen", "127.0.0.1:0"],
        cwd=tmp_path,
        env={**ENVIRONMENT, **cache(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 20
    while not any("/blobs/" in path for _, path, _ in faults.seen):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "Traceback" not in stderr
    assert not [p for p in kept(tmp_path) if p.suffix != ".partial" and p.stat().st_size > 10_000]


def test_an_interrupted_push_is_restarted(
    tmp_path: Path, running: Registry, faults: Faults
) -> None:
    faults.plan("uploads", "503", "503")
    push(tmp_path, module("begun anew"), f"oci://localhost:{faults.port}/anew:1")
    faults.plan("digest=", "reset", "500")
    push(tmp_path, module("and again"), f"oci://localhost:{faults.port}/anew:2")
    manifest = entry(f"oci://{running.name}/anew:2")
    with serving(tmp_path, manifest, environment=cache(tmp_path)) as server:
        assert server.get("/").text == "and again"


def test_connection_refused(tmp_path: Path) -> None:
    reference = f"oci://127.0.0.1:{free_port()}/nobody:1"
    status, stderr = check(tmp_path, reference)
    assert status == 1
    assert f"module: {reference}: http://127.0.0.1:" in stderr
    assert "cannot be reached: Connection refused" in stderr
    write_files(tmp_path, {"m.wasm": module("m")})
    done = run_wagi(tmp_path, "push", "m.wasm", reference)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_a_name_that_does_not_resolve(tmp_path: Path) -> None:
    status, stderr = check(tmp_path, "oci://nowhere.invalid/nobody:1")
    assert status == 1
    assert "https://nowhere.invalid cannot be reached: " in stderr


def test_a_registry_without_tls(tmp_path: Path, running: Registry) -> None:
    """HTTPS is required except for loopback, unless the user disables it."""
    name = f"0.0.0.0:{running.port}"  # leads to loopback, and is no name for it
    push(tmp_path, module("plain"), f"oci://{running.name}/plain:1")
    status, stderr = check(tmp_path, f"oci://{name}/plain:1")
    assert status == 1
    assert f"https://{name}" in stderr
    manifest = entry(f"oci://{name}/plain:1")
    options = ("--insecure-registry", name)
    with serving(tmp_path, manifest, *options, environment=cache(tmp_path)) as server:
        assert server.get("/").text == "plain"


def image(registry: Registry, repository: str, manifest: dict[str, object]) -> str:
    config = {"mediaType": "x/y", **registry.put_blob(repository, b"{}")}
    content = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, **manifest}
    registry.put_manifest(repository, "1", content, MANIFEST)
    return f"oci://{registry.name}/{repository}:1"


def test_a_manifest_without_a_module(tmp_path: Path, running: Registry) -> None:
    layer = {"mediaType": "text/plain", **running.put_blob("text", b"hello")}
    reference = image(running, "text", {"layers": [layer]})
    status, stderr = check(tmp_path, reference)
    assert status == 1
    assert stderr == (
        f"error: modules.toml:3: module: {reference}: no layer is a module; the layers are:\n"
        "    text/plain, 5 bytes\n"
    )
    empty = image(running, "empty", {"layers": []})
    assert "the layers are: none\n" in check(tmp_path, empty)[1]


def test_a_layer_of_10_gigabytes(tmp_path: Path, running: Registry) -> None:
    """It is rejected by the size in the manifest, before the download."""
    descriptor = running.put_blob("huge", b"not really")
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": "x/y", **running.put_blob("huge", b"{}")},
        "layers": [{"mediaType": "application/wasm", **descriptor, "size": 10 * 1024**3}],
    }
    running.put_manifest("huge", "1", manifest, MANIFEST)
    status, stderr = check(tmp_path, f"oci://{running.name}/huge:1")
    assert status == 1
    assert (
        "exceeds the limit of 268435456 bytes (--max-module-size): it has 10737418240 bytes"
        in stderr
    )
    assert "(--max-module-size)" in stderr


def test_a_configured_size_limit(tmp_path: Path, running: Registry) -> None:
    push(tmp_path, LARGE, f"oci://{running.name}/limited:1")
    reference = f"oci://{running.name}/limited:1"
    status, stderr = check(tmp_path, reference, "--max-module-size", "100KiB")
    assert status == 1
    assert "exceeds the limit of 102400 bytes" in stderr
    assert check(tmp_path, reference, "--max-module-size", "1MiB")[0] == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (archive({"a.wasm": b"\0" * 3_000_000}), "decompresses to more than 1048576 bytes"),
        (archive({"readme": b"x"}), "with exactly one .wasm file, found readme"),
        (archive({"a.wasm": b"a", "b.wasm": b"b"}), "found a.wasm, b.wasm"),
        (b"not an archive", "the layer is not a valid tar archive"),
        (b"\x1f\x8bnot gzip either", "the layer is not a valid tar archive"),
        (archive({"a.wasm": module("x")})[:-20], "the layer is not a valid tar archive"),
    ],
    ids=["bomb", "no-module", "two-modules", "no-archive", "no-gzip", "cut"],
)  # fmt: skip
def test_archives(tmp_path: Path, running: Registry, content: bytes, message: str) -> None:
    media_type = "application/vnd.oci.image.layer.v1.tar+gzip"
    put_image(running, "archives", media_type, content)
    reference = f"oci://{running.name}/archives:1"
    status, stderr = check(tmp_path, reference, "--max-module-size", "1MiB")
    assert status == 1
    assert f"{reference}: " in stderr
    assert message in stderr


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"layers": [{"mediaType": "application/wasm", "digest": "sha256:../../x", "size": 1}]},
         "invalid manifest: layers.0.digest"),
        ({"layers": [{"mediaType": "application/wasm", "digest": "sha512:12", "size": 1}]},
         "invalid manifest: layers.0.digest"),
        ({}, "invalid manifest: no layers"),
        ({"layers": 5}, "invalid manifest: layers"),
        ({"layers": [{"digest": "sha256:" + "0" * 64, "size": -1}]}, "layers.0.size"),
    ],
)  # fmt: skip
def test_invalid_manifests(tmp_path: Path, manifest: dict[str, object], message: str) -> None:
    """Data of a hostile registry is never used as a path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = json.dumps(manifest).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with background(Handler) as port:
        status, stderr = check(tmp_path, f"oci://localhost:{port}/hostile:1")
    assert status == 1
    assert message in stderr
    assert stderr.count("error: ") == 1
