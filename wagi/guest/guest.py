"""A guest: a fresh instance that runs to its end and is suspended whenever it has to wait.

The caller calls ``step`` until it returns True. Between steps, ``wait`` has the reason for the
suspension, and the caller can take output and feed input.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from wagi.errors import WagiError
from wagi.guest.budget import NO_LIMIT, Lease
from wagi.guest.capi.compiled import open_store
from wagi.guest.capi.store import Store
from wagi.guest.handler import Handler
from wagi.guest.http_exchange import HttpExchange
from wagi.guest.outcome import EngineError, Exit, Outcome, Trap
from wagi.guest.preview2.context import ComponentContext
from wagi.guest.preview2.http_messages import begin_exchange
from wagi.guest.wasi.context import WaitReason, WasiContext
from wagi.guest.wasi.http_session import HttpClient


class GuestBugError(WagiError):
    """A host call failed because of a bug in the gateway; the cause is chained."""


class Guest:
    """One run of a handler.

    Attributes:
        cpu_seconds: CPU time used so far, in seconds.
        outcome: How the guest has ended; None before that.
    """

    cpu_seconds = 0.0
    outcome: Outcome | None = None
    _is_new = True
    _wasi: WasiContext | None = None  # made when a host call first needs it

    def __init__(
        self,
        handler: Handler,
        argv: bytes,
        environment: bytes,
        stderr: Callable[[bytes], None],
        client: HttpClient | None = None,
        note: Callable[[str], None] = lambda text: None,
        lease: Lease | None = None,
        exchange: HttpExchange | None = None,
    ) -> None:
        """Create a guest; the first step starts it.

        Args:
            handler: The handler to run.
            argv: The arguments, each terminated by a NUL.
            environment: The variables, each as NAME=value and terminated by a NUL.
            stderr: Callback that receives the bytes written to standard error.
            client: Sends outbound requests; None if they are not allowed.
            note: Callback that receives messages about outbound requests for the log.
            lease: The guest's lease of the memory budget, which the caller closes; None if only the
                handler's limit applies.
            exchange: The request that a handler of wasi:http gets; None for a command.

        Raises:
            EngineError: If a volume cannot be opened.
        """
        self._handler = handler
        self._stderr = stderr
        self._client = client
        self._note = note
        self._lease = lease
        self._exchange = exchange
        # The only reference to the instance, so closing the store frees everything.
        self._store = open_store(handler.store_config, argv, environment, self._make_context)
        if handler.spec.preopens or exchange is not None:
            try:
                self._make_context(self._store)
            except EngineError:
                self._store.close()
                raise

    def _make_context(self, store: Store) -> WasiContext:
        if self._wasi is None:
            spec = self._handler.spec
            values = store, spec.preopens, self._stderr, self._client, self._note
            if spec.world:
                self._wasi = context = ComponentContext(*values, self._exchange)
                if self._exchange is not None:
                    begin_exchange(context, self._exchange)
            else:
                self._wasi = WasiContext(*values)
        return self._wasi

    @property
    def output_buffer(self) -> int:
        """Maximum size of the buffered output, in bytes."""
        return self._handler.spec.limits.output_buffer

    @property
    def memory_limit(self) -> int:
        """Maximum linear memory, in bytes."""
        return self._handler.spec.limits.memory_limit

    def feed(self, data: bytes) -> None:
        """Append input.

        Args:
            data: Bytes that the guest reads after the input it has not read yet.
        """
        self._store.feed(data)

    def end_input(self) -> None:
        """Mark the end of the input."""
        self._store.end_input()

    def take_output(self) -> bytes:
        """Remove and return the buffered output."""
        return self._store.take_output()

    @property
    def wait(self) -> WaitReason:
        """What the guest waits for, after a step that returned False."""
        return WaitReason() if self._wasi is None else self._wasi.wait

    def step(self) -> bool:
        """Run the guest until it ends or suspends, for at most about a slice.

        Returns:
            True if the guest has ended, False if it is suspended.

        Raises:
            GuestBugError: If a host call failed because of a bug in the gateway.
            EngineError: If an export to call does not exist.
        """
        store, lease = self._store, self._lease
        if self._wasi is not None:
            self._wasi.wait.clear()
        memory_limit = NO_LIMIT if lease is None else lease.grow_limit()
        # Most guests end in their first slice, for which the wall clock is accurate enough; unlike
        # the CPU clock it is read without a system call.
        clock = time.perf_counter if self._is_new else time.thread_time
        self._is_new = False
        started = clock()
        try:
            self.outcome = store.poll(memory_limit)
            if store.failure is not None:
                raise GuestBugError("a host call failed") from store.failure
            return self.outcome is not None
        finally:
            self.cpu_seconds += clock() - started
            if lease is not None:
                lease.settle(store.memory_size)

    @property
    def memory_size(self) -> int:
        """Size of the exported memory, in bytes."""
        return self._store.memory_size or 0

    def close(self) -> None:
        """Free the instance. Cancels a running guest and its requests. Must be called once."""
        self._store.close()
        if self._wasi is not None:
            self._wasi.close()


def run_to_end(handler: Handler, timeout: float, stderr: Callable[[bytes], None]) -> bytes:
    """Run a handler outside of a request, such as ``_routes``, without input and environment.

    Args:
        handler: The handler to run.
        timeout: Maximum wall-clock time, in seconds.
        stderr: Callback that receives the bytes written to standard error.

    Returns:
        The output.

    Raises:
        WagiError: If the guest traps, exits with a non-zero status, prints more than 1 MiB or runs
            for too long.
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
        case Trap() as trap:
            raise WagiError(f"trap: {trap}")
        case Exit(status) if status:
            raise WagiError(f"the handler exited with status {status}")
    return bytes(output)
