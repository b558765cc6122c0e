"""Programs built by real compilers, which use WASI through their C library or runtime."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.reference import run_reference
from tests.support.server import Server, serving
from tests.support.toolchains import HANDLERS, assemblyscript, compiled
from tests.support.wat import TEXT_HEAD, quoted

MIB = 1024 * 1024
STATUSES = (1, 125, 126, 127, 134, 255, 256, -1)
"""Exit statuses; wasmtime accepts those below 126 and traps the others."""

# A complete response and proc_exit, in the start function or through the old WASI snapshot.
EXITING = """(module
  (import "{module}" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "{module}" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1) (data (i32.const 64) {text})
  (func $main
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const {length}))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $proc_exit (i32.const {status})) (unreachable))
  {rest})"""
ENDS = {
    "start": ("wasi_snapshot_preview1", '(start $main) (func (export "_start") (unreachable))'),
    "unstable": ("wasi_unstable", '(export "_start" (func $main))'),
    "unstable-start": ("wasi_unstable", '(start $main) (func (export "_start") (unreachable))'),
}


def exiting(kind: str, status: int) -> str:
    module, rest = ENDS[kind]
    text = (TEXT_HEAD + "begin\nend\n").encode()
    return EXITING.format(
        module=module, text=quoted(text), length=len(text), status=status, rest=rest
    )


def entry(route: str, module: str, *lines: str) -> str:
    return "\n".join(["[[module]]", f'route = "{route}"', f'module = "{module}"', *lines, ""])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The volume /data of the programs, which is also the server's working directory."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "reopened").mkdir()
    (folder / "reopened" / "in.txt").write_text("a line of the file\n")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    modules: dict[str, str | bytes] = {}
    for name in ("streams", "reopen", "exits"):
        modules[f"{name}.wasm"] = compiled(HANDLERS / f"{name}.c").read_bytes()
    entries = [
        entry("/streams", "streams.wasm"),
        entry("/reopen", "reopen.wasm", 'volumes = {"/data" = "reopened"}'),
    ]
    entries += [
        entry(f"/closed/{fd}", "streams.wasm", f'argv = "streams closed={fd}"') for fd in range(3)
    ]
    for status in STATUSES:
        for way in ("_exit", "exit", "late"):
            argv = f'argv = "exits {way} {status}"'
            entries.append(entry(f"/{way}/{status}", "exits.wasm", argv))
        variable = f'environment = {{EXIT_IN_CONSTRUCTOR = "{status}"}}'
        entries.append(entry(f"/constructor/{status}", "exits.wasm", variable))
        for kind in ENDS:
            modules[f"{kind}-{status}.wat"] = exiting(kind, status)
            entries.append(entry(f"/{kind}/{status}", f"{kind}-{status}.wat"))
    with serving(folder, "\n".join(entries), modules=modules) as server:
        yield server


def test_streams_are_reopened_onto_files(server: Server, folder: Path) -> None:
    """Output to descriptor 1 after freopen is in the file, not in the response."""
    response = server.get("/reopen")
    assert (response.status, response.text) == (200, "the response\n")
    files = {path.name: path.read_text() for path in (folder / "reopened").iterdir()}
    assert files == {
        "in.txt": "a line of the file\n",
        "out.txt": "for the file: a line of the file\nwritten to 1\n",
        "out2.txt": "for the second file\n",
        "err.txt": "an error for the file\n",
        "problems.txt": "read back: for the file: a line of the file\n",
    }
    server.wait_for_log(r"of /reopen .*: for the log")
    assert "an error for the file" not in server.log


def test_a_write_after_fclose_fails(server: Server) -> None:
    """The C program gets an error, and the response is the output before it."""
    response = server.get("/streams?fclose=1")
    assert (response.status, response.text) == (200, "the end\n")
    server.wait_for_log(r"of /streams .*: fclose: 0")
    server.wait_for_log(r"of /streams .*: write: Bad file descriptor")


@pytest.mark.parametrize("fd", [0, 1, 2])
def test_a_closed_stream_is_closed_for_every_call(server: Server, fd: int) -> None:
    """Each call returns EBADF, and poll reports that the descriptor is not open."""
    response = server.get(f"/closed/{fd}")
    assert response.status == 200
    if fd == 2:
        text = response.text
    else:
        log = server.wait_for_log(rf"of /closed/{fd} .*revents is POLLNVAL: ")
        lines = [line for line in log.splitlines() if f"of /closed/{fd} " in line]
        text = "\n".join(line.rpartition("]: ")[2] for line in lines)
    calls = dict(re.findall(r"\b([a-zA-Z ]+): ([\w ]+)$", text, re.MULTILINE))
    assert calls.pop("close") == "0"
    # wasmtime fails the whole call for such a descriptor; POSIX reports it in the event.
    poll = (calls.pop("poll"), calls.pop("revents is POLLNVAL"))
    assert poll in [("1", "1"), ("Bad file descriptor", "0")]
    expected = dict.fromkeys(
        ("close again", "read", "write", "fstat", "fcntl", "lseek"), "Bad file descriptor"
    )
    assert calls == expected


def numbered_lines(size: int) -> bytes:
    return b"".join(b"%08d%91s\n" % (number, b"") for number in range(size // 100 + 1))[:size]


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 3 * MIB, 20 * MIB])
def test_large_write_is_complete(server: Server, size: int) -> None:
    """``write`` returns the full size, even of large data."""
    response = server.get(f"/streams?stdout={size}")
    assert response.status == 200
    assert response.body == numbered_lines(size)
    server.wait_for_log(rf"of /streams .*: write: {size}\b")


def test_a_large_write_to_stderr(server: Server) -> None:
    """200,000 bytes in one call: 2,000 lines in the log."""
    response = server.get("/streams?stderr=200000")
    assert (response.status, response.text) == (200, "write: 200000\n")
    server.wait_for_log(r"of /streams .*: 00001999")
    found = re.findall(r"of /streams .*: (0000\d{4})\s*$", server.log, re.MULTILINE)
    assert found == [f"{number:08}" for number in range(2000)]


def test_a_write_of_many_buffers(server: Server) -> None:
    response = server.get("/streams?writev=1100")
    assert response.status == 200
    assert response.text == "".join(f"{number:09}\n" for number in range(1100))
    server.wait_for_log(r"of /streams .*: writev: 11000\b")


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("way", ["_exit", "exit", "late", "constructor", *ENDS])
def test_exit_statuses_after_a_response(server: Server, way: str, status: int) -> None:
    """The response is complete with any status; the status is in the log."""
    response = server.get(f"/{way}/{status}")
    assert (response.status, response.text) == (200, "begin\nend\n")
    number = f"(-1|{2**32 - 1})" if status == -1 else str(status)
    server.wait_for_log(rf"GET /{way}/{status}, .*exited with status {number}\b")


def test_an_exit_status_after_a_streamed_response(server: Server) -> None:
    """The first part arrives while the program runs; the response ends normally."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    try:
        connection.request("GET", "/late/255")
        response = connection.getresponse()
        assert response.read(6) == b"begin\n"
        assert response.read() == b"end\n"
        # The connection is intact, so another request is possible.
        connection.request("GET", "/late/1")
        assert connection.getresponse().read() == b"begin\nend\n"
    finally:
        connection.close()


