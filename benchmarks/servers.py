"""The servers that are measured: wagi, the baselines, and what a user could take instead."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import ROOT, pinned, server_cores
from tests.support.toolchains import tool

START_SECONDS = 60
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@dataclass(frozen=True)
class Running:
    """A server that answers: its URL, the process that was started, and the cores it may use."""

    url: str
    pid: int
    cores: set[int]


@contextmanager
def announced(
    command: Sequence[str], cores: int = 1, environment: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Run a server that prints on stderr where it listens; its stdout goes to a file."""
    used = server_cores(cores)
    with tempfile.TemporaryFile() as stdout, pinned(used):
        process = subprocess.Popen(
            command,
            env={**ENVIRONMENT, **(environment or {})},
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert process.stderr is not None
    printed = ""
    try:
        for line in process.stderr:
            printed += line
            if found := re.search(r"(?:listening|Serving HTTP) on (http://[^/\s]+)", line):
                threading.Thread(target=process.stderr.read, daemon=True).start()
                yield Running(found[1], process.pid, used)
                return
        raise SystemExit(f"{command} did not start: {printed}")
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def bare(handler: str = "") -> Iterator[Running]:
    """An aiohttp handler without a guest; see ``benchmarks.bare``."""
    with announced([sys.executable, "-m", "benchmarks.bare", handler]) as running:
        yield running


@contextmanager
def wagi(
    folder: Path, *options: str, workers: int = 1, access_log: str = "off", core: str = ""
) -> Iterator[Running]:
    """wagi, serving the modules.toml of a folder.

    Args:
        folder: Compiled modules are kept in it too.
        options: Further options of ``wagi serve``.
        workers: The processes, on as many cores.
        access_log: Its format; the log is written to a file.
        core: The value of ``WAGI_CORE``; that of this process unless given.
    """
    command = [sys.executable, "-m", "wagi", "serve", str(folder / "modules.toml")]
    command += ["-l", "127.0.0.1:0", "--loop", "asyncio", "--workers", str(workers)]
    command += ["--access-log", access_log, "--artefact-cache", str(folder / "artefacts")]
    command += ["--log-dir", str(folder / "logs"), *options]
    with announced(command, workers, {"WAGI_CORE": core} if core else {}) as running:
        yield running


HELLO_COMPONENT = Path(__file__).parent / "hello.component.wat"


@contextmanager
def wasmtime_serve(
    command: Path, cores: int = 1, component: Path = HELLO_COMPONENT
) -> Iterator[Running]:
    """``wasmtime serve`` with a component of the wasi:http proxy world."""
    options = ["-Scli", "--addr", "127.0.0.1:0"]
    with announced([str(command), "serve", *options, str(component)], cores) as running:
        yield running


@contextmanager
def node_wasi(module: Path, folder: Path) -> Iterator[Running]:
    """node's WASI behind its http server: compiled once, an instance for each request."""
    script = folder / "server.mjs"
    script.write_text(_NODE)
    with announced([tool("node"), "--no-warnings", str(script), str(module)]) as running:
        yield running


_NODE = """
import http from 'node:http'; import fs from 'node:fs'; import os from 'node:os';
import path from 'node:path'; import {WASI} from 'node:wasi';
const module = await WebAssembly.compile(fs.readFileSync(process.argv[2]));
const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'out-')), 'stdout');
const server = http.createServer((request, response) => {
  const stdout = fs.openSync(file, 'w+');
  const wasi = new WASI({version: 'preview1', stdout, returnOnExit: true,
    env: {REQUEST_METHOD: request.method, PATH_INFO: request.url}});
  WebAssembly.instantiate(module, wasi.getImportObject()).then(instance => {
    wasi.start(instance);
    const output = fs.readFileSync(file);
    fs.closeSync(stdout);
    const end = output.indexOf('\\n\\n');
    response.setHeader('Content-Type', 'text/plain');
    response.end(output.subarray(end + 2));
  });
});
server.listen(0, '127.0.0.1', () =>
  console.error(`listening on http://127.0.0.1:${server.address().port}`));
"""


@contextmanager
def fcgiwrap(program: Path, folder: Path) -> Iterator[Running]:
    """nginx in front of two processes of fcgiwrap, which run a program for each request.

    A shell starts both, so that one process has the CPU time of all.
    """
    place = Path(tempfile.mkdtemp(dir=folder))
    port = free_port()
    (place / "nginx.conf").write_text(_NGINX.format(folder=place, port=port, program=program))
    script = '"$1" -c 2 -s "unix:$2/fcgi.sock" & "$3" -c "$2/nginx.conf" & wait'
    used = server_cores(1)
    with pinned(used):
        process = subprocess.Popen(
            ["/bin/sh", "-c", script, "sh", tool("fcgiwrap"), str(place), tool("nginx")],
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # its children do not end with it
        )
    try:
        wait_for(port)
        yield Running(f"http://127.0.0.1:{port}", process.pid, used)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


_NGINX = """
daemon off; user root; worker_processes 1; pid {folder}/nginx.pid; error_log /dev/null;
events {{ worker_connections 1024; }}
http {{ access_log off; client_body_temp_path {folder}/a; fastcgi_temp_path {folder}/b;
  proxy_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{ listen 127.0.0.1:{port} backlog=1024; location / {{
    fastcgi_pass unix:{folder}/fcgi.sock; fastcgi_param SCRIPT_FILENAME {program};
    fastcgi_param REQUEST_METHOD $request_method; fastcgi_param QUERY_STRING $query_string;
    fastcgi_param PATH_INFO $uri; fastcgi_param SERVER_PROTOCOL $server_protocol; }} }} }}
"""


def free_port() -> int:
    """A port of the loopback interface without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    """Wait until a port of the loopback interface takes connections."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"nothing listens on port {port} after {START_SECONDS} s")
