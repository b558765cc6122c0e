"""Modules in real registries: pull, push, caching and authentication."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.registry import (
    IDENTITY_TOKEN,
    USER,
    Registry,
    docker_config,
    login,
    registry,
    registry_with_passwords,
    registry_with_tokens,
)
from tests.support.registry_modules import MANIFEST, archive, cache, entry, module, push, put_image
from tests.support.server import ENVIRONMENT, WAGI, run_wagi, serving, write_files
from tests.support.toolchains import HANDLERS, compiled, missing

pytestmark = pytest.mark.xdist_group("registry")

INDEX = "application/vnd.oci.image.index.v1+json"
WASM_TO_OCI = "application/vnd.wasm.content.layer.v1+wasm"
CNCF = "application/wasm"


def blobs(folder: Path) -> set[str]:
    return {path.name for path in (folder / "cache/blobs/sha256").iterdir()}


@pytest.fixture(scope="module")
def anonymous(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("anonymous")) as found:
        yield found


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry_with_passwords(tmp_path_factory.mktemp("guarded")) as found:
        yield found


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry_with_tokens(tmp_path_factory.mktemp("tokens")) as found:
        yield found


@pytest.mark.parametrize("layout", ["wasm-to-oci", "cncf"])
def test_a_pushed_module_is_served(tmp_path: Path, anonymous: Registry, layout: str) -> None:
    """By tag, by digest, and with a reference without //."""
    target = f"{anonymous.name}/team/pushed-{layout}"
    by_digest = push(tmp_path, module("from a registry"), f"oci://{target}:1.0", "--layout", layout)
    assert re.fullmatch(rf"oci://{target}@sha256:[0-9a-f]{{64}}", by_digest)
    manifest = entry(f"oci://{target}:1.0", "/tag") + entry(by_digest, "/digest")
    manifest += entry(f"oci:{target}:1.0", "/short")
    with serving(tmp_path, manifest, environment=cache(tmp_path)) as server:
        for route in ("/tag", "/digest", "/short"):
            assert server.get(route).text == "from a registry"
        server.stop()
        assert "WARNING" not in server.log


@pytest.mark.parametrize("layout", ["wasm-to-oci", "cncf"])
def test_layouts(tmp_path: Path, anonymous: Registry, layout: str) -> None:
    content = module("layout")
    reference = push(
        tmp_path, content, f"oci://{anonymous.name}/layout:{layout}", "--layout", layout,
        "--annotation", "org.opencontainers.image.version=7", SOURCE_DATE_EPOCH="1700000000",
    )  # fmt: skip
    manifest = json.loads(anonymous.blob(reference.partition("@")[2]).read_text())
    config = json.loads(anonymous.blob(manifest["config"]["digest"]).read_text())
    (layer,) = manifest["layers"]
    assert manifest["schemaVersion"] == 2
    assert manifest["mediaType"] == MANIFEST
    assert manifest["annotations"] == {"org.opencontainers.image.version": "7"}
    assert layer["annotations"] == {"org.opencontainers.image.title": "pushed.wasm"}
    assert anonymous.blob(layer["digest"]).read_bytes() == content
    if layout == "cncf":
        assert layer["mediaType"] == CNCF
        assert manifest["config"]["mediaType"] == "application/vnd.wasm.config.v0+json"
        assert config == {
            "created": "2023-11-14T22:13:20Z",
            "architecture": "wasm",
            "os": "wasip1",
            "layerDigests": [layer["digest"]],
        }
    else:
        assert layer["mediaType"] == WASM_TO_OCI
        assert manifest["config"]["mediaType"] == "application/vnd.wasm.config.v1+json"
        assert config == {}


def test_the_same_module_has_the_same_digest(tmp_path: Path, anonymous: Registry) -> None:
    first, second = (
        push(tmp_path, module("same"), f"oci://{anonymous.name}/same:{i}", SOURCE_DATE_EPOCH="1")
        for i in range(2)
    )
    assert first == second


