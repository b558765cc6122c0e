"""Contract, "Command line of Wagi": each docstring states what is promised."""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
from importlib import metadata
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.support.server import (
    ENVIRONMENT,
    ROOT,
    WAGI,
    Server,
    manifest_of,
    read_all,
    run_wagi,
    serving,
    write_files,
)
from tests.support.wat import HELLO, TEXT_HEAD, Program
from wagi import __version__
from wagi.cli import main
from wagi.config.settings import Topic
from wagi.guest import core

MODULES: dict[str, str | bytes] = {"hello.wat": HELLO}
MANIFEST = manifest_of(MODULES)


def start(folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> Server:
    write_files(folder, {**MODULES, "modules.toml": MANIFEST})
    process = subprocess.Popen(
        [*WAGI, *arguments],
        cwd=folder,
        env={**ENVIRONMENT, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    server = Server(process)
    server.wait_until_listening()
    return server


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", "modules.toml", "-l", "127.0.0.1:0"),
        ("-l", "127.0.0.1:0", "--config", "modules.toml"),
        ("serve", "modules.toml", "--listen", "127.0.0.1:0"),
        ("serve", "-l", "127.0.0.1:0"),
        ("serve", "-c", "modules.toml", "-l", "127.0.0.1:0"),
        ("serve", "hello.wat", "-l", "127.0.0.1:0"),
        ("hello.wat", "-l", "127.0.0.1:0"),
        ("modules.toml", "-p", "0"),
        (".", "--port", "0"),
        ("serve", ".", "-p", "0"),
        ("serve", "-c", ".", "-p0"),
    ],
)
def test_ways_to_serve(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """serve and modules.toml are the defaults; a directory or a module can be served, too."""
    server = start(tmp_path, *arguments)
    try:
        assert server.get("/hello").text == "hello\n"
    finally:
        assert server.stop() == 0


def test_startup_messages_in_a_pipe(tmp_path: Path) -> None:
    """Plain lines: routes with their modules, the loading time, the address."""
    with serving(tmp_path, MANIFEST, modules=MODULES) as server:
        lines = server.log.splitlines()
    assert lines[0] == "route /hello -> hello.wat"
    assert lines[1].startswith("loaded 1 route in 0.")
    assert lines[2] == f"listening on http://127.0.0.1:{server.port}"
    assert len(lines) == 3


def test_listen_on_every_interface(tmp_path: Path) -> None:
    """--listen :PORT."""
    with serving(tmp_path, MANIFEST, modules=MODULES, listen=":0") as server:
        assert server.get("/hello").status == 200
        if socket.has_dualstack_ipv6():
            server.host = "::1"
            assert server.get("/hello").status == 200


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 on this machine")
def test_listen_on_ipv6(tmp_path: Path) -> None:
    """--listen [::1]:3000."""
    with serving(tmp_path, MANIFEST, modules=MODULES, listen="[::1]:0") as server:
        assert server.url.startswith("http://[::1]:")
        server.host = "::1"
        assert server.get("/hello").status == 200


def test_listen_on_a_unix_socket(tmp_path: Path) -> None:
    """--listen unix:/path: mode 660, removed at the end, a stale one is replaced."""
    path = tmp_path / "wagi.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with serving(tmp_path, MANIFEST, modules=MODULES, listen=f"unix:{path}") as server:
        assert server.url == f"unix:{path}"
        assert path.stat().st_mode & 0o777 == 0o660
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET /hello HTTP/1.0\r\n\r\n")
            assert read_all(client).endswith(b"\r\n\r\nhello\n")
        second = run_wagi(tmp_path, "serve", "-l", f"unix:{path}")
        assert second.returncode == 1
        assert f"error: cannot listen on unix:{path}: Address already in use" in second.stderr
        assert server.stop() == 0
    assert not path.exists()


def test_a_taken_port(tmp_path: Path) -> None:
    """A port that is in use is a failure, with exit status 1."""
    write_files(tmp_path, {**MODULES, "modules.toml": MANIFEST})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run_wagi(tmp_path, "serve", "-l", address)
    assert done.returncode == 1
    holder = f"Address already in use by process {os.getpid()} ("
    assert f"error: cannot listen on {address}: {holder}" in done.stderr
    assert done.stderr.endswith(", or choose another address with --listen\n")


def test_log_dir(tmp_path: Path) -> None:
    """--log-dir or WAGI_LOG_DIR: the directory of the handlers' stderr."""
    with serving(tmp_path, MANIFEST, "--log-dir", "a/b", modules=MODULES) as server:
        assert "logs in a/b" in server.log
        assert (tmp_path / "a/b").is_dir()
    with serving(tmp_path, MANIFEST, environment={"WAGI_LOG_DIR": "c"}) as server:
        assert "logs in c" in server.log


def test_no_log_dir(tmp_path: Path) -> None:
    """--log-dir none: stderr goes to the server's log only; ./none is a directory."""
    modules: dict[str, str | bytes] = {
        "talk.wat": Program().write("a line\n", 2).write(TEXT_HEAD).wat()
    }
    manifest = '[[module]]\nroute = "/talk"\nmodule = "talk.wat"\n'
    environment = {"TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    options = ("--log-dir", "none")
    with serving(tmp_path, manifest, *options, modules=modules, environment=environment) as server:
        assert server.get("/talk").status == 200
        server.wait_for_log(r"stderr of /talk \[.*\]: a line")
        assert "logs in" not in server.log
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("reloaded")
        assert list((tmp_path / "tmp").rglob("*stderr*")) == []
        assert server.stop() == 0
    assert not (tmp_path / "none").exists()
    with serving(tmp_path, None, "--log-dir", "./none") as server:
        assert server.get("/talk").status == 200
        server.wait_for_log("a line")
    assert list((tmp_path / "none").rglob("module.stderr"))


def test_log_dir_is_temporary_unless_given(tmp_path: Path) -> None:
    """The default is a new temporary directory, which is removed if it is empty."""
    with serving(tmp_path, MANIFEST, modules=MODULES, environment={"TMPDIR": str(tmp_path)}) as s:
        (folder,) = tmp_path.glob("wagi-logs-*")
        assert f"logs in {folder}" in s.log
        s.stop()
    assert not folder.exists()


def test_cache(tmp_path: Path) -> None:
    """--cache cache.toml: wasmtime's cache configuration is used."""
    (tmp_path / "cache.toml").write_text(f'[cache]\ndirectory = "{tmp_path / "compiled"}"\n')
    options = ("--cache", "cache.toml", "--artefact-cache", str(tmp_path / "artefacts"))
    with serving(tmp_path, MANIFEST, *options, modules=MODULES) as server:
        assert server.get("/hello").status == 200
    assert any(path.is_file() for path in (tmp_path / "compiled").rglob("*"))
    (tmp_path / "bad.toml").write_text("[cache]\nno-such-key = 1\n")
    for name in ("missing.toml", "bad.toml"):
        done = run_wagi(tmp_path, "serve", "--cache", name)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {name}: ")
        assert "Traceback" not in done.stderr


def test_the_cache_file_of_the_original(tmp_path: Path) -> None:
    """The file in the documentation of the original, which newer versions of wasmtime reject."""
    write_files(tmp_path, {**MODULES, "modules.toml": MANIFEST})
    (tmp_path / "cache.toml").write_text(
        f'[cache]\nenabled = true\ndirectory = "{tmp_path / "compiled"}"\n'
    )
    options = ("--cache", "cache.toml", "--artefact-cache", str(tmp_path / "artefacts"))
    done = run_wagi(tmp_path, "check", *options)
    assert done.returncode == 0, done.stderr
    assert any(path.is_file() for path in (tmp_path / "compiled").rglob("*"))


def test_module_cache_is_accepted(tmp_path: Path) -> None:
    """--module-cache DIR."""
    with serving(tmp_path, MANIFEST, "--module-cache", "cached", modules=MODULES) as server:
        assert server.get("/hello").status == 200


@pytest.mark.parametrize("option", ["--hostname", "--default-host"])
def test_hostname(tmp_path: Path, option: str) -> None:
    """--hostname localhost:3000; the original's documentation calls it --default-host."""
    environment = (ROOT / "examples/wat/environment.wat").read_text()
    modules: dict[str, str | bytes] = {"env.wat": environment}
    with serving(
        tmp_path, manifest_of(modules), option, "named.example:99", modules=modules
    ) as server:  # fmt: skip
        answer = server.raw(b"GET /env HTTP/1.0\r\n\r\n")
    assert b"\nSERVER_NAME=named.example\n" in answer
    assert b"\nSERVER_PORT=99\n" in answer


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-e", "=value"), "-e/--env: expected KEY=VALUE, found '=value'"),
        (("-e", "novalue"), "-e/--env: expected KEY=VALUE, found 'novalue'"),
        (("--env-file", "missing.env"), "missing.env: --env-file: cannot be read"),
        (("--listen", "nonsense"), "-l/--listen: expected HOST:PORT"),
        (("--listen", "a:99999"), "-l/--listen: expected HOST:PORT"),
        (("--listen", "unix:"), "-l/--listen: expected HOST:PORT"),
        (("--hostname", "a b"), "--hostname/--default-host: expected HOST"),
        (("--trusted-proxy", "10.0.0.0/99"), "--trusted-proxy: expected a network"),
        (("--spool-limit", "many"), "--spool-limit: expected a size"),
        (("--shutdown-timeout", "-1"), "--shutdown-timeout: "),
        (("--access-log", "xml"), "--access-log: "),
        (("--tls-cert", "cert.pem"), "expected --tls-cert and --tls-key together"),
        (("--tls-cert", "a", "--tls-key", "b"), "--tls-cert: no such file: a"),
        (("--tls-cert", "hello.wat", "--tls-key", "hello.wat"), "cannot be used: "),
        (("-c", "other.toml"), "expected one modules.toml, found both other.toml and modules.toml"),
        (("--no-such-option",), "No such option"),
    ],
)
def test_bad_usage(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    """Bad usage results in one clear message, exit status 2 and no traceback."""
    write_files(tmp_path, {**MODULES, "modules.toml": MANIFEST})
    done = run_wagi(tmp_path, "serve", "modules.toml", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_manifest(tmp_path: Path) -> None:
    """Without modules.toml, the message suggests what to do."""
    done = run_wagi(tmp_path, "serve")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no such file: modules.toml (expected a modules.toml")


def test_missing_module(tmp_path: Path) -> None:
    """The message about a missing module names no line of a file that does not exist."""
    done = run_wagi(tmp_path, "serve", "missing.wasm")
    assert (done.returncode, done.stderr) == (2, "error: no such file: missing.wasm\n")


def test_a_misspelled_module(tmp_path: Path) -> None:
    """The most similar file in the same folder is suggested."""
    write_files(tmp_path, {**MODULES, "modules.toml": MANIFEST.replace("hello.wat", "helo.wat")})
    done = run_wagi(tmp_path, "check")
    assert "helo.wat (relative to modules.toml and to the working directory): " in done.stderr
    message, source, marker = done.stderr.splitlines()
    assert message.endswith("did you mean 'hello.wat'?")
    assert (source, marker) == ('3 | module = "helo.wat"', "  |          ^^^^^^^^^^")
    done = run_wagi(tmp_path, "serve", "helo.wasm")
    assert done.stderr == "error: no such file: helo.wasm: did you mean 'hello.wat'?\n"


@pytest.mark.parametrize(
    ("target", "suggestion"),
    [
        ("localhost:5000/x:1", ": did you mean oci://localhost:5000/x:1?"),
        ("ghcr.io/a/b:1.0", ": did you mean oci://ghcr.io/a/b:1.0?"),
        ("a/b", ": did you mean oci://docker.io/a/b:latest?"),
        ("https://ghcr.io/a/b:1", ""),
        ("bindle:a/1.0.0", ""),
        ("./x.wasm", ""),
        ("/tmp/x", ""),
    ],
)
def test_push_without_a_scheme(tmp_path: Path, target: str, suggestion: str) -> None:
    """References of docker and oras have no scheme; the message suggests one."""
    (tmp_path / "x.wasm").write_bytes(b"\0asm\1\0\0\0")
    done = run_wagi(tmp_path, "push", "x.wasm", target)
    expected = "error: invalid target: expected oci://REGISTRY/NAME:TAG, found "
    assert done.stderr == f"{expected}{target!r}{suggestion}\n"


def test_limited_address_space(tmp_path: Path) -> None:
    """A limit that would make wasmtime abort the process is reported instead."""
    write_files(tmp_path, {**MODULES, "modules.toml": MANIFEST})
    done = subprocess.run(
        ["sh", "-c", 'ulimit -v 8000000; exec "$@"', "sh", *WAGI, "check"],
        cwd=tmp_path,
        env={**ENVIRONMENT},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: the address space is limited to 8192000000 bytes")


def test_another_wasmtime(tmp_path: Path) -> None:
    """An incompatible version of wasmtime is reported before it is used."""
    (tmp_path / "wasmtime-47.0.0.dist-info").mkdir()
    write_files(
        tmp_path,
        {
            **MODULES,
            "modules.toml": MANIFEST,
            "wasmtime-47.0.0.dist-info/METADATA": "Name: wasmtime\nVersion: 47.0.0\n",
        },
    )
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    done = run_wagi(tmp_path, "check", environment={"PYTHONPATH": path})
    assert done.returncode == 1
    assert done.stderr.startswith("error: wasmtime 47.0.0 cannot be used: it is too old")


def test_bad_line_of_an_env_file(tmp_path: Path) -> None:
    """The message names a line that is not KEY=VALUE."""
    write_files(tmp_path, {**MODULES, "modules.toml": MANIFEST, "x.env": "A=1\n\nnonsense\n"})
    done = run_wagi(tmp_path, "check", "--env-file", "x.env")
    assert done.returncode == 2
    assert done.stderr == "error: x.env:3: --env-file: expected KEY=VALUE, found 'nonsense'\n"


@pytest.mark.parametrize("arguments", [("--help",), ("serve", "--help"), ("check", "--help")])
def test_help_has_examples(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """The help has examples."""
    done = run_wagi(tmp_path, *arguments)
    assert done.returncode == 0
    assert "Examples:" in done.stdout
    assert "wagi " in done.stdout


def test_help_names_every_option(tmp_path: Path) -> None:
    """The help names all options of the original, with their environment variables."""
    text = run_wagi(tmp_path, "serve", "--help").stdout
    for option in (
        *("-c, --config", "-l, --listen", "--hostname", "--default-host", "--module-cache"),
        *("--cache", "--log-dir", "--tls-cert", "--tls-key", "-e, --env", "--env-file"),
        *("WAGI_LOG_DIR", "WAGI_TLS_CERT", "WAGI_TLS_KEY"),
    ):
        assert option in text


@pytest.mark.parametrize("argument", ["--version", "-V", "version"])
def test_version(tmp_path: Path, argument: str) -> None:
    """--version, -V and version print what a bug report needs."""
    assert run_wagi(tmp_path, argument).stdout == (
        f"wagi, version {__version__}\ncore: {core.DESCRIPTION}\n"
        f"wasmtime: {metadata.version('wasmtime')}\nPython: {platform.python_version()}\n"
    )


def test_help_command(tmp_path: Path) -> None:
    """`wagi help CMD` is `wagi CMD --help`; the message names an unknown command."""
    for command in ("serve", "call", "help"):
        expected = run_wagi(tmp_path, command, "--help").stdout
        assert run_wagi(tmp_path, "help", command).stdout == expected
    assert run_wagi(tmp_path, "help").stdout == run_wagi(tmp_path, "--help").stdout
    unknown = run_wagi(tmp_path, "help", "serv")
    assert unknown.returncode == 2
    assert "did you mean 'serve'?" in unknown.stderr


@pytest.mark.parametrize("command", ["serve", "check", "routes", "compile", "test-server"])
def test_help_is_grouped_and_shows_defaults(tmp_path: Path, command: str) -> None:
    """Options are grouped by topic; the default follows the variable in brackets."""
    text = run_wagi(tmp_path, command, "--help").stdout
    headings = [line for line in text.splitlines() if line.endswith(":") and line[0] != " "]
    assert headings == ["Options:", *(f"{topic.value}:" for topic in Topic)]
    words = " ".join(text.split())
    assert "[env var: WAGI_LISTEN; default: 127.0.0.1:3000]" in words
    assert "[env var: WAGI_SPOOL_LIMIT; default: 64MiB]" in words
    assert "[env var: WAGI_KEEP_ALIVE; default: 75]" in words
    assert "[env var: WAGI_TLS_CERT]" in words


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.mark.parametrize(
    ("arguments", "environment", "host", "chosen"),
    [
        ((), {"PORT": "A"}, "[::]", "A"),
        ((), {"PORT": "A", "WAGI_LISTEN": "127.0.0.1:B"}, "127.0.0.1", "B"),
        (("-l", "127.0.0.1:B"), {"PORT": "A"}, "127.0.0.1", "B"),
        (("-p", "B"), {"PORT": "A"}, "127.0.0.1", "B"),
        (("-p", "B"), {"WAGI_LISTEN": "127.0.0.1:A"}, "127.0.0.1", "B"),
    ],
)
def test_precedence_of_ports(
    tmp_path: Path,
    arguments: tuple[str, ...],
    environment: dict[str, str],
    host: str,
    chosen: str,
) -> None:
    """Precedence, highest first: flags, WAGI_LISTEN, PORT (on every interface)."""
    ports = {"A": str(free_port()), "B": str(free_port())}

    def fill(text: str) -> str:
        return text[:-1] + ports.get(text[-1], text[-1])

    server = start(
        tmp_path,
        "serve",
        *map(fill, arguments),
        environment={name: fill(value) for name, value in environment.items()},
    )
    try:
        assert str(server.port) == ports[chosen]
        assert server.get("/hello").status == 200
        assert ("127.0.0.1" in server.url) == (host == "127.0.0.1")
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("arguments", "port", "message"),
    [
        (("-p", "1", "-l", ":1"), "", "expected either --listen or --port, found both"),
        (("-p", "65536"), "", "-p/--port: expected a port from 0 to 65535, found '65536'"),
        ((), "http", "PORT: expected a port from 0 to 65535, found 'http'"),
    ],
)
def test_bad_ports(tmp_path: Path, arguments: tuple[str, ...], port: str, message: str) -> None:
    """Both an address and a port, or an invalid port, are errors."""
    write_files(tmp_path, {**MODULES, "modules.toml": MANIFEST})
    done = run_wagi(tmp_path, "serve", *arguments, environment={"PORT": port})
    assert done.returncode == 2
    assert message in done.stderr


def test_method_of_call(tmp_path: Path) -> None:
    """`wagi call -X METHOD` is the METHOD argument; both are an error."""
    text = (ROOT / "examples/wat/environment.wat").read_text()
    write_files(tmp_path, {"env.wat": text, "modules.toml": manifest_of({"env.wat": text})})
    for words in (("call", "-X", "PUT", "/env"), ("run", "env.wat", "--request", "PUT", "/env")):
        assert "REQUEST_METHOD=PUT\n" in run_wagi(tmp_path, *words).stdout
    done = run_wagi(tmp_path, "call", "-X", "PUT", "POST", "/env")
    assert done.returncode == 2
    assert "expected one method, found both POST and -X PUT" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("-e", "A=1", "B=2", "/env"), {"A": "1", "B": "2"}),
        (("-e", "A=1", "B=x y", "--env", "C=3", "D=4", "GET", "/env?e=5"), {"A": "1", "D": "4"}),
        (("--env-file", "a.env", "b.env", "-i", "/env"), {"A": "b", "B": "b"}),
        (("--env-file", "a.env", "b.env", "/env"), {"A": "b", "B": "b"}),
        (("--env-file", "b.env", "a.env", "-e", "A=1", "/env"), {"A": "1", "B": "b"}),
        (("-e", "A=1", "--", "/env"), {"A": "1"}),
        (("--env=A=1", "/env?X=1"), {"A": "1"}),
    ],
)
def test_several_values_of_one_option(
    tmp_path: Path, arguments: tuple[str, ...], expected: dict[str, str]
) -> None:
    """-e A=1 B=2 and --env-file a b, as in the original; other words are still arguments."""
    text = (ROOT / "examples/wat/environment.wat").read_text()
    write_files(tmp_path, {"env.wat": text, "modules.toml": manifest_of({"env.wat": text})})
    write_files(tmp_path, {"a.env": "A=a\n", "b.env": "A=b\nB=b\n"})
    done = run_wagi(tmp_path, "call", *arguments)
    assert done.returncode == 0, done.stderr
    variables = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert expected.items() <= variables.items()


def test_several_values_before_the_route_map(tmp_path: Path) -> None:
    """A route map is never taken for a value."""
    write_files(tmp_path, {**MODULES, "other.toml": MANIFEST, "a.env": "", "b.env": ""})
    for words in (("-e", "A=1", "B=2"), ("--env-file", "a.env", "b.env")):
        done = run_wagi(tmp_path, "check", *words, "other.toml")
        assert (done.returncode, done.stdout) == (0, "other.toml: 1 route, no problems\n")
    done = run_wagi(tmp_path, "check", "--env-file", "a.env", "absent.env")
    assert done.returncode == 2
    assert "no such file: absent.env" in done.stderr


def test_console_script() -> None:
    """The installed `wagi` script runs this package."""
    (script,) = entry_points(group="console_scripts", name="wagi")
    assert script.load() is main
