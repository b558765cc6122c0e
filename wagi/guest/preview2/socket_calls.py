"""``wasi:sockets``: handlers have no sockets.

The standard libraries of some languages import these interfaces whether or not a program uses them,
so their imports are accepted. What would make a socket or look up a name is denied with an error
code and a message for the log. All other functions need a socket, which no guest can have: the
linker makes them traps when a module imports them.
"""

from __future__ import annotations

from struct import pack

from wagi.guest.capi.component_linker import define_call
from wagi.guest.capi.linker import Linker
from wagi.guest.preview2.context import ComponentContext
from wagi.guest.preview2.handles import define_drop
from wagi.guest.preview2.results import NONE
from wagi.guest.preview2.streams import IoError

SOCKETS = "wasi:sockets/"
_ACCESS_DENIED = 1  # of error-code


class Network:
    """The resource ``network``, with which nothing can be done."""


def define(linker: Linker) -> None:
    """Add the functions to a linker."""
    define_drop(linker, SOCKETS + "network", "network", Network)
    define_call(linker, SOCKETS + "network", "network-error-code", "II", "", network_error_code)
    define_call(linker, SOCKETS + "instance-network", "instance-network", "", "I", instance_network)
    for interface, name, parameters in (
        ("tcp-create-socket", "create-tcp-socket", "II"),
        ("udp-create-socket", "create-udp-socket", "II"),
        ("ip-name-lookup", "resolve-addresses", "IIII"),
    ):
        _deny(linker, SOCKETS + interface, name, parameters)
    linker.deny_others(SOCKETS)


def _deny(linker: Linker, interface: str, name: str, parameters: str) -> None:
    """Define a function that returns an error; the address of its result is the last parameter."""

    def denied(guest: ComponentContext, *arguments: int) -> None:
        guest.note(
            f"the handler called {name} of {interface}, and handlers have no sockets: use outbound"
            " HTTP (allowed_hosts)"
        )
        guest.memory.write(arguments[-1], pack("<II", 1, _ACCESS_DENIED))

    define_call(linker, interface, name, parameters, "", denied)


def instance_network(guest: ComponentContext) -> int:
    """Return the network."""
    return guest.handles.add(Network())


def network_error_code(guest: ComponentContext, handle: int, out: int) -> None:
    """Write ``none``: no error is one of a network."""
    guest.handles.get(handle, IoError)
    guest.memory.write(out, NONE)
