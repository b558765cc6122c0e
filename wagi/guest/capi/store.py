"""Stores: each runs one instance, from start to end."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, c_uint8, c_uint32, c_uint64, c_void_p, cast
from time import monotonic, thread_time
from typing import Any

import wasmtime
from wasmtime import _bindings as c

from wagi.guest.budget import NO_LIMIT
from wagi.guest.capi import api
from wagi.guest.capi.allocator import Allocator
from wagi.guest.capi.call_values import CallArguments, CallValues
from wagi.guest.capi.callbacks import VALUE_AT
from wagi.guest.capi.linker import Waiting
from wagi.guest.capi.store_config import EXTRA_TICKS, StoreConfig
from wagi.guest.capi.store_fields import (
    ERROR,
    EXTERN_FUNC,
    EXTERN_MEMORY,
    FUNCTION,
    MEMORY,
    OF,
    TRAP,
    StoreFields,
)
from wagi.guest.errno import EFAULT, GuestExit, GuestFault, GuestTrap, NoMemoryFault, errno_of
from wagi.guest.outcome import EngineError, Exit, Outcome, Returned, Trap
from wagi.guest.scheduler import SLICE, SLICE_TICKS
from wagi.guest.streams import Input, Output, Stdin, Stdout

_STRAIGHT_LINE_SECONDS = 0.1
"""CPU time, in seconds, that a guest may use after its slice without reaching a point at which it
can be suspended. Loops and function entries are such points; a long straight line of host calls
has none."""
RETURNED, FAILED = Returned(), Exit(1)
_CONTINUE, _YIELD = 0, 1  # wasmtime_update_deadline_kind_t

MakeGuest = Callable[["Store"], Any]
"""Makes the first argument of a store's host calls in Python."""


