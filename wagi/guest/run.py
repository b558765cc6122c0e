"""One instance in a store of its own, from its start to its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import wasmtime

from wagi.guest import capi
from wagi.guest.capi import Continuation, Linker, Prepared
from wagi.guest.ends import EngineError, Exit, Trap
from wagi.guest.errno import GuestTrap, NoMemoryFault
from wagi.guest.scheduler import SLICE_TICKS


@dataclass(frozen=True, slots=True)
class Preopen:
    """A folder of the host (absolute path) that a guest sees at ``guest_path``."""

    host_path: str
    guest_path: str
    readonly: bool = False


@dataclass(frozen=True, slots=True)
class Caps:
    """What a store allows: bytes of each ``memory``, ``elements`` of each table, how many of them.

    A guest has one instance; a second one is its companion, see ``guest.files``.
    """

    memory: int
    elements: int
    memories: int
    tables: int
    instances: int = 2


class Run:
    """One instance in its own store, polled until it ends. The owner closes it, once.

    Attributes: ``guest`` what host calls get as their first argument; ``failure`` an exception that
    a host call raised: a bug of the gateway, not of the guest; ``size`` of the memory in bytes, as
    a host call has seen it last, or -1.
    """

    def __init__(
        self, prepared: Prepared, guest: Any, caps: Caps, preopens: Sequence[Preopen]
    ) -> None:
        self.guest = guest
        self.failure: BaseException | None = None
        self.continuation: Continuation | None = None
        self.caller = 0
        self.span: tuple[int, int] | None = None
        self.result = 0
        self._prepared = prepared
        self._base = 0
        self.size = -1
        self._future: int | None = None
        self._has_memory = False
        self._slots = capi.Slots()
        self._at = capi.addressof(self._slots)
        # A WASI call in a store without this aborts the whole process.
        wasi = capi.wasi_new()
        for preopen in preopens:
            if not capi.preopen(
                wasi,
                preopen.host_path.encode(),
                preopen.guest_path.encode(),
                not preopen.readonly,
            ):
                capi.wasi_delete(wasi)
                raise EngineError(f"the volume {preopen.host_path} cannot be opened")
        self._store: int | None = capi.store_new(prepared.engine.address, None, None)
        self._context = capi.store_context(self._store)
        capi.store_limiter(
            self._store, caps.memory, caps.elements, caps.instances, caps.tables, caps.memories
        )
        capi.yield_at_deadline(self._context, SLICE_TICKS)
        capi.set_wasi(self._context, wasi)

    def instantiate(self) -> None:
        """Begin: the next polls make the instance."""
        at = self._at
        self._future = capi.instantiate(
            self._prepared.address,
            self._context,
            at,
            at + capi.Slots.trap.offset,
            at + capi.Slots.error.offset,
        )

    def call(self, export: bytes) -> None:
        """Begin: the next polls run the exported function, which takes and returns nothing."""
        at = self._at
        found = capi.instance_export(
            self._context, at, export, len(export), at + capi.Slots.function.offset
        )
        if not found or self._slots.function.kind != capi.EXTERN_FUNC:
            raise EngineError(f"the module does not export the function {export.decode()!r}")
        self._future = capi.call(
            self._context,
            at + capi.FUNCTION,
            None,
            0,
            None,
            0,
            at + capi.Slots.trap.offset,
            at + capi.Slots.error.offset,
        )

    def poll(self) -> bool:
        """Run for at most about a slice. True when what was begun has ended."""
        # Whatever the epoch did while this guest was not running: it has a whole slice now.
        capi.set_deadline(self._context, SLICE_TICKS)
        assert self._future is not None
        if not capi.poll(self, self._future):
            return False
        capi.future_delete(self._future)
        self._future = None
        return True

    def take_end(self) -> Exit | Trap | None:
        """How what was begun has ended: None for a plain return."""
        return capi.take_end(self._slots)

    def yield_soon(self) -> None:
        """Make the guest suspend soon after the host call that it is in.

        Compiled code keeps the deadline in a register until the epoch passes it: lowering the
        deadline is not enough, the epoch has to move on.
        """
        capi.set_deadline(self._context, 0)
        self._prepared.engine.increment_epoch()

    def memory(self) -> tuple[int, int]:
        """Address and size in bytes of the guest's memory, as it is now.

        It may grow whenever the guest runs, and only then: ``span`` is forgotten at the start of
        each host call. Raises: NoMemoryFault if the guest exports none.
        """
        if self.span is not None:
            return self.span
        if not self._has_memory:
            at = self._at + capi.Slots.memory.offset
            if (
                not capi.caller_export(self.caller, b"memory", 6, at)
                or self._slots.memory.kind != capi.EXTERN_MEMORY
            ):
                raise NoMemoryFault
            self._has_memory = True
        at = self._at + capi.MEMORY
        size = capi.memory_size(self._context, at)
        if size != self.size:  # it never shrinks, and moves only when it grows
            self.size = size
            self._base = capi.memory_data(self._context, at)
        self.span = self._base, size
        return self.span

    def companion(self, linker: Linker, module: wasmtime.Module) -> Companion:
        """A second instance in this store, which imports the guest's memory as ``guest.memory``."""
        self.memory()
        return Companion(self, self._context, self._slots.memory, linker, module)

    def close(self) -> None:
        """Free everything. In the middle of a run this is its cancellation."""
        # Guest and run refer to each other: cut, they go at once and not with the collector.
        self.guest = self.continuation = None
        if self._future is not None:
            capi.future_delete(self._future)
            self._future = None
        if self._store is not None:
            capi.store_delete(self._store)
            self._store = None
        self.take_end()


class Companion:
    """An instance beside a guest, called from within the guest's host calls."""

    def __init__(
        self, run: Run, context: int, memory: Any, linker: Linker, module: wasmtime.Module
    ) -> None:
        self._run = run
        self._context = context
        self._slots = capi.Slots()
        self._at = capi.addressof(self._slots)
        own_linker = capi.linker_with_memory(linker, context, memory)
        try:
            self._finish(
                capi.link_and_instantiate(
                    own_linker,
                    context,
                    capi.address_of(module),
                    self._at,
                    self._at + capi.Slots.trap.offset,
                    self._at + capi.Slots.error.offset,
                )
            )
        finally:
            capi.linker_delete(own_linker)

    def call(self, export: str, parameters: str, *arguments: int) -> int:
        """Call an exported function to its end. Returns: its i32 result.

        Raises: GuestTrap if it traps.
        """
        name = export.encode()
        at = self._at
        if not capi.instance_export(
            self._context, at, name, len(name), at + capi.Slots.function.offset
        ):
            raise EngineError(f"no function {export!r}")
        values = capi.values(parameters, arguments)
        result = capi.values("I", [0])
        self._finish(
            capi.call(
                self._context,
                at + capi.FUNCTION,
                capi.addressof(values),
                len(arguments),
                capi.addressof(result),
                1,
                at + capi.Slots.trap.offset,
                at + capi.Slots.error.offset,
            )
        )
        return int(result[0].of.i32) & 0xFFFFFFFF

    def _finish(self, future: int) -> None:
        while not capi.poll(self._run, future):  # it may yield at a tick, and goes on at once
            pass
        capi.future_delete(future)
        if end := capi.take_end(self._slots):
            raise GuestTrap(end.message if isinstance(end, Trap) else "exit")
