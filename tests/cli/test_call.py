"""wagi call, run, test and routes: handlers run without a server."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import termios
import time
from pathlib import Path

import pytest
import tomli

from tests.support.server import (
    ENVIRONMENT,
    ROOT,
    WAGI,
    default_sigint,
    run_wagi,
    write_files,
)
from tests.support.toolchains import EXAMPLES, HANDLERS, compiled
from tests.support.wat import SPIN, TEXT_HEAD, Program, printing, with_routes
from wagi.testing.cases import Case, _text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    manifest = (
        '[[module]]\nroute = "/chatty/..."\nmodule = "chatty.wasm"\nenvironment = {OWN = "1"}\n'
        '[[module]]\nroute = "/hello"\nmodule = "hello.wat"\ntimeout = 5\n'
        '[[module]]\nroute = "/bad"\nmodule = "bad.wat"\n'
    )
    write_files(
        tmp_path,
        {"modules.toml": manifest, "hello.wat": printing(TEXT_HEAD + "hello\n"),
         "bad.wat": printing("no header")},
    )  # fmt: skip
    shutil.copy(compiled(HANDLERS / "chatty.c"), tmp_path / "chatty.wasm")
    return tmp_path


def test_a_call(folder: Path) -> None:
    """The body goes to stdout, the guest's stderr to stderr."""
    done = run_wagi(folder, "call", "/hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")
    done = run_wagi(folder, "call", "/chatty/x?a=1")
    assert (done.returncode, done.stdout) == (0, "GET /x a=1\n\n")
    assert done.stderr == "asked for /x\n"


def test_methods_headers_and_data(folder: Path) -> None:
    """The options are those of curl."""
    done = run_wagi(folder, "call", "-d", "a=1", "-d", "b=2", "/chatty")
    assert done.stdout == "POST  \napplication/x-www-form-urlencoded\na=1&b=2"
    write_files(folder, {"body.bin": bytes(range(256))})
    command = [*WAGI, "call", "PUT", "/chatty", "-d", "@body.bin", "-H", "content-type: x/y"]
    raw = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, check=True)
    assert raw.stdout == b"PUT  \nx/y\n" + bytes(range(256))
    command = [*WAGI, "call", "-d", "@-", "/chatty"]
    raw = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, check=True, input=b"piped"
    )
    assert raw.stdout.endswith(b"\npiped")
    done = run_wagi(folder, "call", "-i", "/chatty?status=201")
    assert done.returncode == 0
    assert done.stdout.startswith("HTTP/1.1 201 Created\nContent-Type: text/plain\nX-Twice: 1\n")
    assert "connection" not in done.stdout.lower()


def test_verbose_output(folder: Path) -> None:
    done = run_wagi(folder, "call", "-v", "-e", "GIVEN=x y", "/chatty/p?exit=4")
    assert done.returncode == 0
    for line in ("route     /chatty/...", "module    chatty.wasm", "end       exit 4",
                 "argv      '/chatty/p' 'exit=4'", "  PATH_INFO=/p", "  GIVEN=x y",
                 "  OWN=1"):  # fmt: skip
        assert f"{line}\n" in done.stderr
    assert re.search(r"\nCPU time  \d+\.\d\d ms\nmemory    [\d,]+ KiB\n", done.stderr)
    assert "warning: " in done.stderr
    assert "the handler exited with status 4" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("call", "/chatty?trap"), 1, "wasm `unreachable` instruction executed"),
        (("call", "/chatty?status=404"), 1, ""),
        (("call", "/nowhere"), 1, ""),
        (("call", "/bad"), 1, "answered 500: "),
        (("call", "hello"), 2, "expected a path such as /hello"),
        (("call", "A", "B", "/c"), 2, "expected [METHOD] PATH"),
        (("call", "./hello.wasm", "/c"), 2, "expected a method such as GET, found './hello.wasm'"),
        (("run", "hello.wasm", "G T", "/"), 2, "expected a method such as GET, found 'G T'"),
        (("call",), 2, "Missing argument"),
        (("call", "-H", "x", "/hello"), 2, "-H: expected NAME:VALUE"),
        (("call", "-H", "a:b\nc:d", "/hello"), 2, "must not contain line ends"),
        (("call", "-d", "@absent", "/hello"), 2, "-d @absent: No such file"),
        (("call", "-c", "absent.toml", "/hello"), 2, "no such file: absent.toml"),
        (("run", "absent.wasm"), 2, "no such file: absent.wasm"),
        (("run", "modules.toml"), 2, "expected a module (.wasm, .wat)"),
        (("call", "--record", "modules.toml/x", "/hello"), 1, "--record modules.toml/x: "),
        (("test", "absent"), 2, "no such file: absent"),
        (("test", "."), 2, "modules.toml:1: "),
    ],
)
def test_failures(folder: Path, arguments: tuple[str, ...], status: int, message: str) -> None:
    """The exit status distinguishes success, failure and bad usage."""
    done = run_wagi(folder, *arguments)
    assert done.returncode == status, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_run(folder: Path) -> None:
    """A module without a route map responds to every path."""
    assert run_wagi(folder, "run", "hello.wat").stdout == "hello\n"
    done = run_wagi(folder, "run", "chatty.wasm", "DELETE", "/any/path?x", "-i")
    assert done.stdout.endswith("\n\nDELETE /any/path x\n\n")


