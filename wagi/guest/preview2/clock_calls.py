"""``wasi:clocks``: ``monotonic-clock``, ``wall-clock`` and ``timezone``."""

from __future__ import annotations

import time
from struct import pack

from wagi.guest.capi.component_linker import define_call
from wagi.guest.capi.linker import Linker
from wagi.guest.preview2.context import ComponentContext
from wagi.guest.preview2.polling import Pollable, Timer
from wagi.guest.preview2.results import copy_bytes

MONOTONIC, WALL = "wasi:clocks/monotonic-clock", "wasi:clocks/wall-clock"
TIMEZONE = "wasi:clocks/timezone"
_SECOND = 10**9  # nanoseconds
_RESOLUTION = 1  # nanosecond, as in Linux
_TIMEZONE = b"UTC"


def define(linker: Linker) -> None:
    """Add the functions to a linker."""
    for interface, name, parameters, results, call in (
        (MONOTONIC, "now", "", "Q", now),
        (MONOTONIC, "resolution", "", "Q", resolution),
        (MONOTONIC, "subscribe-instant", "Q", "I", subscribe_instant),
        (MONOTONIC, "subscribe-duration", "Q", "I", subscribe_duration),
        (WALL, "now", "I", "", wall_now),
        (WALL, "resolution", "I", "", wall_resolution),
        (TIMEZONE, "display", "QII", "", display),
        (TIMEZONE, "utc-offset", "QI", "I", utc_offset),
    ):
        define_call(linker, interface, name, parameters, results, call)


def now(guest: ComponentContext) -> int:
    """Return the nanoseconds since the guest started."""
    return max(0, time.monotonic_ns() - int(guest.started_at * _SECOND))


def resolution(guest: ComponentContext) -> int:
    """Return the resolution of the monotonic clock, in nanoseconds."""
    return _RESOLUTION


def subscribe_instant(guest: ComponentContext, instant: int) -> int:
    """Return a pollable that is ready at a time of the monotonic clock."""
    return guest.handles.add(Pollable(Timer(guest.started_at + instant / _SECOND)))


def subscribe_duration(guest: ComponentContext, duration: int) -> int:
    """Return a pollable that is ready after some nanoseconds."""
    return guest.handles.add(Pollable(Timer(time.monotonic() + duration / _SECOND)))


def wall_now(guest: ComponentContext, out: int) -> None:
    """Write the time since 1970: seconds (u64) and nanoseconds (u32)."""
    guest.memory.write(out, pack("<QI", *divmod(time.time_ns(), _SECOND)))


def wall_resolution(guest: ComponentContext, out: int) -> None:
    """Write the resolution of the wall clock: seconds (u64) and nanoseconds (u32)."""
    guest.memory.write(out, pack("<QI", 0, _RESOLUTION))


def display(guest: ComponentContext, seconds: int, nanoseconds: int, out: int) -> None:
    """Write the time zone at a time: offset (s32), name (string) and daylight saving (bool).

    It is always UTC, as the interface demands of hosts that disclose no time zone.
    """
    name = copy_bytes(guest, _TIMEZONE)
    guest.memory.write(out, pack("<iIIB", 0, name, len(_TIMEZONE), False))


def utc_offset(guest: ComponentContext, seconds: int, nanoseconds: int) -> int:
    """Return the difference between the time zone and UTC at a time, in seconds."""
    return 0
