"""wagi serve --watch and --dev with a project that is broken from the start."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.dev.conftest import can_connect, text_of
from tests.support.browser import Page
from tests.support.nginx import free_port
from tests.support.server import START_TIMEOUT, Server, serving, write_files
from tests.support.tls import certificate_of
from tests.support.wat import TEXT_HEAD, printing

pytestmark = pytest.mark.xdist_group("dev")
MANIFEST = '[[module]]\nroute = "/"\nmodule = "m.wat"\n'
BUILD = (
    "printf '\\033[31merror\\033[0m: no such variable\\n --> m.c:7\\n'; exit 5"  # as gcc and rustc
)
POD = """apiVersion: v1
kind: Pod
metadata:
  name: sample
  annotations:
    alpha.wagi.krustlet.dev/default-host: "127.0.0.1:PORT"
    alpha.wagi.krustlet.dev/modules: '{"first": {"route": "/"}}'
spec:
  containers:
    - name: first
      image: 127.0.0.1:1/first:1.0.0
"""


@contextmanager
def started(folder: Path, manifest: str, *options: str) -> Iterator[Server]:
    """Serve a project that cannot be loaded, and wait until its port accepts connections."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    with serving(folder, manifest, *options, listen=address, wait=False) as server:
        server.port = port
        until(lambda: can_connect(port), START_TIMEOUT)
        yield server


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_port_answers_with_the_reason(tmp_path: Path, chromium: Page) -> None:
    """The address of the dev page is printed first, and the page shows the reason as well."""
    port = free_port()
    with started(tmp_path, "[[modul]]", "--dev", "--dev-listen", f"127.0.0.1:{port}") as server:
        assert server.log.splitlines()[0] == f"dev page on http://127.0.0.1:{port}"
        server.wait_for_log("cannot start, waiting for a change")
        for path in ("/", "/nowhere", "/healthz"):
            response = server.get(path)
            assert response.status == 503
            assert response.header("Retry-After") == "1"
            assert response.text.startswith(
                "503 Service Unavailable\n\nThe server could not start.\n"
            )
            assert re.search(r"\nFailed to load:\n    modules.toml:1: .*'modul'", response.text)
        chromium.open(f"http://127.0.0.1:{server.port}/")
        chromium.wait("document.links.length == 1")
        assert "unknown key 'modul'" in text_of(chromium, "document.body")
        chromium.evaluate("document.links[0].click()")
        chromium.wait("document.getElementById('problem')?.hidden === false")
        assert "unknown key 'modul'" in text_of(chromium, "document.getElementById('problem')")
        write_files(tmp_path, {"m.wat": "(broken", "modules.toml": MANIFEST})
        until(lambda: "m.wat" in server.get("/").text)
        assert "listening on" not in server.log
        write_files(tmp_path, {"m.wat": printing(TEXT_HEAD + "good")})
        server.wait_for_log(rf"\nlistening on http://127\.0\.0\.1:{server.port}", START_TIMEOUT)
        assert server.get("/").text == "good"
        chromium.wait("document.getElementById('problem').hidden")


def test_no_request_is_lost_when_the_first_plan_is_loaded(tmp_path: Path) -> None:
    with started(tmp_path, "[[modul]]", "--watch", "--workers", "2") as server:
        write_files(tmp_path, {"m.wat": printing(TEXT_HEAD + "good"), "modules.toml": MANIFEST})
        statuses: list[int] = []
        while not statuses or statuses[-1] == 503:
            statuses.append(server.get("/").status)
        assert statuses[-1] == 200
        assert set(statuses) <= {503, 200}


