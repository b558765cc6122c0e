"""What is measured: wagi, the baselines, and what a user could take instead."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Running:
    """A server that answers.

    Attributes: ``pid`` of the process that was started; ``seconds`` until it said so.
    """

    url: str
    pid: int
    seconds: float


@contextmanager
def announced(command: Sequence[str], folder: Path) -> Iterator[Running]:
    """Run a server that says on stderr where it listens."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = ""
    try:
        for line in process.stderr:
            said += line
            if found := re.match(r"listening on (\S+)", line):
                seconds = time.perf_counter() - began
                threading.Thread(target=process.stderr.read, daemon=True).start()
                yield Running(found[1], process.pid, seconds)
                return
        raise SystemExit(f"{command} did not start: {said}")
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def bare(handler: str = "") -> AbstractContextManager[Running]:
    """An aiohttp handler without a guest; see ``benchmarks.bare``."""
    command = [sys.executable, "-m", "benchmarks.bare", *([handler] if handler else [])]
    return announced(command, ROOT)


def shimmed(module: Path) -> AbstractContextManager[Running]:
    """wagi's gateway with its guests run in compiled code; see ``benchmarks.shimmed``."""
    return announced([sys.executable, "-m", "benchmarks.shimmed", str(module)], ROOT)


def wagi(folder: Path, workers: int = 1, *options: str) -> AbstractContextManager[Running]:
    """wagi, serving the modules.toml of a folder."""
    command = [sys.executable, "-m", "wagi", "serve", "-l", "127.0.0.1:0", "--access-log", "off"]
    command += ["--workers", str(workers), "--loop", "asyncio"]
    return announced([*command, "--artefact-cache", str(folder / "artefacts"), *options], folder)


@contextmanager
def node_wasi(module: Path) -> Iterator[Running]:
    """node's WASI behind its http server: compiled once, an instance for each request."""
    with tempfile.TemporaryDirectory() as name:
        script = Path(name) / "server.mjs"
        script.write_text(_NODE)
        command = ["node", "--no-warnings", str(script), str(module)]
        with announced(command, Path(name)) as running:
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
def wasmtime_serve(command: Path, component: Path) -> Iterator[Running]:
    """``wasmtime serve``, which runs components of the wasi:http proxy world."""
    port = free_port()
    process = subprocess.Popen(
        [command, "serve", "--addr", f"127.0.0.1:{port}", component],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        time.sleep(2)
        yield Running(f"http://127.0.0.1:{port}", process.pid, 0)
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port of the loopback interface on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def fcgiwrap(program: Path, workers: int) -> Iterator[Running]:
    """nginx in front of fcgiwrap, which runs a program for each request."""
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    wrapper = shutil.which("fcgiwrap") or "/usr/sbin/fcgiwrap"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        port = free_port()
        (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, port=port, program=program))
        processes = [
            subprocess.Popen(
                [wrapper, "-c", str(workers), "-s", f"unix:{folder}/fcgi.sock"],
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # its children do not end with it
            ),
            subprocess.Popen([nginx, "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL),
        ]
        try:
            time.sleep(1)
            yield Running(f"http://127.0.0.1:{port}", processes[0].pid, 0)
        finally:
            os.killpg(processes[0].pid, signal.SIGKILL)
            processes[1].terminate()
            for process in processes:
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
