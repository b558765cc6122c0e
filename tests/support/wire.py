"""HTTP as bytes: the responses of wagi, and of servers that it is compared with.

Every server here reports each request that it has parsed: the method, the path and, except for
nginx, the body. So servers that parse the same bytes as different requests respond differently.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import io
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.apache import apache
from tests.support.nginx import nginx
from tests.support.server import Server, serving
from tests.support.toolchains import HANDLERS, compiled, native_go

Reply = str | int
"""The handler's report, such as ``GET /a``, for a response 200; otherwise the status. 0 stands for
bytes that are not a complete HTTP response."""

_LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
_LAST_REPLY = "GET /last\n"
_CGI_SCRIPT = """\
printf 'Content-Type: text/plain\\n\\n%s %s\\n' "$REQUEST_METHOD" "$REQUEST_URI"
exec cat
"""


@dataclass(frozen=True)
class Answer:
    """All responses of a server to some bytes.

    Attributes:
        replies: The responses.
        closed: Whether the server closes the connection afterwards.
    """

    replies: tuple[Reply, ...]
    closed: bool

    def __str__(self) -> str:
        """Describe the replies, and the connection if its state is unusual.

        Usually, it is closed after an error, and kept open otherwise.
        """
        texts = [_text_of(reply) for reply in self.replies] or ["none"]
        ends_with_error = bool(self.replies) and isinstance(self.replies[-1], int)
        if self.closed and not ends_with_error:
            texts.append("closed")
        if ends_with_error and not self.closed:
            texts.append("open")
        return ", ".join(texts)


def _text_of(reply: Reply) -> str:
    return "200" if isinstance(reply, str) else str(reply or "none")


@dataclass(frozen=True)
class Case:
    """A test case: bytes that a client sends.

    Attributes:
        name: Description of the bytes, for the table in docs/security.md.
        data: The bytes.
        expected: The response of wagi.
        why: Why other servers respond differently, if any does.
    """

    name: str
    data: bytes
    expected: Answer
    why: str = ""

    def __str__(self) -> str:
        return self.name


def replies_in(received: bytes, has_ended: bool) -> tuple[Reply, ...]:
    """Parse the responses that a client has received.

    Args:
        received: All bytes received so far.
        has_ended: Whether the connection has ended. If not, an incomplete response at the end is
            ignored.
    """
    replies: list[Reply] = []
    stream = _Received(received)
    while stream.tell() < len(received):
        reply = _next_reply(stream, has_ended)
        if reply is None:
            break
        replies.append(reply)
        if reply == 0:
            break
    return tuple(replies)


def _next_reply(stream: _Received, has_ended: bool) -> Reply | None:
    if b"\r\n\r\n" not in stream.getvalue()[stream.tell() :]:
        return 0 if has_ended else None
    response = http.client.HTTPResponse(stream)  # type: ignore[arg-type] # only makefile is used
    try:
        response.begin()
        ends_with_connection = response.length is None and not response.chunked
        body = response.read()
    except (http.client.HTTPException, ValueError):
        return 0 if has_ended else None
    if ends_with_connection and not has_ended:
        return None
    return body.decode("latin-1") if response.status == 200 else response.status


class _Received(io.BytesIO):
    """Received bytes as a socket that stays open after a response."""

    def makefile(self, *_: Any) -> _Received:
        return self

    def close(self) -> None:
        """Do nothing: the next response follows."""


def ask(
    connection: socket.socket, pieces: Sequence[bytes], expected: Answer, patience: float = 10.0
) -> Answer:
    """Send bytes and read the answer.

    The answer does not depend on timing as long as the server behaves as expected: another request
    shows whether the connection is still open.

    Args:
        connection: Connection to the server, which is closed at the end. It has to be a unix socket
            if there is more than one piece.
        pieces: The bytes. Each piece is sent after the server has received the previous one.
        expected: The answer to wait for.
        patience: Seconds to wait for it.
    """
    received = bytearray()
    deadline = time.monotonic() + patience
    with connection:
        connection.settimeout(patience)
        _send(connection, pieces, deadline)
        wanted = None if expected.closed else len(expected.replies)
        closed = _receive(connection, received, wanted, deadline)
        replies = replies_in(bytes(received), closed)
        if closed or wanted is None or len(replies) < wanted:
            return Answer(replies, closed)
        _send(connection, [_LAST], deadline)
        closed = _receive(connection, received, None, deadline)
    replies = replies_in(bytes(received), closed)
    if replies[-1:] == (_LAST_REPLY,):
        return Answer(replies[:-1], False)
    return Answer(replies, closed)


def _send(connection: socket.socket, pieces: Sequence[bytes], deadline: float) -> None:
    with contextlib.suppress(ConnectionError, TimeoutError):
        for piece in pieces[:-1]:
            connection.sendall(piece)
            _wait_until_received(connection, deadline)
        connection.sendall(pieces[-1])


def _wait_until_received(connection: socket.socket, deadline: float) -> None:
    """Wait until the other end of a unix socket has read everything that was sent to it."""
    assert (
        connection.family == socket.AF_UNIX
    )  # for TCP, only the state of the kernel's buffer is known
    while True:
        unread = fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4))
        if not struct.unpack("i", unread)[0]:
            return
        assert time.monotonic() < deadline, "the server does not read"
        time.sleep(0)


def _receive(
    connection: socket.socket, received: bytearray, wanted: int | None, deadline: float
) -> bool:
    """Read until there are ``wanted`` replies, or the connection ends.

    Returns:
        Whether the connection has ended.
    """
    while wanted is None or len(replies_in(bytes(received), False)) < wanted:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            piece = connection.recv(65536)
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        if not piece:
            return True
        received += piece
    return False


def unix_connection(path: Path) -> socket.socket:
    """Connect to a server that listens on a unix socket."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(path))
    return connection


