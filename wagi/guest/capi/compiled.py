"""Stores that the compiled core runs."""

from __future__ import annotations

from functools import cached_property

from wagi.guest.budget import NO_LIMIT
from wagi.guest.capi import api
from wagi.guest.capi.engine import Memory
from wagi.guest.capi.store import RETURNED, MakeGuest, Store, no_export
from wagi.guest.capi.store_config import StoreConfig
from wagi.guest.capi.store_fields import EXTERN_MEMORY, MEMORY, OF, StoreFields
from wagi.guest.outcome import EngineError, Outcome
from wagi.guest.streams import Input, Output

_SUSPENDED, _ENDED, _FAILED, _NO_EXPORT, _NO_CLOCK = range(5)  # store_state_t


class CompiledStore(Store):
    """A store that the compiled core runs: simple host calls never enter Python.

    Its fields are the first ones of the core's ``store_t``; host calls in Python use them as they
    use those of other stores.
    """

    memory_size: int | None = None
    _input = b""  # the core reads these bytes in place

    def _begin(self) -> None:
        self._at = api.core.open(self._config.address, self.arguments, self.environment)
        self._engine.add(self._at, self)

    @cached_property
    def _fields(self) -> StoreFields:  # type: ignore[override]
        return StoreFields.from_address(self._at)

    @cached_property
    def _context(self) -> int:
        return self._fields.context or 0

    @property
    def slice_end(self) -> float:
        return float(self._fields.slice_end)

    @slice_end.setter
    def slice_end(self, seconds: float) -> None:
        self._fields.slice_end = seconds

    @property
    def started_at(self) -> float:  # type: ignore[override]
        return float(self._fields.started_at)

    def streams(self) -> tuple[Input, Output]:
        """As ``Store.streams``."""
        return _CompiledStdin(self._at), _CompiledStdout(self._at)

    def feed(self, data: bytes) -> None:
        """As ``Store.feed``."""
        unread = api.core.take_input(self._at, len(self._input))
        if unread:
            data = unread + data
        api.core.set_input(self._at, data)
        self._input = data  # releases the old bytes, which the core no longer reads

    def end_input(self) -> None:
        """As ``Store.end_input``."""
        api.core.end_input(self._at)

    def take_output(self) -> bytes:
        """As ``Store.take_output``."""
        output: bytes = api.core.take_output(self._at)
        return output

    def release_stream(self, number: int) -> None:
        """As ``Store.release_stream``; the core leaves calls on the descriptor to Python."""
        if number <= 2:
            self._fields.streams &= ~(1 << number)

    def poll(self, memory_limit: int = NO_LIMIT) -> Outcome | None:
        """As ``Store.poll``."""
        self._overran_at = None
        state, self.memory_size = api.core.poll(self._at, memory_limit)
        if state == _ENDED:
            return RETURNED
        if state == _SUSPENDED:
            return None
        if state == _FAILED:
            if self._fields.has_exited:
                self._exit_status = self._fields.exit_status
            return self._take_outcome()
        if state == _NO_CLOCK:
            raise EngineError("cannot start the thread that interrupts guests")
        raise no_export(b" or ".join(self._config.exports))

    def _find_memory(self) -> int:
        """Return the address of the memory; 0 if it has not been looked up."""
        if self._fields.memory.kind != EXTERN_MEMORY:
            return 0
        return int(api.memory_data(self._context, self._at + MEMORY + OF))

    def _free(self) -> None:
        if self._at:
            memory = self._find_memory() if self._engine.memory is Memory.POOL else 0
            if self._has_memory:
                self._memory = memoryview(b"")
                self._has_memory = self.memory_is_current = False
            self.memory_size = None
            address, self._at = self._at, 0
            # Unregister first: once freed, the address may be reused by a store of another thread.
            self._engine.remove(address, memory)
            api.core.close(address)


class _CompiledStdin:
    """The input of a compiled store, for host calls in Python."""

    def __init__(self, address: int) -> None:
        self._address = address

    @property
    def readable(self) -> bool:
        readable: bool = api.core.is_readable(self._address)
        return readable

    def take(self, length: int) -> bytes:
        data: bytes = api.core.take_input(self._address, length)
        return data


class _CompiledStdout:
    """The output of a compiled store, for host calls in Python."""

    def __init__(self, address: int) -> None:
        self._address = address

    @property
    def room(self) -> int:
        room: int = api.core.output_room(self._address)
        return room

    def write(self, data: bytes) -> None:
        api.core.write_output(self._address, data)


def open_store(
    config: StoreConfig, arguments: bytes, environment: bytes, make_guest: MakeGuest
) -> Store:
    """Open a store and start the instantiation of its guest.

    Args:
        config: What the stores of the guest's handler share.
        arguments: The guest's arguments, each terminated by a NUL.
        environment: The guest's variables, each as NAME=value and terminated by a NUL.
        make_guest: Makes the first argument of host calls in Python; called at the first such call.

    Returns:
        A ``CompiledStore`` if the engine runs guests in the compiled core.
    """
    kind = Store if config.pre.engine.core is None else CompiledStore
    return kind(config, arguments, environment, make_guest)
