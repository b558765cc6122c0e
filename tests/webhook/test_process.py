"""A real ``wagi webhook``, spoken to over TLS as the API server does."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.krustlet import POD
from tests.support.nginx import example_site, free_port, nginx
from tests.support.registry import docker_config, login, registry_with_passwords
from tests.support.reviews import Json, patched, review
from tests.support.server import read_all, run_wagi, serving, write_files
from tests.support.tls import certificate_of
from tests.support.toolchains import HANDLERS, compiled, tool
from tests.support.webhooks import IMAGE, Webhook, running_webhook
from wagi.routemap.pod_injection import MANIFEST
from wagi.routemap.pod_manifest import MODULES


@pytest.fixture(scope="module")
def webhook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    folder = tmp_path_factory.mktemp("webhook")
    options = ("--gateway-env", "WAGI_TRUSTED_PROXY=127.0.0.0/8", "--shutdown-delay", "0")
    with running_webhook(folder, certificate_of(folder), *options) as running:
        yield running


def pod(registry: str = "registry.example", port: int = 3001) -> Json:
    found: Json = yaml.safe_load(POD.replace("REGISTRY", registry).replace("PORT", str(port)))
    return found


def test_a_pod_is_rewritten(webhook: Webhook) -> None:
    result = patched(pod(), webhook.review(review(pod())))
    (container,) = result["spec"]["containers"]
    assert container["image"] == IMAGE
    assert {"name": "WAGI_TRUSTED_PROXY", "value": "127.0.0.0/8"} in container["env"]
    webhook.wait_for_log("CREATE default/sample: rewritten")


def test_an_invalid_annotation_is_denied(webhook: Webhook) -> None:
    changed = pod()
    changed["metadata"]["annotations"][MODULES] = '{"sample": {"rout": "/"}}'
    response = webhook.review(review(changed))
    assert response["allowed"] is False
    assert response["status"]["message"].endswith("unknown key 'rout': did you mean 'route'?")


def test_probes(webhook: Webhook) -> None:
    for path in ("/livez", "/readyz"):
        response = webhook.request("GET", path)
        assert (response.status, response.text) == (200, "ok\n")
        assert response.header("Server") == "wagi"


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        (b"", "application/json", 400),
        (b"{}", "application/json", 400),
        (b"[" * 1_000_000, "application/json", 400),
        (json.dumps(review(pod())).encode(), "text/plain", 400),
        (json.dumps(review(pod())).encode(), "", 400),
        (b" " * (4 * 1024**2 + 1), "application/json", 413),
    ],
)
def test_hostile_requests(webhook: Webhook, body: bytes, media_type: str, status: int) -> None:
    response = webhook.request("POST", "/mutate", body, media_type)
    assert response.status == status
    assert "Traceback" not in response.text + webhook.log
    assert len(response.body) < 1000
    assert webhook.review(review(pod()))["allowed"]


def test_slow_clients_do_not_keep_others_waiting(webhook: Webhook) -> None:
    """Neither those that send nothing, nor those that announce large reviews."""
    content = json.dumps(review(pod())).encode()
    stuck = [webhook.connect() for _ in range(20)]
    try:
        for index, connection in enumerate(stuck):
            connection.putrequest("POST", "/mutate")
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", str(1_000_000 if index % 2 else len(content)))
            connection.endheaders(content[:10])
        assert webhook.review(review(pod()))["allowed"]
    finally:
        for connection in stuck:
            connection.close()


def test_memory_is_bounded(webhook: Webhook) -> None:
    """The largest review that is accepted, several times at once."""
    body = b'{"a":[' + b"[]," * ((4 * 1024**2 - 10) // 3) + b"0]}"
    clients = [
        threading.Thread(target=webhook.request, args=("POST", "/mutate", body, "application/json"))
        for _ in range(8)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{webhook.process.pid}/status").read_text())
    assert peak is not None
    assert int(peak[1]) < 256 * 1024, "the memory limit of the chart"


def test_other_paths(webhook: Webhook) -> None:
    assert webhook.request("GET", "/").status == 404
    assert webhook.request("GET", "/mutate").status == 405


def test_garbage_in_place_of_tls(webhook: Webhook) -> None:
    with socket.create_connection(("127.0.0.1", webhook.port), timeout=30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert b"HTTP" not in read_all(connection)
    assert webhook.request("GET", "/livez").status == 200
    assert "Traceback" not in webhook.log


def test_a_renewed_certificate_is_used_without_a_restart(tmp_path: Path) -> None:
    first, second = certificate_of(tmp_path / "1"), certificate_of(tmp_path / "2")
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    for source, target in zip(first, files, strict=True):
        shutil.copy(source, target)
    options = ("--certificate-lifetime", "10")  # the files are checked often
    with running_webhook(tmp_path, files, *options) as running:
        old = running.connect()
        old.request("GET", "/livez")
        assert old.getresponse().read() == b"ok\n"
        for source, target in zip(second, files, strict=True):
            shutil.copy(source, target.with_suffix(".new"))
            target.with_suffix(".new").replace(target)
        running.tls = ssl.create_default_context(cafile=str(second[0]))
        deadline = time.monotonic() + 60
        while True:
            try:
                assert running.request("GET", "/livez").status == 200
                break
            except ssl.SSLCertVerificationError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        old.request("GET", "/livez")
        assert old.getresponse().read() == b"ok\n"
        old.close()


def test_a_shutdown_loses_no_review(tmp_path: Path) -> None:
    """After SIGTERM it is not ready, but still answers until the delay is over."""
    with running_webhook(tmp_path, certificate_of(tmp_path), "--shutdown-delay", "3") as running:
        stopped: list[int] = []
        thread = threading.Thread(target=lambda: stopped.append(running.stop()))
        thread.start()
        while running.request("GET", "/readyz").status == 200:
            time.sleep(0.01)
        assert running.review(review(pod()))["allowed"]
        thread.join()
        assert stopped == [0]


def test_the_log_as_json(tmp_path: Path) -> None:
    options = ("--log-format", "json")
    with running_webhook(tmp_path, certificate_of(tmp_path), *options) as running:
        running.review(review(pod()))
        running.wait_for_log("rewritten")
        assert [json.loads(line)["message"] for line in running.log.splitlines()] == [
            f"listening on https://127.0.0.1:{running.port}",
            "CREATE default/sample: rewritten",
        ]


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ((), 2, "Missing option '--image'"),
        (("--image", "x", "-l", "x"), 2, "-l/--listen: expected HOST:PORT"),
        (("--image", "x", "-l", "unix:/x"), 2, "-l/--listen: expected HOST:PORT"),
        (("--image", "x", "--gateway-env", "A"), 2, "--gateway-env: expected KEY=VALUE"),
        (("--image", "x", "--tls-cert", "x"), 2, "expected --tls-cert and --tls-key together"),
        (("--image", "x", "-l", "127.0.0.1:0"), 2, "no service account of a cluster"),
    ],
)
def test_bad_usage(tmp_path: Path, options: tuple[str, ...], status: int, message: str) -> None:
    account = ("--service-account", str(tmp_path / "none"))
    done = run_wagi(tmp_path, "webhook", *account, *options)
    assert done.returncode == status, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def environment_of(container: Json, folder: Path) -> dict[str, str]:
    """The variables of the gateway's container, with directories of the test."""
    variables = {item["name"]: item.get("value", "") for item in container["env"]}
    places = {"/var/cache/wagi": folder / "cache", "/etc/wagi/registries": folder / "registries"}
    for name, value in variables.items():
        for place, directory in places.items():
            variables[name] = value = value.replace(place, str(directory))
    return variables


