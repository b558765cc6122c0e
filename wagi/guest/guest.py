"""One guest: a fresh instance that runs until it ends, suspended whenever it has to wait.

The caller runs ``step`` until it returns True. Between two steps ``wait`` has the reason why the
guest is suspended, its output can be taken, and its input given.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from wagi.errors import WagiError
from wagi.guest.budget import Lease
from wagi.guest.handler import Handler
from wagi.guest.outcome import Exit, Outcome, Returned, Trap
from wagi.guest.wasi.context import WaitReason, WasiContext
from wagi.guest.wasi.http_session import HttpClient
from wagi.guest.wasi.streams import Stdin, Stdout


class GuestBugError(WagiError):
    """A host call failed because of a bug in the gateway; the cause is chained."""


class Guest:
    """A run of a handler.

    Attributes:
        stdin: Its input, to be fed.
        stdout: Its output, to be taken.
        wait: What it waits for, after a step that returned False.
        cpu_seconds: CPU time it has used so far.
        outcome: How it has ended; None while it has not.
    """

    def __init__(
        self,
        handler: Handler,
        argv: Sequence[bytes],
        environment: Sequence[bytes],
        stderr: Callable[[bytes], None],
        client: HttpClient | None = None,
        note: Callable[[str], None] = lambda text: None,
        lease: Lease | None = None,
    ) -> None:
        """Prepare a run; the first step begins it.

        Args:
            handler: What to run.
            argv: The arguments.
            environment: The variables, each as NAME=value.
            stderr: Is called with what the guest writes to its standard error.
            client: Sends its outbound requests; None if it may send none.
            note: Is called with what the log should say of them.
            lease: What it may take of the memory budget; the caller closes it. None if only the
                handler's own limit holds.

        Raises:
            EngineError: If a volume cannot be opened.
        """
        # The only reference from here to the instance: closing it frees everything.
        self._wasi = WasiContext(handler, argv, environment, stderr, client, note)
        self._store = self._wasi.store
        self._ticker = handler.ticker
        self._calls = iter(handler.spec.calls)
        self.stdin: Stdin = self._wasi.stdin
        self.stdout: Stdout = self._wasi.stdout
        self.wait: WaitReason = self._wasi.wait
        self.output_buffer = handler.spec.limits.output_buffer
        self.memory_limit = handler.spec.limits.memory
        self._lease = lease
        self.cpu_seconds = 0.0
        self._is_new = True
        self.outcome: Outcome | None = None
        self._store.instantiate()

    def step(self) -> bool:
        """Run until the guest ends (True), or suspends (False) after at most about a slice.

        Raises: GuestBugError if a host call failed because of a bug in the gateway.
        """
        self.wait.clear()
        if self._lease is not None:
            self._store.limit_memory(self._lease.grow_limit())
        self._ticker.enter()
        # Most guests end in their first slice: for that the wall clock will do, which is read
        # without a system call.
        clock = time.monotonic if self._is_new else time.thread_time
        self._is_new = False
        started = clock()
        try:
            while (outcome := self._store.poll()) is not None:
                if self._store.failure is not None:
                    raise GuestBugError("a host call failed") from self._store.failure
                export = next(self._calls, None)
                if export is None or not isinstance(outcome, Returned):
                    self.outcome = outcome
                    return True
                self._store.call(export)
            return False
        finally:
            self.cpu_seconds += clock() - started
            self._ticker.leave()
            if self._lease is not None:
                self._lease.settle(self._store.memory_size)

    @property
    def memory_size(self) -> int:
        """Bytes of its memory, of the one that it exports."""
        return self._store.memory_size or 0

    def close(self) -> None:
        """Free the instance; one that has not ended is cancelled, with its requests. Once."""
        self._wasi.close()


def run_to_end(handler: Handler, timeout: float, stderr: Callable[[bytes], None]) -> bytes:
    """Run a handler outside of any request, with nothing but stdout, as ``_routes`` is.

    Args:
        handler: What to run.
        timeout: How long it may take, in seconds.
        stderr: Is called with what it writes to its standard error.

    Returns:
        Its output.

    Raises:
        WagiError: If it traps, exits with a failure, prints more than 1 MiB or takes too long.
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
            if guest.wait.wake_at is not None:
                time.sleep(max(0.0, min(guest.wait.wake_at, deadline) - time.monotonic()))
    finally:
        guest.close()
    match guest.outcome:
        case Trap(message):
            raise WagiError(message)
        case Exit(status) if status:
            raise WagiError(f"it exited with status {status}")
    return bytes(output)
