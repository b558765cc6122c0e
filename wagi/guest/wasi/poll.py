"""``poll_oneoff``: every sleep of a guest, and every wait for input."""

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

_BATCH = 256  # subscriptions that are read at a time: a guest may pass millions
_HANGUP = 1  # of eventrwflags


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the fields of a ``subscription`` are; offsets and size in bytes.

    Preview 1, 48 bytes, and the older snapshot, 56 bytes::

        0 userdata u64 | 8 tag u8 | 16 clock id u32 | 24 timeout u64 | 32 precision | 40 flags u16
        0 userdata u64 | 8 tag u8 | 16 identifier   | 24 clock id    | 32 timeout   | 48 flags u16

    For a descriptor, its number is at 16 in both.
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
    """Wait for the first of several: a time, input, or room for output."""
    return poll(PREVIEW1_LAYOUT, wasi, subscriptions, events, count, nevents)


def poll(
    layout: Layout, wasi: WasiContext, subscriptions: int, events: int, count: int, nevents: int
) -> Waiting:
    """``poll_oneoff`` with either layout of subscriptions."""
    if count == 0:
        return EINVAL  # it would sleep for ever
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
    """Write an event for each subscription that is ready. Returns: their number."""
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
    for first in range(0, count, _BATCH):
        size = layout.size * min(_BATCH, count - first)
        table = wasi.memory.read(subscriptions + layout.size * first, size)
        yield (table[at : at + layout.size] for at in range(0, size, layout.size))


@dataclass(slots=True)
class _Wait:
    """What one subscription waits for: a time, input, or (neither) nothing: it is ready.

    Attributes:
        event: The event to report.
        at: The time, in seconds of ``time.monotonic``.
        input: Whether it waits for the request body.
    """

    event: bytes
    at: float | None = None
    input: bool = False

    @classmethod
    def of(cls, wasi: WasiContext, layout: Layout, subscription: bytes, asked_at: float) -> _Wait:
        """Read a subscription. Raises: GuestFault(EINVAL) if it is not valid."""
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
    """The event of a descriptor, and what it waits for. Raises: GuestFault(EBADF)."""
    bytes_ready, hangup = 1, 0
    if isinstance(descriptor, File):  # always ready, as wasmtime reports them
        if kind is Eventtype.FD_READ and os.fstat(descriptor.number).st_size <= descriptor.position:
            hangup = _HANGUP
    elif kind is Eventtype.FD_READ:
        if descriptor is not Stream.STDIN:
            raise GuestFault(EBADF)
    elif descriptor not in (Stream.STDOUT, Stream.STDERR):
        # The response has room or suspends its writer by itself.
        raise GuestFault(EBADF)
    waits = descriptor is Stream.STDIN
    return EVENT.pack(userdata, 0, kind, bytes_ready, hangup), None, waits