def test_record_and_replay(folder: Path) -> None:
    """A recorded case passes; differences are shown."""
    record = ("call", "--record", "cases/one.toml", "-d", 'a "quoted"\nline\ttwo', "/chatty/x")
    assert run_wagi(folder, *record).returncode == 0
    run_wagi(folder, "call", "--record", "cases/two.toml", "/hello")
    run_wagi(folder, "call", "--record", "cases/deep/three.toml", "/chatty?status=404")
    done = run_wagi(folder, "test", "cases")
    assert (done.returncode, done.stdout) == (0, "3 passed, 0 failed\n")
    write_files(folder, {"hello.wat": printing("Content-Type: text/html\n\nhullo\n")})
    done = run_wagi(folder, "test", "cases")
    assert done.returncode == 1
    assert done.stdout == (
        "FAILED cases/two.toml\n"
        "  --- expected\n"
        "  +++ received\n"
        "  -Content-Type: text/plain\n"
        "  +Content-Type: text/html\n"
        "  @@ -1 +1 @@\n"
        "  -hello\n"
        "  +hullo\n"
        "2 passed, 1 failed\n"
    )


def test_handwritten_cases(folder: Path) -> None:
    """Only keys in the file are compared; a body can be compared with a pattern."""
    case = '[request]\ntarget = "/hello"\n[response]\n'
    for response, status in (
        ("", 0),
        ("status = 200\n", 0),
        ("status = 201\n", 1),
        ('body_matches = "h[ea]llo\\n"\n', 0),
        ('body_matches = "h[ea]llo"\n', 1),
        ('body_base64 = "aGVsbG8K"\n', 0),
        ('body_base64 = "aGVsbG8="\n', 1),
        ('body_base64 = "!"\n', 2),
        ('headers = [["content-type", "text/plain"]]\n', 0),
        ('headers = [["x-missing", "1"]]\n', 1),
        ("stats = 1\n", 2),
    ):
        write_files(folder, {"case.toml": case + response})
        done = run_wagi(folder, "test", "case.toml")
        assert done.returncode == status, (response, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ('[request]\ntarget = "/"\n[response]\nbody_matches = "("\n',
         "response.body_matches: expected a regular expression, found '('"),
        ('[request]\ntarget = "/"\nbody_base64 = "!"\n[response]\n',
         "request.body_base64: expected base64, found '!'"),
        ('[request]\ntarget = "/"\nbody = "a"\nbody_base64 = "YQ=="\n[response]\n',
         "request: expected either body or body_base64, found both"),
        ('[request]\ntarget = "/"\n', "required key 'response' is missing"),
        ("[request\n", "not valid TOML: "),
    ],
)  # fmt: skip
def test_invalid_cases(folder: Path, case: str, message: str) -> None:
    write_files(folder, {"case.toml": case})
    done = run_wagi(folder, "test", "case.toml")
    assert done.returncode == 2
    excerpt = r"(\d+ \| .*\n +\| .*\n)?"
    assert re.fullmatch(rf"error: case\.toml:\d+: {re.escape(message)}.*\n{excerpt}", done.stderr)


@pytest.mark.parametrize(
    "text",
    ["", "a", "a\n", "a\nb", "a\nb\n", "\n", "\n\n", '"', '"""', 'a\n"', '\\\n\\', "\t\n\t",
     "\r\n\r\n", "\x00\x1f\x7f\n\x00", "ü\n€", 'a\n"""\nb', "a\\\nb\n", "  \n  "],
)  # fmt: skip
def test_toml_strings(text: str) -> None:
    assert tomli.loads(f"x = {_text(text)}") == {"x": text}


def test_a_case_is_strict() -> None:
    assert Case.model_validate({"request": {"target": "/"}, "response": {}}).request.content == b""