def test_several_modules_in_an_image(tmp_path: Path, anonymous: Registry) -> None:
    """A title selects one; without a title, the message lists the layers."""
    write_files(tmp_path, {"a.wasm": module("a"), "b.wasm": module("b")})
    target = f"oci://{anonymous.name}/several:1"
    assert run_wagi(tmp_path, "push", "a.wasm", "b.wasm", target).returncode == 0
    manifest = entry(f"{target}#a.wasm", "/a") + entry(f"{target}#b.wasm", "/b")
    with serving(tmp_path, manifest, environment=cache(tmp_path)) as server:
        assert (server.get("/a").text, server.get("/b").text) == ("a", "b")
    done = run_wagi(tmp_path, "pull", f"{target}#a.wasm", environment=cache(tmp_path))
    assert re.fullmatch(r"oci://\S+@sha256:[0-9a-f]{64}#a.wasm\n", done.stdout)
    assert (tmp_path / "several.wasm").read_bytes() == module("a")
    write_files(tmp_path, {"modules.toml": entry(target)})
    done = run_wagi(tmp_path, "check", environment=cache(tmp_path))
    assert done.returncode == 2
    assert "2 layers are modules: add #TITLE" in done.stderr
    assert f"{WASM_TO_OCI}, {len(module('a'))} bytes, a.wasm" in done.stderr
    done = run_wagi(tmp_path, "push", "--layout", "cncf", "a.wasm", "b.wasm", target)
    assert (done.returncode, done.stdout) == (2, "")
    assert "the cncf layout supports only one module" in done.stderr


@pytest.mark.parametrize(
    ("media_type", "config_type"),
    [
        (WASM_TO_OCI, "application/vnd.wasm.config.v1+json"),
        (CNCF, "application/vnd.wasm.config.v0+json"),
    ],
)
def test_exchange_with_oras(
    tmp_path: Path,
    anonymous: Registry,
    monkeypatch: pytest.MonkeyPatch,
    media_type: str,
    config_type: str,
) -> None:
    if find_spec("oras") is None:
        missing("oras is not installed: pip install '.[test]'")
    import oras.client

    write_files(tmp_path, {"theirs.wasm": module("theirs"), "config.json": "{}"})
    monkeypatch.chdir(tmp_path)
    client = oras.client.OrasClient(hostname=anonymous.name, insecure=True)
    kind = "cncf" if media_type == CNCF else "wasm-to-oci"
    client.push(
        target=f"{anonymous.name}/oras-{kind}:1",
        files=[f"theirs.wasm:{media_type}"],
        manifest_config=f"config.json:{config_type}",
    )
    manifest = entry(f"oci://{anonymous.name}/oras-{kind}:1")
    with serving(tmp_path, manifest, environment=cache(tmp_path)) as server:
        assert server.get("/").text == "theirs"
    push(tmp_path, module("ours"), f"oci://{anonymous.name}/wagi-{kind}:1", "--layout", kind)
    (pulled,) = client.pull(f"{anonymous.name}/wagi-{kind}:1", outdir=str(tmp_path / "pulled"))
    assert Path(pulled).name == "pushed.wasm"
    assert Path(pulled).read_bytes() == module("ours")


def test_images_built_from_scratch(tmp_path: Path, anonymous: Registry) -> None:
    """FROM scratch, COPY hello.wasm: a tar archive, usually compressed."""
    layer = "application/vnd.oci.image.layer.v1.tar"
    files = {"etc/passwd": b"root", "app/hello.wasm": module("archived")}
    put_image(anonymous, "scratch", f"{layer}+gzip", archive(files))
    put_image(anonymous, "scratch", layer, archive(files, zipped=False), "plain")
    manifest = entry(f"oci://{anonymous.name}/scratch:1", "/zipped")
    manifest += entry(f"oci://{anonymous.name}/scratch:plain", "/plain")
    with serving(tmp_path, manifest, environment=cache(tmp_path)) as server:
        assert server.get("/zipped").text == server.get("/plain").text == "archived"


