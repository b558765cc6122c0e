"""Everything the README shows works as shown.

Blocks with a file name are written, consoles are run in their order in one shell session: what
follows a command is its output, in which … is any text. Ports 3000 and 5000 are exchanged for those
of our server and of a registry.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import toolchains
from tests.support.nginx import free_port
from tests.support.registry import registry
from tests.support.server import ROOT, WAGI, run_wagi
from wagi.config.manifest import Manifest, ModuleEntry, Rules

README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INSTALL = re.compile(r"pip install (?:\.|'\.\[\w+\]') && ")


class Session:
    """A shell in a folder; ``wagi … &`` runs until the next one or the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.registry = ""
        self._server: subprocess.Popen[bytes] | None = None
        tools = folder / "bin"
        tools.mkdir()
        (tools / "wagi").write_text(f'#!/bin/sh\nexec {" ".join(WAGI)} "$@"\n')
        (tools / "wagi").chmod(0o755)
        places = [str(tools), str(Path(sys.executable).parent), os.environ["PATH"]]
        self._environment = {
            **os.environ,
            "PATH": os.pathsep.join(places),
            "PYTHONPATH": str(ROOT),
            "GOCACHE": str(folder / "gocache"),
            "WAGI_MODULE_CACHE": str(folder / "modules"),
        }

    def run(self, command: str) -> str:
        command = INSTALL.sub("", command)
        command = command.replace("localhost:3000", f"127.0.0.1:{self._port}")
        command = command.replace("localhost:5000", self.registry)
        if command.startswith("wagi serve"):
            self._serve(command.rstrip(" &"))
            return ""
        if command == "kill %1":
            self.close()
            return ""
        if command.startswith("rustc"):
            compiler, target = toolchains.rustc()
            command = command.replace("rustc", compiler).replace("wasm32-wasip1", target)
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout.replace(self.registry, "localhost:5000")

    def _serve(self, command: str) -> None:
        self.close()
        self._port = free_port()
        log = self._folder / "server.log"
        with log.open("wb") as stderr:
            self._server = subprocess.Popen(
                ["sh", "-c", f"exec {command} --listen 127.0.0.1:{self._port}"],
                cwd=self._folder,
                env=self._environment,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        deadline = time.monotonic() + 120
        while "listening on" not in log.read_text():
            assert self._server.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def close(self) -> None:
        if self._server is not None:
            self._server.terminate()
            assert self._server.wait(40) == 0
            self._server = None


@pytest.mark.parametrize("path", ["README.md", "docs/variables.md"])
def test_everything_it_shows(tmp_path: Path, path: str) -> None:
    for name in ("go", "curl"):
        toolchains.tool(name, str(Path(sys.executable).parent))
    toolchains.rustc()
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    shutil.copy(ROOT / "modules.toml", tmp_path)
    page = (ROOT / path).read_text()
    session = Session(tmp_path)
    commands = 0
    with registry(tmp_path / "registry") as running, closing(session):
        session.registry = running.name
        for language, name, content in BLOCK.findall(page):
            if name:
                (tmp_path / name).write_text(content.replace("localhost:5000", running.name))
            elif language == "console":
                for command, output in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", content, re.M):
                    commands += 1
                    # The suite is running already: continuous integration starts it as shown.
                    if not command.endswith("pytest"):
                        shown = re.escape(output.rstrip("\n")).replace("…", ".*")
                        assert re.fullmatch(shown, session.run(command).rstrip("\n"))
    assert commands == len(re.findall(r"^\$ ", page, re.MULTILINE)) > 2


def test_the_test_command_is_what_continuous_integration_runs() -> None:
    assert "$ pip install '.[test]' && pytest\n" in README
    assert "README.md" in (ROOT / ".ci/run").read_text()


def test_the_reference_is_valid(tmp_path: Path) -> None:
    (block,) = (text for _, name, text in BLOCK.findall(README) if name == "reference.toml")
    (tmp_path / "reference.toml").write_text(block)
    (tmp_path / "data").mkdir()
    shutil.copy(ROOT / "examples/wat/hello.wat", tmp_path / "hello.wasm")
    done = run_wagi(tmp_path, "check", "reference.toml")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_reference_names_every_key() -> None:
    (block,) = (text for _, name, text in BLOCK.findall(README) if name == "reference.toml")
    keys = set(re.findall(r"^(\w+) =", block, re.MULTILINE)) | {"defaults", "module"}
    assert keys == {*Manifest.model_fields, *Rules.model_fields, *ModuleEntry.model_fields}