@pytest.mark.parametrize("count", [0, 1, 5000, 20_000])
def test_readdir_lists_every_file(tmp_path: Path, count: int) -> None:
    """Within the default limits, and without blocking the worker for seconds."""
    names = {f"file-{number:05}-with-a-name-of-some-length" for number in range(count)}
    many = tmp_path / "many"
    many.mkdir()
    for name in names:
        (many / name).touch()
    module = compiled(HANDLERS / "listing.c")
    manifest = entry("/list", str(module), 'volumes = {"/data" = "many"}')
    with serving(tmp_path, manifest) as server:
        began = time.monotonic()
        response = server.get("/list")
        seconds = time.monotonic() - began
    print(f"{count} files: {seconds * 1000:.1f} ms")
    lines = response.text.splitlines()
    assert lines[-1] == f"{count} files, no error"
    assert len(lines) == count + 1
    assert set(lines[:-1]) == names
    # Natively this takes milliseconds. Restarting the listing at each call takes 8 seconds.
    assert seconds < 2 + count / 5000


def test_assemblyscript_writes_of_three_mebibytes(tmp_path: Path) -> None:
    module = assemblyscript(HANDLERS / "large.ts")
    text = b"0123456789abcdef" * (3 * MIB // 16)
    manifest = entry("/write", str(module), 'argv = "large write"')
    manifest += entry("/console", str(module), 'argv = "large console"')
    with serving(tmp_path, manifest) as server:
        assert server.get("/write").body == text
        assert server.get("/console").body == text + b"\n"


def test_the_c_library_as_under_wasmtime(tmp_path: Path) -> None:
    """The same program prints the same text under wasmtime's own WASI and under the gateway."""
    module = compiled(HANDLERS / "libc.c")
    environment = {"EMPTY": "", "EQUALS": "a=b=c", "SPACES": " x "}
    (tmp_path / "reference").mkdir()
    (tmp_path / "ours").mkdir()
    # The default argv: the path and the items of the query, the first of which is empty.
    arguments = ["/libc", "", "a=b", "", "x+y"]
    expected = run_reference(module, arguments, environment, {"/data": tmp_path / "reference"})
    head, _, text = expected.stdout.decode().partition("\n\n")
    assert (expected.status, head, expected.stderr) == (0, "Content-Type: text/plain", b"")
    assert "FAILED" not in text
    assert text.count("\nok: ") > 100
    variables = ", ".join(f'{name} = "{value}"' for name, value in environment.items())
    manifest = entry(
        "/libc", str(module), 'volumes = {"/data" = "ours"}', f"environment = {{{variables}}}"
    )
    with serving(tmp_path, manifest) as server:
        response = server.get("/libc?&a=b&&x+y")
    assert response.status == 200, server.log
    assert response.text.splitlines() == text.splitlines()
    assert list((tmp_path / "ours").iterdir()) == []