def test_an_index_selects_the_image_for_wasm(tmp_path: Path, anonymous: Registry) -> None:
    wasm = put_image(anonymous, "indexed", CNCF, module("for wasm"), "wasm")
    amd64 = put_image(anonymous, "indexed", "application/vnd.oci.image.layer.v1.tar", b"", "amd64")
    images = [
        {
            "mediaType": MANIFEST,
            "digest": digest,
            "size": anonymous.blob(digest).stat().st_size,
            "platform": {"os": system, "architecture": architecture},
        }
        for digest, system, architecture in (
            (amd64, "linux", "amd64"),
            (wasm, "wasip1", "wasm"),
        )
    ]
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": images}
    anonymous.put_manifest("indexed", "1", index, INDEX)
    anonymous.put_manifest("indexed", "two", {**index, "manifests": images[:1] * 2}, INDEX)
    manifest = entry(f"oci://{anonymous.name}/indexed:1")
    with serving(tmp_path, manifest, environment=cache(tmp_path)) as server:
        assert server.get("/").text == "for wasm"
    write_files(tmp_path, {"modules.toml": entry(f"oci://{anonymous.name}/indexed:two")})
    done = run_wagi(tmp_path, "check", environment=cache(tmp_path))
    assert done.returncode == 1
    assert "expected exactly one image for wasm in the index, found:\n    sha256:" in done.stderr
    assert "for linux/amd64" in done.stderr


def test_pull(tmp_path: Path, anonymous: Registry) -> None:
    reference = push(tmp_path, module("pulled"), f"oci://{anonymous.name}/team/pulled:1")
    environment = cache(tmp_path)
    done = run_wagi(
        tmp_path, "pull", f"oci://{anonymous.name}/team/pulled:1", environment=environment
    )
    assert (done.returncode, done.stdout) == (0, reference + "\n")
    assert done.stderr == f"{len(module('pulled'))} bytes in pulled.wasm\n"
    assert (tmp_path / "pulled.wasm").read_bytes() == module("pulled")
    assert (tmp_path / "pulled.wasm").stat().st_mode & 0o777 == 0o644
    done = run_wagi(tmp_path, "pull", "-o", "other", reference, environment=environment)
    assert (tmp_path / "other").read_bytes() == module("pulled")
    done = run_wagi(tmp_path, "pull", "-o", "no/where", reference, environment=environment)
    assert (done.returncode, done.stderr) == (1, "error: no/where: No such file or directory\n")


# Authentication


def test_passwords(tmp_path: Path, guarded: Registry) -> None:
    """Basic authentication, with the credentials of docker login."""
    environment = docker_config(tmp_path / "docker", login(guarded.name))
    push(tmp_path, module("guarded"), f"oci://{guarded.name}/guarded:1", **environment)
    manifest = entry(f"oci://{guarded.name}/guarded:1")
    with serving(tmp_path, manifest, environment={**environment, **cache(tmp_path)}) as server:
        assert server.get("/").text == "guarded"


@pytest.mark.parametrize(
    "configuration",
    [
        {"auths": {"http://NAME/v2/": {"username": "alice", "password": "s3cret"}}},
        {"auths": {"NAME": {"identitytoken": IDENTITY_TOKEN, "auth": "MDAwMDo="}}},
        {"auths": {"NAME": {"auth": "YWxpY2U6czNjcmV0"}}},
    ],
    ids=["url-and-password", "identity-token", "auth"],
)
def test_tokens(tmp_path: Path, tokens: Registry, configuration: dict[str, object]) -> None:
    """A token server, with a password or with the identity token of az acr login."""
    text = json.dumps(configuration).replace("NAME", tokens.name)
    environment = docker_config(tmp_path / "docker", json.loads(text))
    push(tmp_path, module("by token"), f"oci://{tokens.name}/tokens:1", **environment)
    manifest = entry(f"oci://{tokens.name}/tokens:1")
    for who in (environment, {}):  # pulling is allowed without credentials
        folder = tmp_path / f"as-{len(who)}"
        folder.mkdir()
        with serving(folder, manifest, environment={**who, **cache(folder)}) as server:
            assert server.get("/").text == "by token"


HELPER = """#!/bin/sh
read -r server
echo "$1 $server" >> "$HELPER_LOG"
case "$server" in
%s) %s ;;
*) echo "credentials not found in native keychain"; exit 1 ;;
esac
"""


