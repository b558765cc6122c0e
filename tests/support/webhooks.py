"""Real ``wagi webhook`` processes."""

from __future__ import annotations

import http.client
import json
import re
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.server import ENVIRONMENT, START_TIMEOUT, WAGI, Response

IMAGE = "registry.example/wagi:0.1.0"


class Webhook:
    """A running ``wagi webhook``.

    Attributes:
        process: The process.
        port: Its port.
        tls: The TLS configuration of a client that trusts it.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.port = 0
        self.tls = ssl.create_default_context()
        self._lines: list[str] = []
        self._listening = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.append(line)
            if found := re.search(r"listening on https://[\d.]+:(\d+)", line):
                self.port = int(found[1])
                self._listening.set()
        self._listening.set()

    def wait_until_listening(self) -> None:
        assert self._listening.wait(START_TIMEOUT), self.log
        assert self.port, self.log

    @property
    def log(self) -> str:
        return "".join(self._lines)

    def wait_for_log(self, text: str, seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.log:
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("localhost", self.port, timeout=60, context=self.tls)

    def request(
        self, method: str, path: str, body: bytes | None = None, media_type: str = ""
    ) -> Response:
        """Send a request on a new connection."""
        connection = self.connect()
        try:
            headers = {"Content-Type": media_type} if media_type else {}
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Response(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    def review(self, review: dict[str, Any]) -> dict[str, Any]:
        """Send a review and return its response."""
        content = json.dumps(review).encode()
        response = self.request("POST", "/mutate", content, "application/json")
        assert response.status == 200, response.text
        answer: dict[str, Any] = json.loads(response.body)["response"]
        return answer

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@contextmanager
def running_webhook(
    folder: Path, certificate: tuple[Path, Path], *options: str
) -> Iterator[Webhook]:
    """Run a webhook with a certificate for localhost."""
    files = ("--tls-cert", str(certificate[0]), "--tls-key", str(certificate[1]))
    command = ("--image", IMAGE, "-l", "127.0.0.1:0", *files, *options)
    with start_webhook(folder, *command) as webhook:
        webhook.tls = ssl.create_default_context(cafile=str(certificate[0]))
        yield webhook


@contextmanager
def start_webhook(
    folder: Path,
    *options: str,
    environment: Mapping[str, str] | None = None,
    wait: bool = True,
) -> Iterator[Webhook]:
    """Run ``wagi webhook``; with ``wait``, wait until it listens."""
    process = subprocess.Popen(
        [*WAGI, "webhook", *options],
        cwd=folder,
        env={**ENVIRONMENT, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    webhook = Webhook(process)
    try:
        if wait:
            webhook.wait_until_listening()
        yield webhook
    finally:
        process.kill()
        process.wait()
