"""The record of one request and its response."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from wagi.guest.outcome import Exit, Outcome, Returned, Trap
from wagi.observe.failure import Failure
from wagi.observe.text import one_line

_MAX_STREAM_SIZE = 64 * 1024  # bytes of each stream


@dataclass(slots=True)
class GuestRecord:
    """The inputs and outputs of a guest, for its developer.

    Attributes:
        argv: The arguments.
        variables: The environment, as NAME=value.
        stdin: The first 64 KiB of the request body, as far as it has arrived.
        stdin_size: Size of the request body that has arrived, in bytes.
        stdout: The first 64 KiB of its output.
        stdout_size: Size of its output in bytes.
        stderr: The first 64 KiB of its stderr.
        warnings: Problems with its output.
        end: How it ended, in words.
        exit_code: The exit status; None if it did not end by itself.
        trap: The trap and the functions that were running; None if there was none.
        memory: Size of its memory at the end, in bytes.
    """

    argv: Sequence[bytes]
    variables: Sequence[bytes]
    stdin: bytearray = field(default_factory=bytearray)
    stdin_size: int = 0
    stdout: bytearray = field(default_factory=bytearray)
    stdout_size: int = 0
    stderr: bytearray = field(default_factory=bytearray)
    warnings: Sequence[str] = ()
    end: str = "cancelled"
    exit_code: int | None = None
    trap: str | None = None
    memory: int = 0

    def feed(self, data: bytes) -> None:
        """Record a part of the request body."""
        self.stdin += data[: _MAX_STREAM_SIZE - len(self.stdin)]
        self.stdin_size += len(data)

    def print(self, output: bytes) -> None:
        """Record output to stdout."""
        self.stdout += output[: _MAX_STREAM_SIZE - len(self.stdout)]
        self.stdout_size += len(output)

    def prepend(self, head: bytes) -> None:
        """Record the head of a response that the guest has not printed before its output."""
        self.stdout[:0] = head
        self.stdout_size += len(head)

    def tee(self, write: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """Wrap a function that writes stderr, so that the output is recorded as well."""

        def both(output: bytes) -> None:
            self.stderr += output[: _MAX_STREAM_SIZE - len(self.stderr)]
            write(output)

        return both

    def finish(self, outcome: Outcome | None, memory: int) -> None:
        """Record how the guest ended.

        Args:
            outcome: The outcome; None if it was cancelled.
            memory: Size of its memory in bytes.
        """
        self.memory = memory
        match outcome:
            case Trap() as trap:
                self.end, self.trap = "trap", str(trap)
            case Exit(status):
                self.end, self.exit_code = f"exit {status}", status
            case Returned():
                self.end, self.exit_code = "returned", 0


class SpanIds(Protocol):
    """The identity of a span, which connects logs with traces."""

    @property
    def trace_id(self) -> str:
        """The trace it belongs to: 32 hexadecimal digits."""

    @property
    def span_id(self) -> str:
        """Its number in the trace: 16 hexadecimal digits."""


@dataclass
class Exchange:
    """The record of a request for logs, metrics and the dev page.

    Attributes:
        headers: The request headers, two of which are in the access log.
        sent: Size of the response body in bytes.
        body_size: Received bytes of the request body.
        cpu_seconds: CPU time of the guest.
        queue_seconds: Time that the request waited for a slot or for memory.
        outcome: How the guest ended: ``completed``, ``exit``, ``trap``, ``cancelled``,
            ``invalid_output``, or the time limit that was exceeded; empty if none was started.
        memory: The largest size of the guest's memory in bytes; 0 if none was started.
        guest: The record of the guest; None if it is not recorded.
        failure: Why the gateway answered with an error, or broke off the response.
        span: The span of the request; None if traces are off.
        received: When the request arrived, in seconds since the epoch.
        started: The same in seconds of ``time.perf_counter``.
    """

    request_id: str
    method: str
    target: str
    protocol: str
    client: str
    headers: Mapping[str, str]
    route: str = ""
    module: str = ""
    status: int = 0
    # Not arguments, so that making an exchange does not set them: that takes half as long.
    sent: int = field(default=0, init=False)
    body_size: int = field(default=0, init=False)
    cpu_seconds: float = field(default=0.0, init=False)
    queue_seconds: float = field(default=0.0, init=False)
    outcome: str = field(default="", init=False)
    memory: int = field(default=0, init=False)
    guest: GuestRecord | None = field(default=None, init=False)
    failure: Failure | None = field(default=None, init=False)
    span: SpanIds | None = field(default=None, init=False)
    received: float = field(default_factory=time.time)
    started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Time since the start, in seconds."""
        return time.perf_counter() - self.started


def describe(exchange: Exchange, guest: GuestRecord) -> list[tuple[str, str]]:
    """Describe a guest for its developer.

    Returns:
        Lines as pairs of a label and a text, escaped for a terminal.
    """
    lines = [
        ("route     ", exchange.route),
        ("module    ", exchange.module),
        ("argv      ", " ".join(repr(word.decode(errors="replace")) for word in guest.argv)),
        ("end       ", guest.end),
        ("CPU time  ", f"{exchange.cpu_seconds * 1000:.2f} ms"),
        ("memory    ", f"{guest.memory / 1024:,.0f} KiB"),
        ("variables:", ""),
    ]
    for variable in sorted(guest.variables):
        name, equals, value = variable.decode(errors="replace").partition("=")
        lines.append((f"  {name}{equals}", value))
    return [(one_line(label), one_line(text)) for label, text in lines]