@pytest.mark.parametrize("key", ["credHelpers", "credsStore"])
@pytest.mark.parametrize(
    "answer",
    ['{"ServerURL":"x","Username":"alice","Secret":"s3cret"}',
     '{"Username":"<token>","Secret":"an-identity-token"}'],
    ids=["password", "token"],
)  # fmt: skip
def test_credential_helpers(tmp_path: Path, tokens: Registry, key: str, answer: str) -> None:
    """docker-credential-NAME, for one registry or for all of them."""
    helper = tmp_path / "bin" / "docker-credential-tests"
    write_files(
        tmp_path, {"bin/docker-credential-tests": HELPER % (tokens.name, f"echo '{answer}'")}
    )
    helper.chmod(0o755)
    named = {tokens.name: "tests"} if key == "credHelpers" else "tests"
    environment = docker_config(tmp_path / "docker", {key: named})
    environment["PATH"] = f"{helper.parent}:{os.environ['PATH']}"
    environment["HELPER_LOG"] = str(tmp_path / "asked")
    push(tmp_path, module("helped"), f"oci://{tokens.name}/helped:1", **environment)
    assert (tmp_path / "asked").read_text() == f"get {tokens.name}\n"


@pytest.mark.parametrize(
    ("configuration", "script", "message"),
    [
        ({}, "", "no credential found: log in with docker login NAME"),
        (login("NAME", password="wrong"), "", f"check the password of '{USER}', and its perm"),
        ({"credsStore": "tests"}, "true", "docker-credential-tests: expected JSON with Username"),
        ({"credsStore": "tests"}, "echo locked; exit 1", "docker-credential-tests failed: locked"),
        ({"credsStore": "absent"}, "", "cannot run docker-credential-absent"),
        ({"credsStore": "../x"}, "", "'../x' is not a valid name of a credential helper"),
        ({"auths": {"NAME": {"auth": "!"}}}, "", "auth: expected base64 of USER:PASSWORD"),
        ({"auths": []}, "", "no credential found"),
        ({"auths": [1]}, "", "auths: expected an object"),
        ("not JSON", "", "config.json: expected a JSON object"),
    ],
)  # fmt: skip
def test_authentication_failures(
    tmp_path: Path, guarded: Registry, configuration: object, script: str, message: str
) -> None:
    """One message with a remedy; exit status 2, because the user can fix it."""
    text = json.dumps(configuration).replace("NAME", guarded.name)
    environment = docker_config(tmp_path / "docker", json.loads(text))
    if script:
        content = HELPER % (guarded.name, script)
        write_files(tmp_path, {"bin/docker-credential-tests": content})
        (tmp_path / "bin/docker-credential-tests").chmod(0o755)
    environment["PATH"] = f"{tmp_path}/bin:{os.environ['PATH']}"
    environment["HELPER_LOG"] = "/dev/null"
    reference = f"oci://{guarded.name}/who:1"
    write_files(tmp_path, {"modules.toml": entry(reference), "m.wasm": module("m")})
    for command in (("check",), ("push", "m.wasm", reference), ("pull", reference)):
        done = run_wagi(tmp_path, *command, environment={**environment, **cache(tmp_path)})
        assert done.returncode == 2, done.stderr
        assert message.replace("NAME", guarded.name) in done.stderr
        assert done.stderr.count("error: ") == 1
        assert "s3cret" not in done.stderr


# The cache


def test_a_start_without_the_registry(tmp_path: Path) -> None:
    """A tag keeps its last known digest, with a warning."""
    reference = ""
    with registry(tmp_path / "registry") as running:
        target = f"oci://{running.name}/offline:1"
        reference = push(tmp_path, module("kept"), target)
        manifest = entry(target, "/tag") + entry(reference, "/digest")
        with serving(tmp_path, manifest, environment=cache(tmp_path)) as server:
            assert server.get("/tag").text == "kept"
    with serving(tmp_path, manifest, environment=cache(tmp_path)) as server:
        assert server.get("/tag").text == server.get("/digest").text == "kept"
        digest = reference.partition("@")[2]
        assert re.search(rf"using {digest}, which {target} last resolved to", server.log)
        assert server.log.count("cannot be reached") == 1
    (tmp_path / "cache/tags").rename(tmp_path / "cache/gone")
    done = run_wagi(tmp_path, "check", environment=cache(tmp_path))
    assert done.returncode == 1
    assert f"modules.toml:3: module: {target}: http://{running.name} cannot be reached: " in (
        done.stderr
    )


