"""Stores: one instance each, from its start to its end."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from ctypes import (
    POINTER,
    c_double,
    c_int32,
    c_uint8,
    c_uint32,
    c_void_p,
    cast,
)
from dataclasses import dataclass
from time import monotonic, thread_time
from typing import Any, Protocol

import wasmtime
from wasmtime import _bindings as c
from wasmtime import _ffi as ffi

from wagi.guest.capi import api
from wagi.guest.capi.linker import VALUE_AT, InstancePre, Waiting
from wagi.guest.errno import EFAULT, GuestExit, GuestFault, GuestTrap, NoMemoryFault, errno_of
from wagi.guest.outcome import EngineError, Exit, Outcome, Returned, Trap
from wagi.guest.scheduler import SLICE, SLICE_TICKS
from wagi.guest.streams import Stdin, Stdout

_MAX_MESSAGE = 8 * 1024
_STRAIGHT_LINE_SECONDS = 0.1
"""CPU time that a guest may use after its slice without reaching a point at which it can be
suspended. Each loop and each function entry is one; only a long row of host calls has none."""


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """What a store allows (wasmtime's StoreLimits).

    Attributes:
        memory: Bytes of each linear memory.
        elements: Elements of each table.
        memories: How many memories there may be.
        tables: How many tables there may be.
    """

    memory: int
    elements: int
    memories: int
    tables: int


class Input(Protocol):
    """What host calls read from."""

    @property
    def readable(self) -> bool:
        """Whether a read would return at once: with bytes, or with the end of file."""

    def take(self, length: int) -> bytes:
        """At most ``length`` bytes; empty at the end of file."""


class Output(Protocol):
    """What host calls write to."""

    @property
    def room(self) -> int:
        """Bytes that may still be written; without any the guest has to wait."""

    def write(self, data: bytes) -> None:
        """Add output, not more than there is room for."""


class Slots(ctypes.Structure):
    """What the C API writes to during the life of an instance; store.h has the same layout."""

    _fields_ = (
        ("instance", ffi.wasmtime_instance_t),
        ("function", ffi.wasmtime_extern_t),
        ("memory", ffi.wasmtime_extern_t),
        ("trap", c_void_p),
        ("error", c_void_p),
        ("slice_end", c_double),
        ("started_at", c_double),
        ("exit_status", c_int32),
        ("has_exited", c_uint8),
        ("streams", c_uint8),
        ("context", c_void_p),
    )


_TRAP, _ERROR = Slots.trap.offset, Slots.error.offset
_FUNCTION, _MEMORY = Slots.function.offset, Slots.memory.offset
_OF = ffi.wasmtime_extern_t.of.offset
_EXTERN_FUNC = ffi.WASMTIME_EXTERN_FUNC.value
_EXTERN_MEMORY = ffi.WASMTIME_EXTERN_MEMORY.value
_RETURNED = Returned()


@dataclass(frozen=True, slots=True)
class ImagePlace:
    """Where an image belongs in a linear memory, in bytes.

    Attributes:
        key: The key of its artefact.
        offset: Where it begins.
        size: Its size.
        memory_size: The initial size of the memory.
    """

    key: str
    offset: int
    size: int
    memory_size: int


class Image:
    """The data of a module, which the core maps into the memory of its guests.

    Attributes:
        place: Where it belongs.
        address: Of the core's image.
    """

    def __init__(self, data: bytes, place: ImagePlace) -> None:
        """Make an image.

        Args:
            data: Its bytes, whole pages of WebAssembly.
            place: Where it belongs.

        Raises:
            EngineError: The data is not that of the place, or there is no memory for it.
        """
        if len(data) != place.size:
            raise EngineError(
                f"the data of a compiled module has {len(data)} bytes, expected {place.size}:"
                " remove the folder of artefacts, and start again"
            )
        try:
            self.address: int = api.core.image_new(data, place.offset, place.memory_size)
        except MemoryError:
            raise EngineError("not enough memory for the data of a module") from None
        self.place = place
        weakref.finalize(self, api.core.image_delete, self.address).atexit = False


class StorePlan:
    """What the stores of all guests of a handler have in common.

    Attributes:
        pre: The module with its imports resolved.
        exports: The exports to call, in order.
        limits: What a store allows.
        output_limit: Bytes of output that have not been taken at which a guest has to wait.
    """

    def __init__(
        self,
        pre: InstancePre,
        exports: tuple[bytes, ...],
        limits: StoreLimits,
        output_limit: int = 0,
        has_preopens: bool = False,
        image: Image | None = None,
    ) -> None:
        """Prepare stores.

        Args:
            pre: The module with its imports resolved.
            exports: The exports to call, in order.
            limits: What a store allows.
            output_limit: Bytes of output that have not been taken at which a guest has to wait.
            has_preopens: Whether guests have preopened directories.
            image: The data that is mapped into the memory of guests.
        """
        self.pre = pre
        self.exports = exports
        self.limits = limits
        self.output_limit = output_limit
        compiled = pre.engine.core
        if compiled is not None:
            self._image = image  # as long as guests may need it
            self._block = b"".join(name + b"\0" for name in exports)
            self.address = compiled.plan_new(
                pre.engine.address,
                pre.address,
                image.address if image is not None else 0,
                self._block,
                limits.memory,
                limits.elements,
                limits.tables,
                limits.memories,
                output_limit,
                SLICE,
                SLICE_TICKS,
                pre.needs_wasi,
                has_preopens,
            )
            weakref.finalize(self, compiled.plan_delete, self.address).atexit = False


MakeGuest = Callable[["Store"], Any]
"""Makes what the host calls of a store get as their first argument."""


class Store:
    """One instance in a store of its own, with its standard streams. The owner closes it.

    Attributes:
        arguments: The guest's, each ended by a NUL.
        environment: Its variables, each as NAME=value and ended by a NUL.
        failure: An exception that a host call raised: a bug of the gateway, not of the guest.
        caller: The instance that makes the current host call.
        memory_is_current: Whether the memory's size has been looked up in this host call.
        slice_end: When the guest has to yield, in seconds of ``time.monotonic``. Host calls look at
            it themselves: the ticker needs the GIL, and starves beside a guest that calls the host
            in a loop.
        started_at: When it was opened, in seconds of ``time.monotonic``.
    """

    slice_end: float
    started_at: float

    def __init__(
        self, plan: StorePlan, arguments: bytes, environment: bytes, make_guest: MakeGuest
    ) -> None:
        """Made by ``compiled.open_store``."""
        # Shared by all stores of the handler
        self._plan = plan
        self._engine = plan.pre.engine
        # For the life of the instance
        self.arguments = arguments
        self.environment = environment
        self._make_guest: MakeGuest | None = make_guest
        self._guest: Any = None
        self.failure: BaseException | None = None
        self._exit_status: int | None = None
        # For a poll
        self._overran_at: float | None = None
        # For a host call
        self.caller = 0
        self._has_memory = False
        self._memory = memoryview(b"")
        self._memory_address = 0
        self.memory_is_current = False
        self._waiting: Waiting | None = None
        self._begin()

    def _begin(self) -> None:
        """Open the store, and begin to make the instance."""
        plan = self._plan
        pre = plan.pre
        self.started_at = monotonic()
        self._stdin = Stdin()
        self._stdout = Stdout(plan.output_limit)
        self._exports = iter(plan.exports)
        self._slots = Slots()
        self._at = at = ctypes.addressof(self._slots)
        self._number = self._engine.new_number()
        self._engine.add(self._number, self)
        self._store: int | None = api.store_new(self._engine.address, self._number, None)
        self._context = api.store_context(self._store)
        self._is_instantiated = False
        self._allowed_memory = -1
        self.limit_memory(plan.limits.memory)
        api.yield_at_deadline(self._context, SLICE_TICKS)
        if pre.needs_wasi:  # a WASI call in a store without this aborts the whole process
            api.set_wasi(self._context, api.wasi_new())
        self.slice_end = 0.0
        arguments = pre.address, self._context, at, at + _TRAP, at + _ERROR
        self._future: int | None = api.instantiate(*arguments)

    @property
    def guest(self) -> Any:
        """What host calls get as their first argument."""
        if self._guest is None and self._make_guest is not None:
            self._guest = self._make_guest(self)
        return self._guest

    def limit_memory(self, size: int) -> None:
        """Set to how many bytes each memory may grow from now on, within the handler's limit."""
        limits = self._plan.limits
        size = min(size, limits.memory)
        if size != self._allowed_memory:
            self._allowed_memory = size
            api.store_limiter(self._store, size, limits.elements, 1, limits.tables, limits.memories)

    def streams(self) -> tuple[Input, Output]:
        """The guest's standard input and output, as host calls in Python see them."""
        return self._stdin, self._stdout

    def feed(self, data: bytes) -> None:
        """Add input."""
        self._stdin.feed(data)

    def end_input(self) -> None:
        """No more input will come."""
        self._stdin.end()

    def take_output(self) -> bytes:
        """All output so far, once."""
        return self._stdout.take()

    def lose_stream(self, number: int) -> None:
        """A descriptor is no longer the standard stream of that number."""

    def poll(self) -> Outcome | None:
        """Make the instance and call the exports, for at most about a slice.

        Returns: How the guest has ended, or None if it is suspended.
        """
        ticker = self._engine.ticker
        if ticker is not None:
            ticker.enter()
        try:
            # Whatever the epoch did while this guest was not running: it has a whole slice now.
            api.set_deadline(self._context, SLICE_TICKS)
            self.slice_end = monotonic() + SLICE
            self._overran_at = None
            while api.poll(self._future):
                api.future_delete(self._future)
                self._future = None
                outcome = self._take_outcome()
                export = next(self._exports, None)
                if export is None or self.failure is not None or outcome is not _RETURNED:
                    return outcome
                self._call(export)
            return None
        finally:
            if ticker is not None:
                ticker.leave()

    def _call(self, export: bytes) -> None:
        """Begin to call an exported function, which takes and returns nothing."""
        at = self._at
        self._is_instantiated = True
        found = api.instance_export(self._context, at, export, len(export), at + _FUNCTION)
        if not found or self._slots.function.kind != _EXTERN_FUNC:
            raise no_export(export)
        function = at + _FUNCTION + _OF
        self._future = api.call(self._context, function, None, 0, None, 0, at + _TRAP, at + _ERROR)

    def _take_outcome(self) -> Outcome:
        slots = self._slots
        trap, error = slots.trap, slots.error
        slots.trap = slots.error = None
        outcome: Outcome = _RETURNED
        if trap:
            cause: Any = wasmtime.Trap._from_ptr(cast(trap, POINTER(c.wasm_trap_t)))
            outcome = Trap(str(cause)[:_MAX_MESSAGE])  # with names that are the guest's
        elif error:
            cause = wasmtime.WasmtimeError._from_ptr(cast(error, POINTER(c.wasmtime_error_t)))
            outcome = Trap(str(cause)[:_MAX_MESSAGE])
        return outcome if self._exit_status is None else Exit(self._exit_status)

    def memory(self) -> memoryview:
        """The guest's whole memory as it is now.

        It may grow whenever the guest runs, and only then: its size is looked up once in each host
        call. Raises: NoMemoryFault if the guest exports none.
        """
        if self.memory_is_current:
            return self._memory
        at = self._at + _MEMORY
        if not self._has_memory:
            if self._slots.memory.kind != _EXTERN_MEMORY:  # the core may have found it
                assert self.caller, "a host call has to use the memory before it waits"
                found = api.caller_export(self.caller, b"memory", 6, at)
                if not found or self._slots.memory.kind != _EXTERN_MEMORY:
                    raise NoMemoryFault
            self._has_memory = True
        size = api.memory_size(self._context, at + _OF)
        if size != len(self._memory):  # it never shrinks, and moves only when it grows
            self._memory_address = api.memory_data(self._context, at + _OF)
            self._memory = api.view(self._memory_address, size, api.WRITABLE)
        self.memory_is_current = True
        return self._memory

    def _memory_place(self) -> int:
        """The address of the memory; 0 if it has not been looked up."""
        if self._slots.memory.kind != _EXTERN_MEMORY:
            return 0
        return int(api.memory_data(self._context, self._at + _MEMORY + _OF))

    @property
    def memory_size(self) -> int | None:
        """Bytes of the exported memory, or 0 without one; None until the instance is made."""
        at = self._at + _MEMORY
        if not self._has_memory:
            if not self._is_instantiated:
                return None
            found = api.instance_export(self._context, self._at, b"memory", 6, at)
            if not found or self._slots.memory.kind != _EXTERN_MEMORY:
                return 0
            self._has_memory = True
        return int(api.memory_size(self._context, at + _OF))

    def close(self) -> None:
        """Free everything. In the middle of a run this is its cancellation. Idempotent."""
        # They refer to this store: cut, all go at once, not with the collector.
        self._guest = self._make_guest = None
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

    # What the linker's callbacks do

    def trap(self, error: BaseException) -> int:
        """Make the trap with which a host call ends the guest. Returns: its address."""
        message = b"the host call failed"
        if isinstance(error, GuestExit):
            self._exit_status = error.status
        elif isinstance(error, GuestTrap):
            message = str(error).encode()
        else:
            self.failure = error
        return int(api.trap_new(message, len(message)))

    def overrun(self) -> int | None:
        """Make a guest whose slice is over yield at the next loop or function entry.

        Compiled code keeps the deadline in a register until the epoch passes it: lowering the
        deadline is not enough, the epoch has to advance by a whole slice.

        Returns: The address of a trap if the guest does not reach such a point.
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
        """Suspend the guest in its host call until the generator returns."""
        self._waiting = waiting
        self._has_yielded = False
        self.caller = 0
        self._result_at, self._trap_at = result_at, trap_at

    def resume(self) -> bool:
        """Continue the host call that waits. Returns: whether it has ended."""
        assert self._waiting is not None
        if not self._has_yielded:  # wasmtime asks at once, before it suspends the guest
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
        c_uint32.from_address(self._result_at + VALUE_AT).value = errno
        return True


def no_export(name: bytes) -> EngineError:
    return EngineError(f"the module does not export the function {name.decode()!r}")
