"""The WASI functions that are ours: streams, sleep, arguments and environment.

All else of ``wasi_snapshot_preview1`` is wasmtime's own. Ours never block: a read that has to wait
suspends the guest, and so does a sleep. Descriptors 0 to 2 are the request and the response; the
others are files, which ``guest.files`` hands on to wasmtime.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from itertools import accumulate
from struct import Struct, pack
from typing import TYPE_CHECKING

from wagi.guest.capi import Continuation, Linker
from wagi.guest.errno import EBADF, EINVAL, ENOTSUP, GuestFault
from wagi.guest.memory import GuestMemory

if TYPE_CHECKING:
    from wagi.guest.guest import Guest

WASI = "wasi_snapshot_preview1"
STDIN, STDOUT, STDERR = 0, 1, 2
_MAX_WRITE = 1024 * 1024  # more is a short write, so that one call cannot fill our memory
_MAX_READ = 1024 * 1024
_MAX_STDERR = 64 * 1024  # cut into lines within the call
_MAX_SUBSCRIPTIONS = 1024
_RANDOM_PIECE = 256 * 1024  # about a millisecond of work


def define(linker: Linker) -> None:
    """Put the host calls into a linker, in the place of wasmtime's."""
    for name, parameters, call in (
        ("fd_write", "IIII", fd_write),
        ("fd_close", "I", fd_close),
        ("fd_renumber", "II", fd_renumber),
        ("path_open", "IIIIIQQII", path_open),
        ("args_sizes_get", "II", args_sizes_get),
        ("args_get", "II", args_get),
        ("environ_sizes_get", "II", environ_sizes_get),
        ("environ_get", "II", environ_get),
    ):
        linker.define(WASI, name, parameters, call)
    linker.define_async(WASI, "fd_read", "IIII", fd_read)
    linker.define_async(WASI, "poll_oneoff", "IIII", poll_oneoff)
    linker.define_async(WASI, "random_get", "II", random_get)


def fd_write(guest: Guest, fd: int, iovecs: int, count: int, written: int) -> int:
    """Write all buffers at once: guests that never retry would lose what a short write leaves."""
    if fd not in (STDOUT, STDERR):
        return guest.files.call("fd_write", fd, iovecs, count, written)
    if fd in guest.closed:
        return EBADF
    data = guest.memory.gather(iovecs, count, _MAX_STDERR if fd == STDERR else _MAX_WRITE)
    guest.memory.write_u32(written, len(data))
    if fd == STDERR:
        guest.stderr(data)
        return 0
    guest.stdout.write(data)
    if guest.stdout.size > guest.output_buffer:
        guest.suspend()
    return 0


def fd_read(
    guest: Guest, fd: int, iovecs: int, count: int, nread: int
) -> int | Continuation:  # fmt: skip
    """Read what is there of the request body, or wait for some."""
    if fd != STDIN:
        return guest.files.call("fd_read", fd, iovecs, count, nread)
    if fd in guest.closed:
        return EBADF
    memory = guest.memory
    vectors = memory.iovecs(iovecs, count)
    wanted = sum(length for _, length in vectors)

    def read() -> int | None:
        if wanted and not guest.stdin.readable:
            guest.wait_for_input()
            return None
        data = guest.stdin.take(min(wanted, _MAX_READ))
        at = 0
        for pointer, length in vectors:
            memory.write(pointer, data[at : at + length])
            at += length
            if at >= len(data):
                break
        memory.write_u32(nread, len(data))
        return 0

    done = read()
    return read if done is None else done


def fd_close(guest: Guest, fd: int) -> int:
    """Close a descriptor. A closed stream keeps its number: a file must never take it over."""
    if fd > STDERR:
        return guest.files.close(fd)
    if fd in guest.closed:
        return EBADF
    guest.closed.add(fd)
    return 0


def fd_renumber(guest: Guest, source: int, target: int) -> int:
    """Move a descriptor; the streams stay where they are."""
    if source <= STDERR or target <= STDERR:
        return ENOTSUP
    return guest.files.renumber(source, target)


def path_open(guest: Guest, *arguments: int) -> int:
    """Open a file in a volume."""
    return guest.files.open(*arguments)


def random_get(guest: Guest, buffer: int, length: int) -> int | Continuation:
    """Fill a buffer with random bytes, a piece in each turn: wasmtime's own holds up all guests."""
    guest.memory.require(buffer, length)
    at = 0

    def fill() -> int | None:
        nonlocal at
        piece = os.urandom(min(length - at, _RANDOM_PIECE))
        guest.memory.write(buffer + at, piece)
        at += len(piece)
        return 0 if at == length else None

    done = fill()
    return fill if done is None else done


def args_sizes_get(guest: Guest, count: int, size: int) -> int:
    """Tell how many arguments there are, and the size of their block."""
    return _sizes(guest.memory, guest.argv, count, size)