def test_a_tag_that_moves(tmp_path: Path, anonymous: Registry) -> None:
    """It is resolved again at startup and on reload, depending on the key pull."""
    target = f"oci://{anonymous.name}/moving:1"
    push(tmp_path, module("old"), target)
    manifest = entry(target, "/always") + entry(target, "/kept", 'pull = "if-not-present"')
    with serving(tmp_path, manifest, environment=cache(tmp_path)) as server:
        assert server.get("/always").text == server.get("/kept").text == "old"
        push(tmp_path, module("new"), target)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("reloaded")
        assert server.get("/always").text == "new"


def test_pull_policies(tmp_path: Path, anonymous: Registry) -> None:
    target = f"oci://{anonymous.name}/policies:1"
    push(tmp_path, module("old"), target)
    write_files(tmp_path, {"modules.toml": entry(target, extra='pull = "never"')})
    done = run_wagi(tmp_path, "check", environment=cache(tmp_path))
    assert done.returncode == 2
    assert f'{target}: not in the module cache, and pull is "never"' in done.stderr
    run_wagi(tmp_path, "pull", target, environment=cache(tmp_path))
    push(tmp_path, module("new"), target)
    for policy in ("never", "if-not-present"):
        manifest = entry(target, extra=f'pull = "{policy}"')
        with serving(tmp_path, manifest, environment=cache(tmp_path)) as server:
            assert server.get("/").text == "old"
    write_files(tmp_path, {"modules.toml": entry(target, extra='pull = "sometimes"')})
    done = run_wagi(tmp_path, "check", environment=cache(tmp_path))
    assert done.returncode == 2
    assert "modules.toml:4: pull: expected 'always', 'if-not-present' or 'never'" in done.stderr


def test_a_damaged_cache_is_repaired(tmp_path: Path, anonymous: Registry) -> None:
    target = f"oci://{anonymous.name}/damaged:1"
    push(tmp_path, module("whole"), target)
    with serving(tmp_path, entry(target), environment=cache(tmp_path)):
        pass
    before = blobs(tmp_path)
    for name in before:
        (tmp_path / "cache/blobs/sha256" / name).write_bytes(b"damaged")
    with serving(tmp_path, entry(target), environment=cache(tmp_path)) as server:
        assert server.get("/").text == "whole"
    assert blobs(tmp_path) == before
    assert b"damaged" not in [p.read_bytes() for p in (tmp_path / "cache/blobs/sha256").iterdir()]


def test_two_servers_start_concurrently_on_an_empty_cache(
    tmp_path: Path, anonymous: Registry
) -> None:
    manifest = ""
    for index in range(6):
        target = f"oci://{anonymous.name}/at-once-{index}:1"
        push(tmp_path, module(f"number {index}" + " " * 300_000), target)
        manifest += entry(target, f"/{index}")
    texts: list[list[str]] = []

    def start() -> None:
        with serving(tmp_path, environment=cache(tmp_path)) as server:
            texts.append([server.get(f"/{index}").text.strip() for index in range(6)])

    write_files(tmp_path, {"modules.toml": manifest})
    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == [[f"number {index}" for index in range(6)]] * 2
    assert not list((tmp_path / "cache").rglob("*.partial"))


def test_a_real_handler(tmp_path: Path, anonymous: Registry) -> None:
    """A module of a real compiler is pushed and pulled unchanged."""
    hello = compiled(HANDLERS / "hello.c").read_bytes()
    target = f"oci://{anonymous.name}/real/hello:1"
    push(tmp_path, hello, target)
    with serving(tmp_path, entry(target), environment=cache(tmp_path)) as server:
        assert server.get("/").status == 200


def test_progress_on_a_terminal(tmp_path: Path, anonymous: Registry) -> None:
    target = f"oci://{anonymous.name}/large:1"
    push(tmp_path, module("x" * 3_000_000), target)
    write_files(tmp_path, {"modules.toml": entry(target)})
    leader, follower = os.openpty()
    environment = {**ENVIRONMENT, **cache(tmp_path)}
    done = subprocess.Popen([*WAGI, "check"], cwd=tmp_path, env=environment, stderr=follower)
    os.close(follower)
    seen = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            seen += os.read(leader, 4096)
        except OSError:
            break
    assert done.wait(60) == 0
    os.close(leader)
    assert f"Downloading {target}: ".encode() in seen
    assert b" of 2.9 MiB" in seen
