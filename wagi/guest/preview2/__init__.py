"""Host calls of components: WASI preview 2, one file per interface.

Components run as core modules (``wagi.guest.component``), whose imports are the functions of WASI
preview 2 in the flat form of the canonical ABI. Each guest has a ``context.ComponentContext``, the
first argument of all its host calls::

    ComponentContext ── (all of WasiContext)  store, memory, arguments, standard streams, wait
                     ── handles               the resources that the guest holds, by their handles

The flat form of a function:

- A string or list parameter is its address and length, a resource its handle.
- A result that is not one number is written to an address, the last parameter. Its strings and
  lists lie in memory that the guest's allocator gives (``results``).
- Resources are dropped by functions called ``[resource-drop]NAME``.

How to add an interface:

- Write a file with ``define(linker)``, which calls ``define_call`` for functions that complete at
  once, ``define_waiting_call`` for those that can wait (``capi.component_linker``), and
  ``handles.define_drop`` for each resource. Name it in ``define`` below.
- A resource is an object of a class of its own; ``handles.get(handle, kind)`` finds it, and
  ``handles.take`` removes it. Its method ``close``, if there is one, is called when it is dropped,
  and when the guest ends.
- A call that waits is a generator: it calls ``wait_on(context.wait)`` of what it waits for, and
  yields, until that is ready (``polling.wait_for``). It must allocate before it first yields.
- Errors of the guest are results as the interface defines them; bugs of the guest, such as invalid
  handles and addresses, are GuestTrap.

Streams of other sources (``streams``) and other events to wait for (``polling.Event``) are
subclasses; the calls on streams and pollables work with all of them.
"""

from __future__ import annotations

from wagi.guest.capi.linker import Linker
from wagi.guest.preview2 import (
    cli_calls,
    clock_calls,
    descriptor_calls,
    http_calls,
    http_field_calls,
    http_outgoing_calls,
    input_calls,
    output_calls,
    path_calls,
    poll_calls,
    random_calls,
    socket_calls,
)


def define(linker: Linker) -> None:
    """Add all host calls to a linker."""
    input_calls.define(linker)
    output_calls.define(linker)
    poll_calls.define(linker)
    cli_calls.define(linker)
    http_field_calls.define(linker)
    http_calls.define(linker)
    http_outgoing_calls.define(linker)
    clock_calls.define(linker)
    random_calls.define(linker)
    descriptor_calls.define(linker)
    path_calls.define(linker)
    socket_calls.define(linker)