@contextmanager
def reporting_wagi(folder: Path, *options: str, listen: str = "127.0.0.1:0") -> Iterator[Server]:
    """Serve wagi with a handler that reports every request."""
    manifest = '[[module]]\nroute = "/..."\nmodule = "report.wasm"\n'
    modules = {"report.wasm": compiled(HANDLERS / "report.c").read_bytes()}
    with serving(folder, manifest, *options, modules=modules, listen=listen) as server:
        yield server


def wait_until_only_answered_ran(server: Server) -> None:
    """Check that exactly one handler has run for each response 200 of ``reporting_wagi``.

    The order of lines of handlers and of the access log is unspecified: wait for the last one.
    """
    server.get("/last")
    server.wait_for_access(r'"GET /last HTTP/1.1" 200 ')
    deadline = time.monotonic() + 10
    while True:
        ran = server.log.count("stderr of /... ")
        answered = "\n".join(server.access_log).count('" 200 ')
        if ran == answered:
            return
        assert time.monotonic() < deadline, f"{ran} handlers have run for {answered} responses"
        time.sleep(0.01)


@contextmanager
def references(folder: Path) -> Iterator[dict[str, int]]:
    """Run the servers that wagi is compared with; yield their ports by name."""
    site = 'server { listen 80; location / { return 200 "$request_method $request_uri\n"; } }'
    with (
        nginx(folder, site) as nginx_port,
        apache(_CGI_SCRIPT) as apache_port,
        _net_http() as go_port,
    ):
        yield {"nginx": nginx_port, "Apache": apache_port, "Go": go_port}


@contextmanager
def _net_http() -> Iterator[int]:
    program = native_go(Path(__file__).parent / "net_http.go")
    process = subprocess.Popen([program], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def compare(ports: dict[str, int], cases: Sequence[Case]) -> list[dict[str, Answer]]:
    """Send each case to each server.

    Args:
        ports: The servers' ports by name.
        cases: The cases to send.

    Returns:
        The answers by server name, for each case. Those of nginx have the bodies of the expected
        answers, because it does not report bodies.
    """

    def answer_of(name: str, case: Case) -> Answer:
        expected = case.expected
        if name == "nginx":
            expected = _without_bodies(expected)
        connection = socket.create_connection(("127.0.0.1", ports[name]), timeout=20)
        answer = ask(connection, [case.data], expected, patience=2.0)
        return case.expected if answer == expected else answer

    with ThreadPoolExecutor(16) as pool:
        tasks = [{name: pool.submit(answer_of, name, case) for name in ports} for case in cases]
        return [{name: task.result() for name, task in row.items()} for row in tasks]


def _without_bodies(answer: Answer) -> Answer:
    replies = (
        reply if isinstance(reply, int) else reply.partition("\n")[0] + "\n"
        for reply in answer.replies
    )
    return Answer(tuple(replies), answer.closed)


def table(folder: Path, cases: Sequence[Case]) -> str:
    """Return the answers of all servers and the reasons for differences, as a Markdown table."""
    with reporting_wagi(folder) as server, references(folder / "nginx") as ports:
        rows = compare({"wagi": server.port, **ports}, cases)
    names = list(rows[0])
    lines = [
        f"| bytes | {' | '.join(names)} | why the difference |",
        "| --- " * (len(names) + 2) + "|",
    ]
    for case, answers in zip(cases, rows, strict=True):
        why = case.why if len(set(answers.values())) > 1 else ""
        cells = [case.name, *map(str, answers.values()), why]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
