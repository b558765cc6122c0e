"""Reloads when a file changes: in the layouts of Kubernetes and of release folders."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.configmap import ConfigMap, replace_link
from tests.support.server import ROOT, Server, serving, write_files
from tests.support.tls import certificate_of
from tests.support.wat import TEXT_HEAD, printing

MANIFEST = '[[module]]\nroute = "/"\nmodule = "m.wat"\n'
OPTIONS = ("--watch", "--reload-on-change")


def files(answer: str) -> dict[str, str | bytes]:
    return {"modules.toml": MANIFEST, "m.wat": printing(TEXT_HEAD + answer)}


class Releases:
    """A folder for each release, and the symbolic link ``current``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.target = folder / "current/modules.toml"
        self.versions = 0

    def write(self, content: dict[str, str | bytes]) -> None:
        self.versions += 1
        write_files(self.folder / f"releases/{self.versions}", content)
        replace_link(self.folder / "current", f"releases/{self.versions}")


def wait_until_reloaded(server: Server) -> None:
    """Wait for the end of a reload, after the first worker with the new routes has answered."""
    server.wait_for_log(r"\breloaded\b(?!(?s:.*)\breloading\b)")


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("layout", [ConfigMap, Releases])
def test_links_that_lead_elsewhere(
    tmp_path: Path, layout: Callable[[Path], ConfigMap | Releases], option: str
) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    volume = layout(folder)
    volume.write(files("one"))
    with serving(tmp_path, None, option, target=str(volume.target)) as server:
        assert server.get("/").text == "one"
        for answer in ("two", "three", "four"):
            volume.write(files(answer))
            server.wait_for_text("/", answer)
            wait_until_reloaded(server)
        content = files("five")
        content["modules.toml"] = MANIFEST + MANIFEST.replace('"/"', '"/more"')
        volume.write(content)
        server.wait_for_text("/more", "five")
        wait_until_reloaded(server)
        volume.write({**files("six"), "modules.toml": "[[modul]]"})
        server.wait_for_log("reload failed(?s:.*)unknown key 'modul'")
        assert server.get("/").text == "five"
        volume.write(files("seven"))
        server.wait_for_text("/", "seven")
        assert server.stop() == 0


def test_a_failed_reload_is_retried_and_counted(tmp_path: Path) -> None:
    """What is missing may appear without a change of a file that is watched."""
    with serving(tmp_path, None, "--reload-on-change", modules=files("one")) as server:
        content = files("two")
        content["modules.toml"] = MANIFEST + 'volumes = {"/data" = "data"}\n'
        write_files(tmp_path, content)
        server.wait_for_log("reload failed, the previous .* in effect; retrying in 1 s:\n")
        server.wait_for_log("reload failed 2 times in a row, .*; retrying in 2 s:\n")
        assert server.get("/").text == "one"
        assert "Reload failed" not in server.get("/nowhere").text
        (tmp_path / "data").mkdir()
        server.wait_for_text("/", "two")
        server.wait_for_log("the reload succeeded after it had failed [23] times")


def test_nothing_is_built(tmp_path: Path) -> None:
    content = files("one")
    content["modules.toml"] = MANIFEST + 'build = "touch built"\nwatch = ["source"]\n'
    content["source"] = ""
    with serving(tmp_path, None, "--reload-on-change", modules=content) as server:
        write_files(tmp_path, {"source": "changed"})
        time.sleep(0.5)
        write_files(tmp_path, files("two"))
        server.wait_for_text("/", "two")
    assert not (tmp_path / "built").exists()


def test_a_broken_start_ends(tmp_path: Path) -> None:
    """Unlike with --watch: what has started the service is to see the failure."""
    write_files(tmp_path, {"modules.toml": "[[modul]]"})
    with serving(tmp_path, None, "--reload-on-change", wait=False) as server:
        assert server.process.wait(60) == 2
        assert "unknown key 'modul'" in server.log


def test_a_renewed_certificate(tmp_path: Path) -> None:
    """As certbot renews it: the link to the file leads to another one."""
    archive = [certificate_of(tmp_path / "archive" / name) for name in ("1", "2")]
    live = tmp_path / "live"
    live.mkdir()

    def renew(files: tuple[Path, Path]) -> None:
        for link, file in zip(("fullchain.pem", "privkey.pem"), files, strict=True):
            replace_link(live / link, str(file))

    renew(archive[0])
    tls = ("--tls-cert", str(live / "fullchain.pem"), "--tls-key", str(live / "privkey.pem"))
    modules = files("one")
    with serving(tmp_path, None, "--reload-on-change", *tls, modules=modules) as server:
        address = ("127.0.0.1", server.port)
        assert ssl.get_server_certificate(address) == archive[0][0].read_text()
        renew(archive[1])
        deadline = time.monotonic() + 30
        while ssl.get_server_certificate(address) != archive[1][0].read_text():
            assert time.monotonic() < deadline, server.log
            time.sleep(0.1)


def test_changes_are_found_without_notifications(tmp_path: Path) -> None:
    """If the kernel has no more watches, and on file systems that report nothing."""
    environment = {"PYTHONPATH": f"{tmp_path / 'path'}:{ROOT}"}
    # A watchfiles that cannot watch, as if fs.inotify.max_user_watches were exhausted.
    write_files(
        tmp_path / "path",
        {
            "watchfiles.py": "class DefaultFilter: pass\n"
            "def watch(*_, **__): raise OSError('OS file watch limit reached')\n"
        },
    )
    with serving(
        tmp_path, None, "--reload-on-change", modules=files("one"), environment=environment
    ) as server:
        server.wait_for_log("checking for changes every 5 s: OS file watch limit reached")
        write_files(tmp_path, files("two"))
        server.wait_for_text("/", "two")