def test_the_seed_pod_behind_nginx(tmp_path: Path, webhook: Webhook) -> None:
    """A private registry with a pull secret, a variable from a secret, and a new tag."""
    module = compiled(HANDLERS / "seed.rs").read_bytes()
    port = free_port()
    with registry_with_passwords(tmp_path / "registry") as registry:
        credentials = login(registry.name)
        write_files(tmp_path, {"sample.wasm": module, "registries/0.json": json.dumps(credentials)})
        for tag in ("1.0.0", "2.0.0"):
            target = f"oci://{registry.name}/sample:{tag}"
            config = docker_config(tmp_path / "docker", credentials)
            pushed = run_wagi(tmp_path, "push", "sample.wasm", target, environment=config)
            assert pushed.returncode == 0, pushed.stderr
        author = pod(registry.name, port)
        author["spec"]["imagePullSecrets"] = [{"name": "registry"}]
        secret = {"secretKeyRef": {"name": "database", "key": "password"}}
        author["spec"]["containers"][0]["env"] = [
            {"name": "GREETING", "value": "hi"},
            {"name": "PASSWORD", "valueFrom": secret},
        ]
        live = patched(author, webhook.review(review(author)))
        (container,) = live["spec"]["containers"]
        environment = environment_of(container, tmp_path)
        environment["WAGI_POD_0_PASSWORD"] = "from the kubelet"
        write_files(tmp_path, {"pod.yaml": live["metadata"]["annotations"][MANIFEST]})
        with serving(tmp_path, target="pod.yaml", listen=None, environment=environment) as server:
            assert server.port == port
            site, https = example_site(tmp_path, f"127.0.0.1:{port}")
            with nginx(tmp_path / "nginx", site):
                answer = _curl(f"https://127.0.0.1:{https}/?name=seed")
            for line in (
                *("Hello, world!", "GREETING: hi", "PASSWORD: from the kubelet"),
                *("QUERY_STRING: name=seed", "REQUEST_SCHEME: https", "REMOTE_ADDR: 127.0.0.1"),
                *("REQUEST_METHOD: GET", "SCRIPT_NAME: /", f"SERVER_PORT: {https}"),
            ):
                assert f"{line}\n" in answer
            assert "WAGI_" not in answer
            changed = json.loads(json.dumps(live))
            changed["spec"]["containers"][0]["image"] = f"{registry.name}/sample:2.0.0"
            updated = patched(changed, webhook.review(review(changed, "UPDATE", live)))
            assert updated["spec"] == live["spec"]
            write_files(tmp_path, {"pod.new": updated["metadata"]["annotations"][MANIFEST]})
            (tmp_path / "pod.new").replace(tmp_path / "pod.yaml")
            server.wait_for_log("sample:2.0.0|reloaded", 60)
            assert server.get("/").status == 200


def _curl(url: str) -> str:
    return subprocess.run(
        [tool("curl"), "-sSk", url], capture_output=True, text=True, check=True
    ).stdout
