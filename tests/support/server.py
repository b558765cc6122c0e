"""Real server processes, and clients that send exactly the given bytes."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.support.toolchains import CACHE

START_TIMEOUT = 120.0
ROOT = Path(__file__).parents[2]
WAGI = [sys.executable, "-m", "wagi"]
ONE_WORKER = ("--workers", "1")
"""For tests of figures that are per worker."""
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    # One worker by default, so that measurements are not spread over several.
    "WAGI_WORKERS": os.environ.get("WAGI_TEST_WORKERS", "1"),
    "WAGI_ARTEFACT_CACHE": str(CACHE / "artefacts"),
    "WAGI_MODULE_CACHE": str(CACHE / "modules"),
    "DOCKER_CONFIG": str(CACHE / "no-credentials"),
    # At each start, pydantic would search all installed packages for its plugins.
    "PYDANTIC_DISABLE_PLUGINS": "__all__",
}


@dataclass(frozen=True)
class Response:
    """A response as received."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        values = self.all(name)
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def variables(self) -> dict[str, str]:
        """The variables in a response of the environment example."""
        return dict(line.split("=", 1) for line in self.text.splitlines())


class Server:
    """A running ``wagi serve``.

    Attributes:
        tls: Context that verifies its certificate; None for a server without TLS.
    """

    def __init__(self, process: subprocess.Popen[str], host: str = "127.0.0.1") -> None:
        self.process = process
        self.host = host
        self.port = 0
        self.url = ""
        self.tls: ssl.SSLContext | None = None
        self._lines: list[str] = []
        self._stdout: list[str] = []
        self._listening = threading.Event()
        self._readers = [
            threading.Thread(target=self._read, args=(process.stderr, self._lines), daemon=True),
        ]
        if process.stdout is not None:
            arguments = (process.stdout, self._stdout)
            self._readers.append(threading.Thread(target=self._read, args=arguments, daemon=True))
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Iterator[str], lines: list[str]) -> None:
        for line in stream:
            lines.append(line.rstrip("\n"))
            if found := re.search(r'(?:^|"message": ")listening on ([^\s"]+)', line):
                self.url = found[1]
                if port := re.search(r":(\d+)$", self.url):
                    self.port = int(port[1])
                self._listening.set()
        if lines is self._lines:
            self._listening.set()

    def wait_until_listening(self) -> None:
        assert self._listening.wait(START_TIMEOUT), self.log
        assert self.url, self.log

    @property
    def log(self) -> str:
        """The server's stderr so far."""
        return "\n".join(self._lines)

    @property
    def access_log(self) -> list[str]:
        return list(self._stdout)

    def wait_for_log(self, pattern: str, seconds: float = 10.0) -> str:
        """Wait until the server's log matches a pattern; return the whole log."""
        return _wait(lambda: self.log, pattern, seconds)

    def wait_for_access(self, pattern: str, seconds: float = 10.0) -> str:
        """Wait until the access log matches a pattern; return the whole access log."""
        return _wait(lambda: "\n".join(self._stdout), pattern, seconds)

    def wait_for_text(self, path: str, text: str, seconds: float = 30.0) -> float:
        """Send requests until the body of a response is a text; return the seconds it took."""
        started = time.monotonic()
        while self.get(path).text != text:
            assert time.monotonic() - started < seconds, self.log
            time.sleep(0.005)
        return time.monotonic() - started

    def get(self, path: str, **options: object) -> Response:
        return self.request("GET", path, **options)  # type: ignore[arg-type]

    def post(self, path: str, body: bytes, **options: object) -> Response:
        return self.request("POST", path, body=body, **options)  # type: ignore[arg-type]

    def request(
        self,
        method: str,
        path: str,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        timeout: float = 60.0,
    ) -> Response:
        """Send a request on a new connection; the path is sent unchanged."""
        connection = (
            http.client.HTTPConnection(self.host, self.port, timeout=timeout)
            if self.tls is None
            else http.client.HTTPSConnection(
                self.host, self.port, timeout=timeout, context=self.tls
            )
        )
        try:
            own_host = any(name.lower() == "host" for name, _ in headers)
            connection.putrequest(method, path, skip_host=own_host, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            return Response(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    def raw(self, data: bytes, timeout: float = 30.0) -> bytes:
        """Send bytes; return all bytes until the server closes the connection."""
        with self.connect(timeout) as connection:
            connection.sendall(data)
            return read_all(connection)

    def connect(self, timeout: float = 30.0) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=timeout)

    @property
    def workers(self) -> list[int]:
        """The process ids of the workers."""
        pid = self.process.pid
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]

    def rss(self) -> int:
        """The workers' resident memory in bytes."""
        pages = [Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in self.workers]
        return sum(map(int, pages)) * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self) -> float:
        """The workers' CPU time in seconds."""
        ticks = 0
        for pid in self.workers:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def open_files(self) -> int:
        """The number of file descriptors of the workers."""
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self.workers)

    def stop(self, number: int = signal.SIGTERM, seconds: float = 40.0) -> int:
        """Stop the server with a signal; return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        for reader in self._readers:
            reader.join(5)
        return status


def _wait(text: object, pattern: str, seconds: float) -> str:
    assert callable(text)
    deadline = time.monotonic() + seconds
    while not re.search(pattern, text()):
        assert time.monotonic() < deadline, f"no {pattern!r} in:\n{text()}"
        time.sleep(0.01)
    return str(text())


def read_all(connection: socket.socket) -> bytes:
    """Read until the end of the connection, or a reset."""
    pieces = []
    try:
        while piece := connection.recv(65536):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(pieces)


@contextmanager
def serving(
    folder: Path,
    manifest: str | None = None,
    *options: str,
    modules: Mapping[str, str | bytes] | None = None,
    target: str | None = "modules.toml",
    environment: dict[str, str] | None = None,
    listen: str | None = "127.0.0.1:0",
    stdout: int | IO[bytes] = subprocess.PIPE,
    files_limit: int | None = None,
    command: Sequence[str] = (),
    wait: bool = True,
) -> Iterator[Server]:
    """Write modules.toml and modules to a folder and serve them on a free port.

    Args:
        folder: The working directory of the server.
        manifest: Content of modules.toml; None if it exists already.
        options: Further options.
        modules: Content of other files by name.
        target: What to serve; None if the options name it.
        listen: Value of ``--listen``; None if the options name it.
        environment: Additional environment variables.
        stdout: Where the access log goes.
        files_limit: Maximum number of open files.
        command: Command that runs the server, such as env.
        wait: Whether to wait until the server listens.
    """
    write_files(folder, modules or {})
    if manifest is not None:
        (folder / "modules.toml").write_text(manifest)
    limited = [] if files_limit is None else ["prlimit", f"--nofile={files_limit}"]
    listening = [] if listen is None else ["--listen", listen]
    process = subprocess.Popen(
        [*command, *limited, *WAGI, "serve", *listening, *options, *([target] if target else [])],
        cwd=folder,
        env={**ENVIRONMENT, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )
    server = Server(process)
    try:
        if wait:
            server.wait_until_listening()
        yield server
    finally:
        server.stop(signal.SIGKILL)


def default_sigint() -> None:
    """Make SIGINT interrupt the process; for ``preexec_fn``.

    Under ``nohup pytest`` or in a background job, SIGINT is ignored, which children inherit.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def manifest_of(modules: Mapping[str, str | bytes], extra: str = "") -> str:
    """Return a modules.toml with each module at the route of its name without suffix."""
    entries = [
        f'[[module]]\nroute = "/{name.rsplit(".", 1)[0]}"\nmodule = "{name}"\n' for name in modules
    ]
    return "\n".join([*entries, extra])


def run_wagi(
    folder: Path,
    *arguments: str,
    environment: dict[str, str] | None = None,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run a command and return its result; it may take ``timeout`` seconds."""
    return subprocess.run(
        [*WAGI, *arguments],
        cwd=folder,
        env={**ENVIRONMENT, "COLUMNS": "200", **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
