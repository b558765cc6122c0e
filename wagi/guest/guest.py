"""One guest: a fresh instance that runs until it ends, suspended whenever it has to wait.

Who runs it calls ``step`` until it returns True. In between it says what it waits for, its output
can be taken, and its input given.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from wagi.errors import WagiError
from wagi.guest.ends import Exit, Trap
from wagi.guest.engine import Handler
from wagi.guest.files import Files
from wagi.guest.memory import GuestMemory
from wagi.guest.outbound import Client, Outbound
from wagi.guest.run import Run
from wagi.guest.streams import Stdin, Stdout


class GuestBugError(WagiError):
    """A host call failed for a reason of the gateway's own; the cause is chained."""


@dataclass(slots=True)
class Need:
    """What a suspended guest waits for: input, a time, whichever is first; the end of an outbound
    request's ``future``; or (none of them) its turn.

    Attributes: ``wake_at`` in seconds of ``time.monotonic``.
    """

    input: bool = False
    wake_at: float | None = None
    future: asyncio.Future[Any] | None = None


class Guest:
    """A run of a handler.

    Attributes: ``stdin`` to feed; ``stdout`` to take; ``need`` after a step that returned False;
    ``cpu_seconds`` it has used so far; ``ended`` whether it has, and ``end`` how: an Exit, a Trap,
    or None for a return.
    """

    def __init__(
        self,
        handler: Handler,
        argv: Sequence[bytes],
        environment: Sequence[bytes],
        stderr: Callable[[bytes], None],
        client: Client | None = None,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Parameters: ``environment`` as NAME=value; ``stderr`` gets what the guest writes there;
        ``client`` sends its outbound requests, ``note`` takes what the log should say of them.

        Raises: EngineError if no instance can be made.
        """
        self.argv = argv
        self.environment = environment
        self.stderr = stderr
        self._client = client
        self._note = note
        self.stdin = Stdin()
        self.stdout = Stdout()
        self.closed: set[int] = set()
        self.need = Need()
        self.cpu_seconds = 0.0
        self.ended = False
        self.end: Exit | Trap | None = None
        self.monotonic_origin = time.monotonic()
        blueprint = handler.blueprint
        self.output_buffer = blueprint.limits.output_buffer
        self.memory_limit = blueprint.limits.memory
        self._kit = handler.kit
        self._ticker = handler.kit.ticker
        self._calls = iter(blueprint.calls)
        self._run = Run(handler.prepared, self, blueprint.caps, blueprint.preopens)
        self.memory = GuestMemory(self._run)
        self._run.instantiate()

    def step(self) -> bool:
        """Run until the guest ends (True), or suspends (False) after at most about a tick.

        Raises: GuestBugError if a host call failed for a reason of ours.
        """
        need = self.need
        need.input, need.wake_at, need.future = False, None, None
        self._ticker.enter()
        started = time.thread_time()
        try:
            while self._run.poll():
                if self._run.failure is not None:
                    raise GuestBugError("a host call failed") from self._run.failure
                self.end = self._run.take_end()
                export = next(self._calls, None)
                if self.end is not None or export is None:
                    self.ended = True
                    return True
                self._run.call(export)
            return False
        finally:
            self.cpu_seconds += time.thread_time() - started
            self._ticker.leave()

    @property
    def is_busy(self) -> bool:
        """Whether a suspended guest waits for nothing but its turn."""
        need = self.need
        return not need.input and need.wake_at is None and need.future is None

    @property
    def memory_size(self) -> int:
        """Bytes of its memory, as far as host calls have seen it."""
        return max(0, self._run.size)

    def close(self) -> None:
        """Free the instance; one that has not ended is cancelled, with its requests. Once."""
        if "outbound" in self.__dict__:
            self.outbound.close()
        self._run.close()

    @cached_property
    def files(self) -> Files:
        """The guest's files, for host calls."""
        return Files(self._kit.file_calls, self._run)

    @cached_property
    def outbound(self) -> Outbound:
        """The guest's requests to other servers, for host calls."""
        return Outbound(self._client, self._note)

    def suspend(self) -> None:
        """For host calls: make the guest suspend soon."""
        self._run.yield_soon()

    def wait_for_input(self) -> None:
        """For host calls: the guest cannot go on without input."""
        self.need.input = True

    def wait_for(self, future: asyncio.Future[Any]) -> None:
        """For host calls: the guest cannot go on before something of the event loop has ended."""
        self.need.future = future

    def wait_until(self, wake_at: float | None) -> None:
        """For host calls: the guest cannot go on before a time."""
        self.need.wake_at = wake_at


def run_to_end(handler: Handler, timeout: float, stderr: Callable[[bytes], None]) -> bytes:
    """Run a handler outside of any request, with nothing but stdout (contract §3, ``_routes``).

    Parameters: ``timeout`` in seconds. Returns: its output.
    Raises: WagiError if it traps, exits with a failure, prints more than 1 MiB or takes too long.
    """
    guest = Guest(handler, (), (), stderr)
    guest.stdin.end()
    deadline = time.monotonic() + timeout
    output = bytearray()
    try:
        ended = False
        while not ended:
            ended = guest.step()
            output += guest.stdout.take()
            if len(output) > 1024 * 1024:
                raise WagiError("it printed more than 1 MiB")
            if time.monotonic() > deadline:
                raise WagiError(f"it ran for more than {timeout:g} seconds")
            if guest.need.wake_at is not None:
                time.sleep(max(0.0, min(guest.need.wake_at, deadline) - time.monotonic()))
    finally:
        guest.close()
    match guest.end:
        case Trap(message):
            raise WagiError(message)
        case Exit(status) if status:
            raise WagiError(f"it exited with status {status}")
    return bytes(output)
