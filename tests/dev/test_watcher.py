"""wagi serve --watch: changes are served, and errors are reported."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.server import (
    ENVIRONMENT,
    ONE_WORKER,
    START_TIMEOUT,
    WAGI,
    serving,
    write_files,
)
from tests.support.toolchains import EXAMPLES, python_module
from tests.support.wat import TEXT_HEAD, Program, printing

MANIFEST = '[[module]]\nroute = "/"\nmodule = "m.wat"\n'


def test_changes_are_served(tmp_path: Path) -> None:
    """Changes of a module, modules.toml and an env file; no request fails meanwhile."""
    environment = (EXAMPLES / "wat/environment.wat").read_text()
    modules: dict[str, str | bytes] = {
        "m.wat": printing(TEXT_HEAD + "one"),
        "env.wat": environment,
        "vars.env": "GIVEN=1\n",
    }
    manifest = MANIFEST + '[[module]]\nroute = "/env"\nmodule = "env.wat"\n'
    options = ("--watch", "--env-file", "vars.env")
    with serving(tmp_path, manifest, *options, modules=modules) as server:
        failed: list[int] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                if (status := server.get("/").status) != 200:
                    failed.append(status)

        asker = threading.Thread(target=ask)
        asker.start()
        write_files(tmp_path, {"m.wat": printing(TEXT_HEAD + "two")})
        server.wait_for_text("/", "two", seconds=10)
        write_files(tmp_path, {"vars.env": "GIVEN=2\n"})
        _until(lambda: server.get("/env").variables["GIVEN"] == "2")
        more = manifest + '[[module]]\nroute = "/more"\nmodule = "sub/more.wat"\n'
        write_files(tmp_path, {"sub/more.wat": printing(TEXT_HEAD + "more"), "modules.toml": more})
        server.wait_for_text("/more", "more", seconds=10)
        write_files(tmp_path, {"sub/more.wat": printing(TEXT_HEAD + "much more")})
        server.wait_for_text("/more", "much more", seconds=10)
        # As many editors and compilers do it: a new file replaces the old one.
        (tmp_path / "new").write_text(printing(TEXT_HEAD + "three"))
        (tmp_path / "new").replace(tmp_path / "m.wat")
        server.wait_for_text("/", "three", seconds=10)
        stop.set()
        asker.join()
        assert failed == []
        assert server.stop() == 0


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_failed_reload_is_reported(tmp_path: Path) -> None:
    """In the log and on error pages; the old version stays in service."""
    modules: dict[str, str | bytes] = {"m.wat": printing(TEXT_HEAD + "good")}
    with serving(tmp_path, MANIFEST, "--watch", modules=modules) as server:
        write_files(tmp_path, {"m.wat": "(module (nonsense))"})
        server.wait_for_log(
            "reload failed, the previous configuration stays in effect:\n    modules.toml:3: "
        )
        assert server.get("/").text == "good"
        page = server.get("/nowhere").text
        assert re.search(r"Failed to load:\n    modules.toml:3: module: m.wat: ", page)
        write_files(tmp_path, {"modules.toml": "[[modul]]"})
        server.wait_for_log("unknown key 'modul'")
        write_files(tmp_path, {"modules.toml": MANIFEST})
        write_files(tmp_path, {"m.wat": printing(TEXT_HEAD + "better")})
        server.wait_for_text("/", "better", seconds=10)
        assert "Failed to load" not in server.get("/nowhere").text


def test_error_pages_hide_a_failed_reload_without_watch(tmp_path: Path) -> None:
    modules: dict[str, str | bytes] = {"m.wat": printing(TEXT_HEAD + "good")}
    with serving(tmp_path, MANIFEST, modules=modules) as server:
        write_files(tmp_path, {"m.wat": "(module (nonsense))"})
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("reload failed")
        assert "Failed to load" not in server.get("/nowhere").text


def test_a_failed_start_waits_for_a_change(tmp_path: Path) -> None:
    write_files(tmp_path, {"m.wat": printing(TEXT_HEAD + "good"), "modules.toml": "[[modul]]"})
    with serving(tmp_path, None, "--watch", wait=False) as server:
        problem = "modules.toml:1: unknown key 'modul'"
        server.wait_for_log(f"cannot start, waiting for a change:\n    {problem}", START_TIMEOUT)
        write_files(tmp_path, {"modules.toml": MANIFEST})
        server.wait_until_listening()
        assert server.get("/").text == "good"


def test_a_build(tmp_path: Path) -> None:
    """The build runs when its sources change, and at startup if there is no module yet."""
    (tmp_path / "src").mkdir()
    shutil.copy(EXAMPLES / "c/hello.c", tmp_path / "src/hello.c")
    zig = f"{sys.executable} -m {python_module('ziglang')} cc -target wasm32-wasi -O2"
    command = f"mkdir -p build && {zig} src/hello.c -o build/hello.wasm && echo compiled"
    manifest = f'[[module]]\nroute = "/"\nmodule = "build/hello.wasm"\nbuild = "{command}"\n'
    with serving(tmp_path, manifest, "--watch") as server:
        before = server.get("/").text
        assert before
        assert f"building: {command}\ncompiled\n" in server.log
        source = (tmp_path / "src/hello.c").read_text()
        (tmp_path / "src/hello.c").write_text(source.replace("Hello", "Hallo"))
        server.wait_for_text("/", before.replace("Hello", "Hallo"), seconds=60)
        (tmp_path / "src/hello.c").write_text("nonsense")
        server.wait_for_log("the build failed with status 1", seconds=60)
        assert server.get("/").text == before.replace("Hello", "Hallo")
        assert "Failed to load:\n    the build failed with status 1" in server.get("/no").text
        (tmp_path / "src/hello.c").write_text(source)
        server.wait_for_text("/", before, seconds=60)


@pytest.mark.parametrize(
    ("options", "at_start"),
    [
        (["--watch"], True),
        (["--watch"], False),
        (["--dev", "--dev-listen", "127.0.0.1:0"], True),
    ],
)
def test_a_build_ends_with_the_server(tmp_path: Path, options: list[str], at_start: bool) -> None:
    """Immediately, with all of its child processes."""
    build = "sleep 300 & echo $! > pid; wait"
    manifest = MANIFEST + f'build = "{build}"\nwatch = ["source"]\n'
    write_files(tmp_path, {"modules.toml": manifest, "source": "1"})
    if not at_start:
        write_files(tmp_path, {"m.wat": printing(TEXT_HEAD + "x")})
    process = subprocess.Popen(
        [*WAGI, "serve", *options, "--listen", "127.0.0.1:0"],
        cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        if not at_start:
            assert any(line.startswith("listening on") for line in lines)
            time.sleep(0.5)
            write_files(tmp_path, {"source": "2"})
        assert any(line == f"building: {build}\n" for line in lines)
        _until((tmp_path / "pid").exists)
        _until(lambda: (tmp_path / "pid").read_text().endswith("\n"))
        process.terminate()
        assert process.wait(5) == (128 + signal.SIGTERM if at_start else 0)
        pid = int((tmp_path / "pid").read_text())
        _until(lambda: not _lives(pid))


def test_requests_in_flight_finish_on_the_old_version(tmp_path: Path) -> None:
    slow = Program().sleep(1500).write(TEXT_HEAD + "old").wat()
    manifest = MANIFEST + '[[module]]\nroute = "/version"\nmodule = "v.wat"\n'
    modules: dict[str, str | bytes] = {"m.wat": slow, "v.wat": printing(TEXT_HEAD + "1")}
    with serving(tmp_path, manifest, "--watch", modules=modules) as server:
        answers: list[str] = []
        asker = threading.Thread(target=lambda: answers.append(server.get("/").text))
        asker.start()
        time.sleep(0.3)
        new = {"m.wat": printing(TEXT_HEAD + "new"), "v.wat": printing(TEXT_HEAD + "2")}
        write_files(tmp_path, new)
        server.wait_for_text("/version", "2", seconds=10)
        assert answers == []
        asker.join()
        assert answers == ["old"]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_watcher_ends_with_the_server(tmp_path: Path, how: signal.Signals) -> None:
    modules: dict[str, str | bytes] = {"m.wat": printing(TEXT_HEAD + "x")}
    with serving(tmp_path, MANIFEST, "--watch", *ONE_WORKER, modules=modules) as server:
        children = server.workers
        assert len(children) == 3  # and the watcher, and the process that makes snapshots
        server.stop(how)
        _until(lambda: not any(_lives(pid) for pid in children))


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("options", [("--watch",), ()])
def test_build_keys_are_accepted_with_and_without_watch(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    manifest = MANIFEST + 'build = "false"\nwatch = ["src", "more"]\n'
    modules: dict[str, str | bytes] = {"m.wat": printing(TEXT_HEAD + "x")}
    with serving(tmp_path, manifest, *options, modules=modules) as server:
        assert server.get("/").text == "x"