def test_invalid_utf_8(folder: Path) -> None:
    """It is accepted as a body, and rejected elsewhere with one message."""
    write_files(folder, {"echo.wat": (EXAMPLES / "wat/echo.wat").read_text()})
    done = subprocess.run(
        [*WAGI, "run", "-d", b"a\xff", "--record", "case.toml", "echo.wat"],
        cwd=folder, env=ENVIRONMENT, capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout == b"a\xff"
    assert run_wagi(folder, "test", "-c", "echo.wat", "case.toml").returncode == 0
    for arguments in ([b"/\xff"], ["-H", b"a: \xff", "/hello"], [b"G\xff", "/hello"],
                      ["-e", b"A=\xff", "/hello"], ["-e", b"\xff=1", "/hello"]):  # fmt: skip
        rejected = subprocess.run(
            [*WAGI, "call", *arguments], cwd=folder, env=ENVIRONMENT, capture_output=True,
            check=False,
        )  # fmt: skip
        assert rejected.returncode == 2
        assert re.fullmatch(rb"error: .*UTF-8.*\n", rejected.stderr), rejected.stderr


def test_routes(folder: Path) -> None:
    """Routes are listed in the order of matching; --json has all their properties."""
    done = run_wagi(folder, "routes")
    assert done.stdout == (
        "/chatty/...\tchatty.wasm\t_start\n/hello\thello.wat\t_start\n/bad\tbad.wat\t_start\n"
    )
    first, second, _ = json.loads(run_wagi(folder, "routes", "--json").stdout)
    assert (first["route"], first["module"]) == ("/chatty/...", "chatty.wasm")
    assert second["limits"]["timeout"] == 5
    assert second["limits"]["memory_limit"] == 256 * 1024**2
    assert second["allowed_hosts"] == []
    assert (second["source"], second["dynamic"]) == (str(folder / "hello.wat"), False)


def test_dynamic_routes(tmp_path: Path) -> None:
    write_files(
        tmp_path,
        {
            "modules.toml": '[[module]]\nroute = "/shop/..."\nmodule = "shop.wasm"\n',
            "shop.wasm": with_routes(b"/cart show\n", ("show",)),
        },
    )
    rows = json.loads(run_wagi(tmp_path, "routes", "--json").stdout)
    found = [(row["route"], row["entrypoint"], row["dynamic"]) for row in rows]
    assert found == [("/shop/cart", "show", True), ("/shop/...", "_start", False)]


@pytest.mark.parametrize("no_color", ["", "1"])
def test_colors_only_on_a_terminal(folder: Path, no_color: str) -> None:
    terminal = on_terminal(folder, "call", "-i", "-v", "/bad", NO_COLOR=no_color)
    assert ("\x1b[31m" in terminal) == (no_color == "")
    assert "HTTP/1.1 500 Internal Server Error" in terminal
    assert "REQUEST_METHOD=" in terminal
    done = run_wagi(folder, "call", "-i", "-v", "/bad")
    assert "\x1b" not in done.stdout + done.stderr
    table = on_terminal(folder, "routes", NO_COLOR=no_color)
    assert "Timeout" in table
    assert "5 s" in table


@pytest.mark.parametrize("command", ["call /spin", "test spin.toml"])
def test_ctrl_c_ends_immediately(tmp_path: Path, command: str) -> None:
    """Even if the handler spins."""
    manifest = '[[module]]\nroute = "/spin"\nmodule = "spin.wat"\ntimeout = 0\n'
    case = '[request]\nmethod = "GET"\ntarget = "/spin"\n[response]\nstatus = 200\n'
    spin = Program().write("spinning\n", fd=2).code(SPIN).wat()
    write_files(tmp_path, {"modules.toml": manifest, "spin.wat": spin, "spin.toml": case})
    assert run_wagi(tmp_path, "compile").returncode == 0
    process = subprocess.Popen(
        [*WAGI, *command.split()],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        preexec_fn=default_sigint,
    )
    time.sleep(1.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    assert process.wait(20) == 130
    assert time.monotonic() - started < 1.5


def on_terminal(folder: Path, *arguments: str, **variables: str) -> str:
    """Run a command on a terminal of 120 columns; return its output."""
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (40, 120))
    environment = {**ENVIRONMENT, "TERM": "xterm", **variables}
    process = subprocess.Popen(
        [*WAGI, *arguments], cwd=folder, env=environment, stdin=end, stdout=end, stderr=end
    )
    os.close(end)
    output = b""
    with contextlib.suppress(OSError), os.fdopen(terminal, "rb", 0) as screen:
        while data := screen.read(65536):
            output += data
    process.wait(60)
    return output.decode()


def test_the_demo_can_be_called() -> None:
    done = run_wagi(ROOT, "call", "/hello")
    assert (done.returncode, done.stdout) == (0, "Hello, world!\n")
