"""One guest: a fresh instance that runs until it ends, suspended whenever it has to wait.

The caller runs ``step`` until it returns True. Between two steps ``wait`` has the reason why the
guest is suspended, its output can be taken, and its input given.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from wagi.errors import WagiError
from wagi.guest.budget import Lease
from wagi.guest.capi.compiled import open_store
from wagi.guest.capi.store import Store
from wagi.guest.handler import Handler
from wagi.guest.outcome import EngineError, Exit, Outcome, Trap
from wagi.guest.wasi.context import WaitReason, WasiContext
from wagi.guest.wasi.http_session import HttpClient


class GuestBugError(WagiError):
    """A host call failed because of a bug in the gateway; the cause is chained."""


class Guest:
    """A run of a handler.

    Attributes:
        cpu_seconds: CPU time it has used so far.
        outcome: How it has ended; None while it has not.
        output_buffer: Bytes of output that have not been taken at which it has to wait.
        memory_limit: Bytes of linear memory that it may have.
    """

    def __init__(
        self,
        handler: Handler,
        argv: bytes,
        environment: bytes,
        stderr: Callable[[bytes], None],
        client: HttpClient | None = None,
        note: Callable[[str], None] = lambda text: None,
        lease: Lease | None = None,
    ) -> None:
        """Prepare a run; the first step begins it.

        Args:
            handler: What to run.
            argv: The arguments, each ended by a NUL.
            environment: The variables, each as NAME=value and ended by a NUL.
            stderr: Is called with what the guest writes to its standard error.
            client: Sends its outbound requests; None if it may send none.
            note: Is called with what the log should say of them.
            lease: What it may take of the memory budget; the caller closes it. None if only the
                handler's own limit holds.

        Raises:
            EngineError: If a volume cannot be opened.
        """
        self._handler = handler
        self._stderr = stderr
        self._client = client
        self._note = note
        self._lease = lease
        self._wasi: WasiContext | None = None  # made when a host call first needs it
        self._is_new = True
        self.output_buffer = handler.spec.limits.output_buffer
        self.memory_limit = handler.spec.limits.memory_limit
        self.cpu_seconds = 0.0
        self.outcome: Outcome | None = None
        # The only reference from here to the instance: closing it frees everything.
        self._store = store = open_store(handler.plan, argv, environment, self._make_context)
        self.feed = store.feed
        self.end_input = store.end_input
        self.take_output = store.take_output
        if handler.spec.preopens:
            try:
                self._make_context(store)
            except EngineError:
                store.close()
                raise

    def _make_context(self, store: Store) -> WasiContext:
        if self._wasi is None:
            preopens = self._handler.spec.preopens
            self._wasi = WasiContext(store, preopens, self._stderr, self._client, self._note)
        return self._wasi

    @property
    def wait(self) -> WaitReason:
        """What it waits for, after a step that returned False."""
        return WaitReason() if self._wasi is None else self._wasi.wait

    def step(self) -> bool:
        """Run until the guest ends (True), or suspends (False) after at most about a slice.

        Raises: GuestBugError if a host call failed because of a bug in the gateway.
        """
        store, lease = self._store, self._lease
        if self._wasi is not None:
            self._wasi.wait.clear()
        if lease is not None:
            store.limit_memory(lease.grow_limit())
        # Most guests end in their first slice: for that the wall clock will do, which is read
        # without a system call.
        clock = time.perf_counter if self._is_new else time.thread_time
        self._is_new = False
        started = clock()
        try:
            self.outcome = store.poll()
            if store.failure is not None:
                raise GuestBugError("a host call failed") from store.failure
            return self.outcome is not None
        finally:
            self.cpu_seconds += clock() - started
            if lease is not None:
                lease.settle(store.memory_size)

    @property
    def memory_size(self) -> int:
        """Bytes of its memory, of the one that it exports."""
        return self._store.memory_size or 0

    def close(self) -> None:
        """Free the instance; one that has not ended is cancelled, with its requests. Once."""
        self._store.close()
        if self._wasi is not None:
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
    guest = Guest(handler, b"", b"", stderr)
    guest.end_input()
    deadline = time.monotonic() + timeout
    output = bytearray()
    try:
        ended = False
        while not ended:
            ended = guest.step()
            output += guest.take_output()
            if len(output) > 1024 * 1024:
                raise WagiError("the handler printed more than 1 MiB")
            if time.monotonic() > deadline:
                raise WagiError(f"the handler ran for more than {timeout:g} s")
            if guest.wait.wake_at is not None:
                time.sleep(max(0.0, min(guest.wait.wake_at, deadline) - time.monotonic()))
    finally:
        guest.close()
    match guest.outcome:
        case Trap(message):
            raise WagiError(message)
        case Exit(status) if status:
            raise WagiError(f"the handler exited with status {status}")
    return bytes(output)
