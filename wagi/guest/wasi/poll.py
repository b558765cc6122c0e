"""``poll_oneoff``, with which guests sleep and wait for input."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from struct import Struct

from wagi.guest.capi.linker import Linker, Waiting
from wagi.guest.errno import EBADF, EINVAL, GuestFault
from wagi.guest.wasi.abi import EVENT, PREVIEW1, Clockid, Eventtype, Subclockflags, enum, flags
from wagi.guest.wasi.context import WasiContext
from wagi.guest.wasi.descriptors import File, Stream

_BATCH_SIZE = 256  # subscriptions that are read at a time: a guest may pass millions
_FD_READWRITE_HANGUP = 1  # a bit of eventrwflags


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of a ``subscription``, which differs between the versions of WASI.

    Offsets in bytes; preview 1 has 48 bytes, ``wasi_unstable`` has 56::

        preview 1  unstable  size  field
        0          0         8     userdata
        8          8         1     tag: eventtype

        for a clock (tag 0):
        -          16        8     identifier
        16         24        4     id: clockid
        24         32        8     timeout, in nanoseconds
        32         40        8     precision, in nanoseconds
        40         48        2     flags: subclockflags

        for a descriptor (tag 1 or 2):
        16         16        4     file_descriptor

    Attributes:
        size: The size of a subscription, in bytes.
        clock: The offset of the clock's ``id``, in bytes.
    """

    size: int
    clock: int


PREVIEW1_LAYOUT = Layout(size=48, clock=16)
_HEAD = Struct("<QB")
_CLOCK = Struct("<I4xQQH")
_FD = Struct("<I")


def define(linker: Linker) -> None:
    """Add the function to a linker."""
    linker.define_async(PREVIEW1, "poll_oneoff", "IIII", poll_oneoff)


def poll_oneoff(
    wasi: WasiContext, subscriptions: int, events: int, count: int, nevents: int
) -> Waiting:
    """Wait until at least one of the subscribed events has occurred, and write the events.

    The layouts are ``Layout`` and ``abi.EVENT``.
    """
    return poll(PREVIEW1_LAYOUT, wasi, subscriptions, events, count, nevents)


def poll(
    layout: Layout, wasi: WasiContext, subscriptions: int, events: int, count: int, nevents: int
) -> Waiting:
    """Implement ``poll_oneoff`` for both layouts of subscriptions."""
    if count == 0:
        return EINVAL  # it would never return
    memory = wasi.memory
    memory.require(subscriptions, layout.size * count)
    memory.require(events, EVENT.size * count)
    memory.require(nevents, 4)
    asked_at = time.monotonic()
    while True:
        wake_at: float | None = None
        wants_input = any_ready = False
        for batch in _batches(wasi, layout, subscriptions, count):
            for subscription in batch:
                wait = _Wait.of(wasi, layout, subscription, asked_at)
                any_ready = any_ready or wait.is_ready(wasi)
                wants_input = wants_input or wait.input
                if wait.at is not None:
                    wake_at = wait.at if wake_at is None else min(wake_at, wait.at)
            if wasi.slice_is_over:
                yield
        if any_ready:
            break
        wasi.wait.wake_at, wasi.wait.input = wake_at, wants_input
        yield
    ready = yield from _report(layout, wasi, subscriptions, events, count, asked_at)
    memory.write_u32(nevents, ready)
    return 0


def _report(
    layout: Layout, wasi: WasiContext, subscriptions: int, events: int, count: int, asked_at: float
) -> Generator[None, None, int]:
    """Write an event for each subscription that is ready, and return their number."""
    ready = 0
    for batch in _batches(wasi, layout, subscriptions, count):
        for subscription in batch:
            wait = _Wait.of(wasi, layout, subscription, asked_at)
            if wait.is_ready(wasi):
                wasi.memory.write(events + EVENT.size * ready, wait.event)
                ready += 1
        if wasi.slice_is_over:
            yield
    return ready


def _batches(
    wasi: WasiContext, layout: Layout, subscriptions: int, count: int
) -> Iterator[Iterator[bytes]]:
    for first in range(0, count, _BATCH_SIZE):
        size = layout.size * min(_BATCH_SIZE, count - first)
        table = wasi.memory.read(subscriptions + layout.size * first, size)
        yield (table[at : at + layout.size] for at in range(0, size, layout.size))


@dataclass(slots=True)
class _Wait:
    """The condition of one subscription; it is ready at once if neither field is set.

    Attributes:
        event: The event to report, as ``abi.EVENT``.
        at: The time to wait for, in seconds of ``time.monotonic``.
        input: Whether to wait for standard input.
    """

    event: bytes
    at: float | None = None
    input: bool = False

    @classmethod
    def of(cls, wasi: WasiContext, layout: Layout, subscription: bytes, asked_at: float) -> _Wait:
        """Parse a subscription.

        Raises:
            GuestFault: EINVAL if it is invalid.
        """
        userdata, tag = _HEAD.unpack_from(subscription)
        kind = enum(Eventtype, tag)
        if kind is Eventtype.CLOCK:
            event = EVENT.pack(userdata, 0, kind, 0, 0)
            return cls(event, _wake_at(wasi, layout, subscription, asked_at))
        (fd,) = _FD.unpack_from(subscription, 16)
        try:
            descriptor = wasi.descriptors.get(fd)
            return cls(*_for_descriptor(userdata, kind, descriptor))
        except GuestFault:
            return cls(EVENT.pack(userdata, EBADF, kind, 0, 0))

    def is_ready(self, wasi: WasiContext) -> bool:
        if self.at is not None:
            return time.monotonic() >= self.at
        return not self.input or wasi.stdin.readable


def _wake_at(wasi: WasiContext, layout: Layout, subscription: bytes, asked_at: float) -> float:
    clock, timeout, _, value = _CLOCK.unpack_from(subscription, layout.clock)
    is_absolute = flags(Subclockflags, value)
    kind = enum(Clockid, clock)
    seconds = float(timeout / 1e9)
    if kind not in (Clockid.REALTIME, Clockid.MONOTONIC):
        raise GuestFault(EINVAL)
    if not is_absolute:
        return asked_at + seconds
    if kind is Clockid.MONOTONIC:
        return wasi.started_at + seconds
    return asked_at + seconds - (time.time() - (time.monotonic() - asked_at))


def _for_descriptor(
    userdata: int, kind: Eventtype, descriptor: object
) -> tuple[bytes, float | None, bool]:
    """Return the fields of the ``_Wait`` of a descriptor.

    Raises:
        GuestFault: EBADF if the descriptor does not have the right direction.
    """
    bytes_ready, hangup = 1, 0
    if isinstance(descriptor, File):  # always ready, as in wasmtime
        if kind is Eventtype.FD_READ and os.fstat(descriptor.number).st_size <= descriptor.position:
            hangup = _FD_READWRITE_HANGUP
    elif kind is Eventtype.FD_READ:
        if descriptor is not Stream.STDIN:
            raise GuestFault(EBADF)
    elif descriptor not in (Stream.STDOUT, Stream.STDERR):
        # Output is always ready: a write suspends the guest while the buffer is full.
        raise GuestFault(EBADF)
    waits = descriptor is Stream.STDIN
    return EVENT.pack(userdata, 0, kind, bytes_ready, hangup), None, waits