def args_get(guest: Guest, pointers: int, block: int) -> int:
    """Copy the arguments into the guest."""
    return _strings(guest.memory, guest.argv, pointers, block)


def environ_sizes_get(guest: Guest, count: int, size: int) -> int:
    """Tell how many variables there are, and the size of their block."""
    return _sizes(guest.memory, guest.environment, count, size)


def environ_get(guest: Guest, pointers: int, block: int) -> int:
    """Copy the variables into the guest."""
    return _strings(guest.memory, guest.environment, pointers, block)


def _sizes(memory: GuestMemory, strings: Sequence[bytes], count: int, size: int) -> int:
    memory.write_u32(count, len(strings))
    memory.write_u32(size, sum(map(len, strings)) + len(strings))
    return 0


def _strings(memory: GuestMemory, strings: Sequence[bytes], pointers: int, block: int) -> int:
    if not strings:
        return 0
    memory.write(block, b"\0".join(strings) + b"\0")
    starts = list(accumulate((len(text) + 1 for text in strings), initial=block))[:-1]
    memory.write(pointers, pack(f"<{len(starts)}I", *starts))
    return 0


class Subscriptions:
    """How ``poll_oneoff`` finds its subscriptions; the old snapshot has another layout."""

    def __init__(self, size: int, clock_offset: int) -> None:
        self.size = size
        self.clock_offset = clock_offset


PREVIEW1_SUBSCRIPTIONS = Subscriptions(size=48, clock_offset=16)
_HEAD = Struct("<QB")
_CLOCK = Struct("<I4xQQH")
_FD = Struct("<I")
_EVENT = Struct("<QHB5xQH6x")
_CLOCK_EVENT, _READ_EVENT = 0, 1
_REALTIME, _MONOTONIC = 0, 1
_ABSOLUTE = 1


def poll_oneoff(
    guest: Guest, subscriptions: int, events: int, count: int, nevents: int
) -> int | Continuation:
    """Wait for the first of several: a time, or input. Every sleep of a guest comes here."""
    return poll_with_layout(PREVIEW1_SUBSCRIPTIONS, guest, subscriptions, events, count, nevents)


def poll_with_layout(
    layout: Subscriptions, guest: Guest, subscriptions: int, events: int, count: int, nevents: int
) -> int | Continuation:
    """``poll_oneoff`` for either snapshot of WASI."""
    if not 0 < count <= _MAX_SUBSCRIPTIONS:
        return EINVAL
    memory = guest.memory
    table = memory.read(subscriptions, layout.size * count)
    waits = [_parse_wait(guest, layout, table, layout.size * i) for i in range(count)]
    wake_at = min((wait.at for wait in waits if wait.at is not None), default=None)
    wants_input = any(wait.input for wait in waits)

    def poll() -> int | None:
        now = time.monotonic()
        ready = [wait.event for wait in waits if wait.is_ready(guest, now)]
        if not ready:
            guest.wait_until(wake_at)
            if wants_input:
                guest.wait_for_input()
            return None
        memory.write(events, b"".join(ready))
        memory.write_u32(nevents, len(ready))
        return 0

    done = poll()
    return poll if done is None else done


class _Wait:
    """One subscription: ready at a time, with input, or (neither) at once."""

    __slots__ = ("at", "event", "input")

    def __init__(self, event: bytes, at: float | None = None, input_: bool = False) -> None:
        self.event = event
        self.at = at
        self.input = input_

    def is_ready(self, guest: Guest, now: float) -> bool:
        if self.at is not None:
            return now >= self.at
        return not self.input or guest.stdin.readable


def _parse_wait(guest: Guest, layout: Subscriptions, table: bytes, at: int) -> _Wait:
    userdata, kind = _HEAD.unpack_from(table, at)
    if kind == _CLOCK_EVENT:
        clock, timeout, _, flags = _CLOCK.unpack_from(table, at + layout.clock_offset)
        if clock not in (_REALTIME, _MONOTONIC):
            return _Wait(_EVENT.pack(userdata, ENOTSUP, kind, 0, 0))
        seconds = timeout / 1e9
        if flags & _ABSOLUTE:
            origin = guest.monotonic_origin if clock == _MONOTONIC else time.time_ns() / -1e9
            wake_at = seconds + (origin if clock == _MONOTONIC else origin + time.monotonic())
        else:
            wake_at = time.monotonic() + seconds
        return _Wait(_EVENT.pack(userdata, 0, kind, 0, 0), at=wake_at)
    if kind > 2:
        raise GuestFault(EINVAL)
    (fd,) = _FD.unpack_from(table, at + 16)
    # WASI reports files as always ready; so is the response, which suspends the writer by itself.
    return _Wait(_EVENT.pack(userdata, 0, kind, 1, 0), input_=kind == _READ_EVENT and fd == STDIN)