class Store:
    """One instance in a store of its own, with its standard streams. Its owner closes it.

    Attributes:
        arguments: The guest's arguments, each terminated by a NUL.
        environment: The guest's variables, each as NAME=value and terminated by a NUL.
        failure: An exception that a host call raised: a bug of the gateway, not of the guest.
        caller: The instance that makes the current host call.
        memory_is_current: Whether the memory's size has been looked up in this host call.
        is_allocating: Whether the current host call is calling the guest's allocator.
        allocator_number: Which of the guest's allocators the current host call uses.
        slice_end: When the guest has to yield, in seconds of ``time.monotonic``. Host calls look at
            it themselves: the ticker needs the GIL, and starves beside a guest that calls the host
            in a loop.
        started_at: When it was opened, in seconds of ``time.monotonic``.
    """

    slice_end: float
    started_at: float

    # Initial values, on the class because most stores of the compiled core never change them
    # Per instance
    _guest: Any = None
    failure: BaseException | None = None
    _exit_status: int | None = None
    # Per poll
    _overran_at: float | None = None
    # Per host call
    caller = 0
    _has_memory = False
    _memory = memoryview(b"")
    _memory_address = 0
    memory_is_current = False
    is_allocating = False
    allocator_number = 0
    _allocators: dict[int, Allocator] | None = None
    _waiting: Waiting | None = None

    def __init__(
        self, config: StoreConfig, arguments: bytes, environment: bytes, make_guest: MakeGuest
    ) -> None:
        """Create a store; use ``compiled.open_store``."""
        # Shared by all stores of the handler
        self._config = config
        self._engine = config.pre.engine
        # Per instance
        self.arguments = arguments
        self.environment = environment
        self._make_guest: MakeGuest | None = make_guest
        self._begin()

    def _begin(self) -> None:
        """Open the store and start the instantiation."""
        config = self._config
        pre = config.pre
        self.started_at = monotonic()
        self._stdin = Stdin()
        self._stdout = Stdout(config.output_limit)
        self._exports = list(reversed(config.exports))
        self._values = CallValues()
        self._fields = StoreFields()
        self._at = at = ctypes.addressof(self._fields)
        self._number = self._engine.new_number()
        self._engine.add(self._number, self)
        self._store: int | None = api.store_new(self._engine.address, self._number, None)
        self._context = api.store_context(self._store)
        self._is_instantiated = False
        self._allowed_memory = -1
        self._limit_memory(config.limits.memory)
        if config.canonical.allocators:
            api.on_deadline(self._store, pre.on_deadline, None, None)
        else:
            api.yield_at_deadline(self._context, SLICE_TICKS)
        if pre.needs_wasi:  # wasmtime's WASI aborts the process in a store without a context
            api.set_wasi(self._context, api.wasi_new())
        self.slice_end = 0.0
        arguments = pre.address, self._context, at, at + TRAP, at + ERROR
        self._future: int | None = api.instantiate(*arguments)

    @property
    def guest(self) -> Any:
        """The first argument of host calls in Python, made at the first use."""
        if self._guest is None and self._make_guest is not None:
            self._guest = self._make_guest(self)
        return self._guest

    def _limit_memory(self, size: int) -> None:
        limits = self._config.limits
        size = min(size, limits.memory)
        if size != self._allowed_memory:
            self._allowed_memory = size
            api.store_limiter(self._store, size, limits.elements, 1, limits.tables, limits.memories)

    def streams(self) -> tuple[Input, Output]:
        """Return the guest's standard input and output for host calls in Python."""
        return self._stdin, self._stdout

    def feed(self, data: bytes) -> None:
        """Append input.

        Args:
            data: Bytes that the guest reads after the input it has not read yet.
        """
        self._stdin.feed(data)

    def end_input(self) -> None:
        """Mark the end of the input."""
        self._stdin.end()

    def take_output(self) -> bytes:
        """Remove and return the buffered output."""
        return self._stdout.take()

    def release_stream(self, number: int) -> None:
        """Note that a descriptor no longer refers to its standard stream.

        Args:
            number: The descriptor: 0, 1 or 2.
        """

    def poll(self, memory_limit: int = NO_LIMIT) -> Outcome | None:
        """Run the guest, from instantiation through all exports, for at most about a slice.

        Args:
            memory_limit: Bytes to which each memory may grow; the handler's limit also applies.

        Returns:
            How the guest has ended, or None if it is suspended.

        Raises:
            EngineError: If an export to call does not exist.
        """
        self._limit_memory(memory_limit)
        ticker = self._engine.ticker
        if ticker is not None:
            ticker.begin_poll()
        try:
            # The epoch may have advanced while the guest was suspended: restart the slice.
            api.set_deadline(self._context, SLICE_TICKS)
            self.slice_end = monotonic() + SLICE
            self._fields.extra_ticks = EXTRA_TICKS
            self._overran_at = None
            while api.poll(self._future):
                api.future_delete(self._future)
                self._future = None
                outcome = self._take_outcome()
                if self.failure is not None or outcome is not RETURNED:
                    return outcome
                if not self._exports:
                    return FAILED if self._values.result else outcome
                self._call(self._exports.pop())
            return None
        finally:
            if ticker is not None:
                ticker.end_poll()

    def _call(self, export: bytes) -> None:
        """Start a call of an exported function."""
        at = self._at
        self._is_instantiated = True
        found = api.instance_export(self._context, at, export, len(export), at + FUNCTION)
        if not found or self._fields.function.kind != EXTERN_FUNC:
            raise no_export(export)
        function = at + FUNCTION + OF
        values: CallArguments = (None, 0, None, 0)
        if not self._exports:  # the last one
            values = self._values.prepare(self._config.canonical)
        self._future = api.call(self._context, function, *values, at + TRAP, at + ERROR)

    def _take_outcome(self) -> Outcome:
        fields = self._fields
        trap, error = fields.trap, fields.error
        fields.trap = fields.error = None
        cause: Any = None  # owns the trap or the error
        if trap:
            cause = wasmtime.Trap._from_ptr(cast(trap, POINTER(c.wasm_trap_t)))
        elif error:
            cause = wasmtime.WasmtimeError._from_ptr(cast(error, POINTER(c.wasmtime_error_t)))
        if self._exit_status is not None:
            return Exit(self._exit_status)
        return RETURNED if cause is None else Trap.parse(str(cause))

    def memory(self) -> memoryview:
        """Return a view of the guest's whole memory at its current size.

        The memory grows only while the guest runs, so its size is looked up once per host call.

        Raises:
            NoMemoryFault: If the guest exports no memory.
        """
        if self.memory_is_current:
            return self._memory
        at = self._at + MEMORY
        if not self._has_memory:
            if self._fields.memory.kind != EXTERN_MEMORY:  # the core may have looked it up
                assert self.caller, "a host call has to use the memory before it waits"
                found = api.caller_export(self.caller, b"memory", 6, at)
                if not found or self._fields.memory.kind != EXTERN_MEMORY:
                    raise NoMemoryFault
            self._has_memory = True
        size = api.memory_size(self._context, at + OF)
        if size != len(self._memory):  # a memory never shrinks, and moves only when it grows
            self._memory_address = api.memory_data(self._context, at + OF)
            self._memory = api.view(self._memory_address, size, api.WRITABLE)
        self.memory_is_current = True
        return self._memory

    @property
    def memory_size(self) -> int | None:
        """Size of the exported memory in bytes, 0 without one; None before instantiation ends."""
        at = self._at + MEMORY
        if not self._has_memory:
            if not self._is_instantiated:
                return None
            found = api.instance_export(self._context, self._at, b"memory", 6, at)
            if not found or self._fields.memory.kind != EXTERN_MEMORY:
                return 0
            self._has_memory = True
        return int(api.memory_size(self._context, at + OF))

    def close(self) -> None:
        """Free everything; a running guest is cancelled. Idempotent."""
        # These refer back to the store. Clearing them frees the cycle without the collector.
        self._guest = self._make_guest = self._allocators = None
        if self._waiting is not None:
            self._waiting.close()
            self._waiting = None
        self._free()

    def _free(self) -> None:
        if self._future is not None:
            api.future_delete(self._future)
            self._future = None
            self._take_outcome()
        if self._store is not None:
            self._memory = memoryview(b"")
            self._has_memory = self._is_instantiated = self.memory_is_current = False
            api.store_delete(self._store)
            self._store = None
            self._engine.remove(self._number, self._memory_address)

    # Called by the linker's callbacks

    def trap(self, error: BaseException) -> int:
        """Create the trap with which a host call ends the guest.

        Args:
            error: The exception that the host call has raised.

        Returns:
            The address of the trap; wasmtime takes ownership.
        """
        message = b"the host call failed"
        if isinstance(error, GuestExit):
            self._exit_status = error.status
        elif isinstance(error, GuestTrap):
            message = str(error).encode()
        else:
            self.failure = error
        return int(api.trap_new(message, len(message)))

    @property
    def context(self) -> int:
        """The address of the context that functions of the C API take."""
        return self._context

    @property
    def allocator(self) -> Allocator:
        """The allocator for the strings and lists that the current host call returns.

        Raises:
            GuestTrap: The guest has none.
        """
        number = self.allocator_number
        if self._allocators is None:
            self._allocators = {}
        if number not in self._allocators:
            exports = self._config.canonical.allocators
            if number >= len(exports):
                raise GuestTrap("it has no allocator for the result of a host call")
            self._allocators[number] = Allocator(self, exports[number], has_place=number == 0)
        return self._allocators[number]

    def mark_allocating(self, allocates: bool) -> None:
        """Note whether the guest's allocator is running in a host call."""
        self.is_allocating = allocates
        self._fields.is_allocating = allocates

    def at_deadline(self, delta_at: int, kind_at: int) -> int | None:
        """Decide what happens at the end of the slice of a guest with an allocator.

        The guest is suspended, except while a host call is calling its allocator: the frames of
        Python are on its stack then.

        Args:
            delta_at: The address of the ticks to the next deadline, from when the guest continues.
            kind_at: The address of the decision (``wasmtime_update_deadline_kind_t``).

        Returns:
            None, or the address of an error if the allocator takes too long.
        """
        ticks, kind = c_uint64.from_address(delta_at), c_uint8.from_address(kind_at)
        ticks.value, kind.value = SLICE_TICKS, _YIELD
        if not self.is_allocating:
            return None
        if not self._fields.extra_ticks:
            return int(api.error_new(b"the allocator of the guest takes too long"))
        self._fields.extra_ticks -= 1
        self.slice_end = 0.0
        ticks.value, kind.value = 1, _CONTINUE
        return None

    def trap_reentrance(self) -> int:
        """Create the trap for an allocator that calls the host (``may_leave``, canonical ABI)."""
        return self.trap(GuestTrap("its allocator calls the host"))

    def overrun(self) -> int | None:
        """Make a guest whose slice is over yield at the next loop or function entry.

        Compiled code keeps the deadline in a register until the epoch passes it, so lowering the
        deadline is not enough: the epoch has to advance by a whole slice.

        Returns:
            None, or the address of a trap if the guest has not reached such a point for too long.
        """
        now = thread_time()
        if self._overran_at is None:
            self._overran_at = now
        elif now - self._overran_at > _STRAIGHT_LINE_SECONDS:
            return self.trap(GuestTrap("too many host calls without a loop or a function call"))
        api.set_deadline(self._context, 0)
        for _ in range(SLICE_TICKS):
            self._engine.increment_epoch()
        return None

    def wait_for(self, waiting: Waiting, result_at: int, trap_at: int) -> None:
        """Suspend the guest in its host call until the generator returns.

        Args:
            waiting: The rest of the host call.
            result_at: The address of the call's result (``wasmtime_val_t``); 0 if it has none.
            trap_at: The address of the pointer to the call's trap.
        """
        self._waiting = waiting
        self._has_yielded = False
        self.caller = 0
        self._result_at, self._trap_at = result_at, trap_at

    def resume(self) -> bool:
        """Continue the suspended host call.

        Returns:
            Whether the call has completed.
        """
        assert self._waiting is not None
        if not self._has_yielded:  # wasmtime polls once before it suspends the guest
            self._has_yielded = True
            return False
        self.memory_is_current = False
        try:
            next(self._waiting)
            return False
        except StopIteration as end:
            errno = end.value
        except (GuestFault, OSError) as error:
            errno = errno_of(error)
        except BaseException as error:
            c_void_p.from_address(self._trap_at).value = self.trap(error)
            errno = EFAULT
        self._waiting = None
        if self._result_at:
            c_uint32.from_address(self._result_at + VALUE_AT).value = errno
        return True


def no_export(name: bytes) -> EngineError:
    """Make the error for an export that does not exist."""
    return EngineError(f"the module does not export the function {name.decode()!r}")
