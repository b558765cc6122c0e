"""The record of one request and its response, filled while it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from wagi.guest.outcome import Exit, Outcome, Returned, Trap
from wagi.observe.text import one_line

_KEPT = 64 * 1024  # bytes of each stream


@dataclass(slots=True)
class GuestRecord:
    """What a guest saw and did, for those who develop it.

    Attributes: ``argv`` and ``variables`` (NAME=value) that it got; ``stdout`` and ``stderr``, the
    first 64 KiB of each; ``end`` how it ended, in words; ``exit_code`` if it ended by itself;
    ``trap`` with its backtrace; ``memory`` bytes that it had in the end.
    """

    argv: Sequence[bytes]
    variables: Sequence[bytes]
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    end: str = "cancelled"
    exit_code: int | None = None
    trap: str = ""
    memory: int = 0

    def print(self, output: bytes) -> None:
        """Take what it wrote to stdout."""
        self.stdout += output[: _KEPT - len(self.stdout)]

    def tee(self, write: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """Take what it writes to stderr, too."""

        def both(output: bytes) -> None:
            self.stderr += output[: _KEPT - len(self.stderr)]
            write(output)

        return both

    def finish(self, outcome: Outcome | None, memory: int) -> None:
        """Take how it has ended, unless it was cancelled."""
        self.memory = memory
        match outcome:
            case Trap(message):
                self.end, self.trap = "trap", message
            case Exit(status):
                self.end, self.exit_code = f"exit {status}", status
            case Returned():
                self.end, self.exit_code = "returned", 0


@dataclass(slots=True)
class Exchange:
    """What the logs say of a request.

    Attributes: ``headers`` of the request, of which the access log takes two; ``received`` in
    seconds since the epoch; ``started`` in seconds of ``time.perf_counter``; ``sent`` body bytes of
    the response; ``cpu_seconds`` of the guest; ``guest`` what it saw and did, if that is recorded.
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
    sent: int = 0
    cpu_seconds: float = 0.0
    guest: GuestRecord | None = None
    received: float = field(default_factory=time.time)
    started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.perf_counter() - self.started


def describe(exchange: Exchange, guest: GuestRecord) -> list[tuple[str, str]]:
    """What a guest saw and did, for its developer: lines of a label and what it says, one after
    the other, fit for a terminal.
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
