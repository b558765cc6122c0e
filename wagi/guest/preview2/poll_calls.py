"""``wasi:io/poll``, by which guests wait."""

from __future__ import annotations

from struct import pack, unpack

from wagi.guest.capi.component_linker import ComponentWaiting, define_call, define_waiting_call
from wagi.guest.capi.linker import Linker
from wagi.guest.errno import GuestTrap
from wagi.guest.preview2.context import ComponentContext
from wagi.guest.preview2.handles import define_drop
from wagi.guest.preview2.polling import Pollable, wait_for

POLL = "wasi:io/poll"
MAX_POLLABLES = 1024
"""Maximum number of pollables in one call of ``poll``."""


def define(linker: Linker) -> None:
    """Add the functions to a linker."""
    define_drop(linker, POLL, "pollable", Pollable)
    define_call(linker, POLL, "[method]pollable.ready", "I", "I", ready)
    define_waiting_call(linker, POLL, "[method]pollable.block", "I", "", block)
    define_waiting_call(linker, POLL, "poll", "III", "", poll)


def ready(guest: ComponentContext, handle: int) -> int:
    """Return whether a pollable is ready."""
    return int(guest.handles.get(handle, Pollable).event.is_ready)


def block(guest: ComponentContext, handle: int) -> ComponentWaiting:
    """Wait until a pollable is ready."""
    yield from wait_for(guest.wait, (guest.handles.get(handle, Pollable).event,))
    return None


def poll(guest: ComponentContext, pointer: int, count: int, out: int) -> ComponentWaiting:
    """Wait until at least one of several pollables is ready, and write the indices of those."""
    if not 0 < count <= MAX_POLLABLES:
        raise GuestTrap(f"it polled {count} pollables: from 1 to {MAX_POLLABLES} are possible")
    handles = unpack(f"<{count}I", guest.memory.read(pointer, 4 * count))
    events = [guest.handles.get(handle, Pollable).event for handle in handles]
    buffer = guest.allocate(4 * count, 4)  # now: the guest cannot be called after a wait
    found = yield from wait_for(guest.wait, events)
    guest.memory.write(buffer, pack(f"<{len(found)}I", *found))
    guest.memory.write(out, pack("<II", buffer, len(found)))
    return None