def test_a_failing_first_build(tmp_path: Path) -> None:
    """The messages of the compiler, without the colors of a terminal."""
    (tmp_path / "src").mkdir()
    manifest = f'{MANIFEST}build = """{BUILD.replace(chr(92), chr(92) * 2)}"""\n'
    with started(tmp_path, manifest, "--watch") as server:
        text = server.get("/").text
        assert server.get("/").status == 503
        assert "\n    error: no such variable\n     --> m.c:7\n" in text, text
        assert re.search(r"Failed to load:\n    the build failed with status 5: printf", text)
        assert re.search(r"\n    modules.toml:3: .*m.wat", text)
        assert "error\033[0m: no such variable" in server.log  # in the terminal, with colors
        good = printing(TEXT_HEAD + "built")
        write_files(tmp_path, {"good.wat": good})
        fixed = f'{MANIFEST}build = "cp good.wat m.wat"\n'
        write_files(tmp_path, {"modules.toml": fixed})
        server.wait_for_log("listening on", START_TIMEOUT)
        assert server.get("/").text == "built"


def test_a_failed_build_is_shown_until_it_is_fixed(tmp_path: Path) -> None:
    """A build that succeeds meanwhile does not hide it."""
    manifest = (
        f'{MANIFEST}build = "test ! -e bad"\nwatch = ["a"]\n'
        '[[module]]\nroute = "/b"\nmodule = "b.wat"\nbuild = "true"\nwatch = ["b"]\n'
    )
    good = printing(TEXT_HEAD + "good")
    write_files(tmp_path, {"m.wat": good, "b.wat": good, "a/x": "", "b/x": "", "bad": ""})
    with serving(tmp_path, manifest, "--watch") as server:
        time.sleep(0.5)
        write_files(tmp_path, {"a/x": "1"})
        until(lambda: "the build failed with status 1" in server.get("/nowhere").text)
        count = server.log.count("reloaded")
        write_files(tmp_path, {"b/x": "1"})
        until(lambda: server.log.count("reloaded") > count)
        assert "the build failed with status 1" in server.get("/nowhere").text
        (tmp_path / "bad").unlink()
        write_files(tmp_path, {"a/x": "2"})
        until(lambda: "the build failed" not in server.get("/nowhere").text)


@pytest.mark.parametrize("host", ["evil.example", "192.0.2.1:3000"])
def test_other_names_get_no_reason(tmp_path: Path, host: str) -> None:
    """A client elsewhere, or a page of another site whose name resolves to this address."""
    with started(tmp_path, "[[modul]]", "--watch") as server:
        response = server.get("/", headers=[("Host", host)])
        assert response.status == 503
        assert "modul" not in response.text


def test_a_service_with_tls_answers_too(tmp_path: Path) -> None:
    certificate, key = certificate_of(tmp_path)
    options = ("--tls-cert", str(certificate), "--tls-key", str(key))
    with started(tmp_path, "[[modul]]", "--watch", *options) as server:
        server.tls = ssl.create_default_context(cafile=certificate)
        assert server.get("/").status == 503


def test_the_address_is_that_of_a_pod_manifest(tmp_path: Path) -> None:
    """Whose module cannot be fetched."""
    port = free_port()
    pod = POD.replace("PORT", str(port))
    write_files(tmp_path, {"pod.yaml": pod})
    with serving(tmp_path, None, "--watch", target="pod.yaml", listen=None, wait=False) as server:
        server.port = port
        until(lambda: can_connect(port), START_TIMEOUT)
        assert server.get("/").status == 503


def test_a_port_that_is_in_use_is_reported_once(tmp_path: Path) -> None:
    write_files(tmp_path, {"m.wat": printing(TEXT_HEAD + "good")})
    with serving(tmp_path, MANIFEST) as first:
        address = f"127.0.0.1:{first.port}"
        with serving(tmp_path, None, "--watch", listen=address, wait=False) as second:
            second.wait_for_log("cannot start, waiting for a change:", START_TIMEOUT)
            assert second.log.count("Address already in use") == 1
            write_files(tmp_path, {"modules.toml": "[[modul]]"})
            second.wait_for_log("unknown key")
            second.wait_for_log("(?s)unknown key.*Address already in use")
