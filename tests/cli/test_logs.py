"""wagi logs: what handlers have written to stderr."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.server import ENVIRONMENT, WAGI, default_sigint, run_wagi, serving, write_files
from tests.support.wat import TEXT_HEAD, Program, printing

MANIFEST = """
[[module]]
route = "/hello"
module = "hello.wat"
[[module]]
route = "/quiet"
module = "quiet.wat"
[[module]]
route = "/..."
module = "any.wat"
"""


def noisy(text: str) -> str:
    return Program().write(text, fd=2).write(TEXT_HEAD + "x").wat()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "modules.toml": MANIFEST,
        "hello.wat": noisy("hello 1\nhello 2\n"),
        "any.wat": noisy("any \x1b[31m\n"),
        "quiet.wat": printing(TEXT_HEAD + "x"),
    }
    write_files(tmp_path / "site", files)
    (tmp_path / "tmp").mkdir()
    return tmp_path / "site"


def logs(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_wagi(folder, "logs", *arguments, environment=temporary(folder))


def temporary(folder: Path) -> dict[str, str]:
    return {"TMPDIR": str(folder.parent / "tmp")}


def test_of_a_running_server(folder: Path) -> None:
    """By the route map alone; control characters are escaped."""
    with serving(folder, environment=temporary(folder)) as server:
        server.get("/hello")
        server.get("/x")
        server.wait_for_log("hello 2")
        server.wait_for_log("any ")
        assert server.stop() == 0
    done = logs(folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("==> /... <==\nany \\x1b[31m\n\n==> /hello <==\nhello 1\nhello 2\n")
    assert logs(folder, "/hello").stdout == "hello 1\nhello 2\n"
    assert logs(folder, "-n", "1", "/hello").stdout == "hello 2\n"
    assert logs(folder, "/...").stdout == "any \\x1b[31m\n"
    assert logs(folder, "/other/path").stdout == "any \\x1b[31m\n"
    options = ("logs", "-c", "site/modules.toml", "/hello")
    done = run_wagi(folder.parent, *options, environment=temporary(folder))
    assert done.stdout == "hello 1\nhello 2\n"


def test_of_a_log_directory(folder: Path) -> None:
    with serving(folder, None, "--log-dir", "logs") as server:
        server.get("/hello")
        server.wait_for_log("hello 2")
        server.stop()
    assert logs(folder, "--log-dir", "logs", "/hello").stdout == "hello 1\nhello 2\n"
    done = logs(folder, "--log-dir", "logs", "/other")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: no log of /other in logs: there are logs of /hello\n"


def test_of_the_latest_server_that_has_logs(folder: Path) -> None:
    for path in ("/hello", None):
        with serving(folder, environment=temporary(folder)) as server:
            if path:
                server.get(path)
                server.wait_for_log("hello 2")
            server.stop()
    assert logs(folder, "/hello").stdout == "hello 1\nhello 2\n"
    write_files(folder, {"hello.wat": noisy("new\n")})
    with serving(folder, environment=temporary(folder)) as server:
        server.get("/hello")
        server.wait_for_log("new")
        assert logs(folder, "/hello").stdout == "new\n"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ((), 1, "error: no logs of modules.toml: its handlers have not written to stderr, or it is"
         " served with another --log-dir\n"),
        (("--log-dir", "absent"), 2, "error: no such file: absent\n"),
        (("-c", "absent.toml"), 2, "error: no such file: absent.toml\n"),
        (("--log-dir", "."), 1, "error: no logs of modules.toml in .: its handlers have"),
        (("-b", "a/1.0.0"), 1, "error: no logs of a/1.0.0: its handlers have"),
    ],
)  # fmt: skip
def test_nothing_to_print(
    folder: Path, arguments: tuple[str, ...], status: int, message: str
) -> None:
    done = logs(folder, *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(message)


@contextmanager
def following(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Run ``wagi logs -f``. Returns: the process, and the file with its output."""
    output = folder.parent / "output"
    with output.open("w") as file:
        process = subprocess.Popen(
            [*WAGI, "logs", "-f", *arguments],
            cwd=folder, env={**ENVIRONMENT, **temporary(folder)}, stdout=file, text=True,
            preexec_fn=default_sigint,
        )  # fmt: skip
    try:
        yield process, output
    finally:
        process.kill()
        process.wait()


def wait_for(path: Path, text: str) -> None:
    deadline = time.monotonic() + 60
    while path.read_text() != text:
        assert time.monotonic() < deadline, path.read_text()
        time.sleep(0.05)


def test_following(folder: Path) -> None:
    """Before the first line, over rotations and a restart, until Ctrl-C."""
    write_files(folder, {"hello.wat": noisy(600 * "x" + "\n")})
    options = ("--log-size", "1024")
    line = 600 * "x" + "\n"
    expected = ""
    with following(folder, "/hello") as (process, output):
        for _ in range(2):
            with serving(folder, None, *options, environment=temporary(folder)) as server:
                for _ in range(5):
                    server.get("/hello")
                    expected += line
                    wait_for(output, expected)
                server.stop()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert output.read_text() == expected


def test_a_temporary_folder_is_removed_when_empty(folder: Path) -> None:
    """Also after --dev, and after a reload that failed."""
    place = folder.parent / "tmp"
    options = ("--dev", "--dev-listen", "127.0.0.1:0")
    with serving(folder, None, *options, environment=temporary(folder)) as server:
        (found,) = [path for path in place.iterdir() if path.name.startswith("wagi-logs-")]
        assert f"logs in {found}" in server.log
        (folder / "modules.toml").write_text("nonsense")
        server.wait_for_log("reload failed")
        server.get("/quiet")
        assert server.stop() == 0
    assert not found.exists()
    assert list(place.iterdir()) == []
