"""Runs the commands of a documentation page, and checks their output.

In the output shown by a page, … matches any text, and a line of … any lines. Ports 3000 and 5000
are replaced by those of the test's server and registry.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.support.nginx import free_port
from tests.support.server import ENVIRONMENT, ROOT, WAGI, write_files
from tests.support.toolchains import CACHE, python_module, rust_component_target, rustc, tool

BLOCK = re.compile(r"^```(\w+)(?: title=\"(\S+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^\$ (.*)\n((?:[^$].*\n)*)", re.MULTILINE)
_INSTALL = re.compile(r"pip install (?:\.|'\.\[\w+\]') && ")
_SCRIPTS = str(Path(sys.executable).parent)


def environment_with(folder: Path, *langs: str) -> dict[str, str]:
    """Make an environment with wagi, pytest, and the tools of ``wagi new`` projects.

    Args:
        folder: Where scripts are created, in ``bin``.
        langs: Languages, as in ``--lang``.
    """
    environment = {**ENVIRONMENT, "GOCACHE": str(CACHE / "go"), "npm_config_fund": "false"}
    scripts = {
        "wagi": f'exec {" ".join(WAGI)} "$@"',
        "pytest": f'exec {sys.executable} -m pytest -p no:cacheprovider "$@"',
    }
    for lang in langs:
        match lang:
            case "rust":
                scripts["cargo"] = _cargo()
                environment["RUSTC"] = rustc()[0]
            case "rust-wasi-http":
                rust_component_target()
                scripts["cargo"] = f'exec {tool("cargo")} "$@"'
            case "go":
                scripts["go"] = f'exec {tool("go")} "$@"'
            case "tinygo":
                scripts["tinygo"] = f'exec {tool("tinygo")} "$@"'
            case "c" | "zig" | "javascript":
                tool("make")
                scripts["zig"] = f'exec {sys.executable} -m {python_module("ziglang")} "$@"'
            case "assemblyscript" | "python" | "javascript-wasi-http":
                tool("node")
                scripts["npm"] = f'exec {tool("npm")} "$@"'
    for name, text in scripts.items():
        write_files(folder, {f"bin/{name}": f"#!/bin/sh\n{text}\n"})
        (folder / "bin" / name).chmod(0o755)
    places = [str(folder / "bin"), _SCRIPTS, environment["PATH"], "/usr/sbin"]
    return {**environment, "PATH": os.pathsep.join(places), "PYTHONPATH": str(ROOT)}


def _cargo() -> str:
    """Return the cargo of the same release as rustc: another one may be incompatible."""
    compiler, target = rustc()
    beside = Path(compiler).with_name("cargo")
    run = f'exec {beside if beside.exists() else tool("cargo")} "$@"'
    if target == "wasm32-wasip1":
        return run
    return (  # the target's name before Rust 1.78
        f"mkdir -p target/{target} && ln -sfn {target} target/wasm32-wasip1\n"
        f'for word; do shift; [ "$word" = wasm32-wasip1 ] && word={target};'
        f' set -- "$@" "$word"; done\n{run}'
    )


class Shell:
    """A shell in a folder; ``wagi serve … &`` runs until the next such command or the end."""

    def __init__(self, folder: Path, environment: dict[str, str], registry: str = "") -> None:
        """Make a shell.

        Args:
            folder: The working directory.
            environment: The environment variables.
            registry: HOST:PORT of a registry, if commands need one.
        """
        self._folder = folder
        self._home = folder
        self._port = free_port()
        self._registry = registry
        self._server: subprocess.Popen[bytes] | None = None
        self._environment = {
            **environment,
            "WAGI_MODULE_CACHE": str(folder / "modules"),
        }

    def follow(self, page: str) -> int:
        """Write the files of a page and run its commands, in order.

        Returns:
            The number of commands.
        """
        commands = 0
        for language, name, content in BLOCK.findall(page):
            if name:
                path = self._home / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(self._here(content))
            elif language == "console":
                for command, output in _COMMAND.findall(content):
                    commands += 1
                    self._check(command, output)
        assert commands == len(re.findall(r"^\$ ", page, re.MULTILINE))
        return commands

    def _check(self, command: str, output: str) -> None:
        # The suite is already running; CI starts it as shown.
        if _INSTALL.match(command) and command.endswith("pytest"):
            return
        shown = re.escape(output.rstrip("\n"))
        shown = re.sub(r"(?m)^…$", "(?s:.*)", shown.replace("\\\n", "\n")).replace("…", ".*")
        found = self.run(command).rstrip("\n")
        assert re.fullmatch(shown, found), f"{command}\n{found}"

    def _here(self, text: str) -> str:
        text = re.sub("(localhost|127.0.0.1):3000", f"127.0.0.1:{self._port}", text)
        return text.replace("localhost:5000", self._registry).replace("/run/wagi", str(self._home))

    def run(self, command: str) -> str:
        """Run a command and return its output; a failing command fails the test."""
        command = self._here(_INSTALL.sub("", command))
        if command.startswith("cd "):
            self._folder = (self._folder / command.removeprefix("cd ")).resolve()
            assert self._folder.is_dir()
            return ""
        if command.endswith(" &") or command == "wagi serve modules.toml":
            self._serve(command.removesuffix(" &"))
            return ""
        if command == "kill %1":
            self.close()
            return ""
        if command.startswith("rustc"):
            compiler, target = rustc()
            command = command.replace("rustc", compiler).replace("wasm32-wasip1", target)
        done = subprocess.run(
            ["sh", "-c", command], cwd=self._folder, env=self._environment, capture_output=True,
            text=True, timeout=600, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return (
            done.stdout.replace(self._registry, "localhost:5000") if self._registry else done.stdout
        )

    def _serve(self, command: str) -> None:
        self.close()
        if "--listen" not in command and " -l " not in command:
            self._port = free_port()
            command += f" --listen 127.0.0.1:{self._port}"
        log = self._home / "server.log"
        with log.open("wb") as stderr:
            self._server = subprocess.Popen(
                ["sh", "-c", f"exec {command}"],
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
        """Stop the server."""
        if self._server is not None:
            self._server.terminate()
            assert self._server.wait(40) == 0
            self._server = None
