"""The resources that a guest holds, by their handles.

Handles are numbers that the guest passes, so they are untrusted: each is checked for the class of
its resource. A number is never used twice, so that a dropped handle does not become another
resource.
"""

from __future__ import annotations

from itertools import count
from typing import Protocol, TypeVar

from wagi.guest.capi.component_linker import define_call
from wagi.guest.capi.linker import Linker
from wagi.guest.errno import GuestTrap

MAX_HANDLES = 4096
"""Maximum number of resources that a guest can hold at a time."""
R = TypeVar("R")


class HandleTable:
    """The resources of one guest. The first handle is 1."""

    __slots__ = ("_held", "_numbers")

    def __init__(self) -> None:
        self._held: dict[int, object] = {}
        self._numbers = count(1)

    def add(self, resource: object) -> int:
        """Add a resource, and return its handle.

        Raises:
            GuestTrap: The guest holds ``MAX_HANDLES`` resources.
        """
        if len(self._held) >= MAX_HANDLES:
            raise GuestTrap(f"it holds more than {MAX_HANDLES} handles")
        handle = next(self._numbers)
        self._held[handle] = resource
        return handle

    def get(self, handle: int, kind: type[R]) -> R:
        """Return the resource of a handle.

        Args:
            handle: The handle, as the guest passed it.
            kind: The class of the resource; subclasses match too.

        Raises:
            GuestTrap: The guest holds no such resource.
        """
        resource = self._held.get(handle)
        if not isinstance(resource, kind):
            raise GuestTrap(f"it used handle {handle}, which is not {_with_article(kind)}")
        return resource

    def take(self, handle: int, kind: type[R]) -> R:
        """Remove a resource, and return it.

        Args:
            handle: As for ``get``.
            kind: As for ``get``.

        Raises:
            GuestTrap: The guest holds no such resource.
        """
        resource = self.get(handle, kind)
        del self._held[handle]
        return resource

    def close(self) -> None:
        """Close all resources that have a method ``close``."""
        for resource in self._held.values():
            _close(resource)
        self._held.clear()


class _HasHandles(Protocol):
    handles: HandleTable


def define_drop(linker: Linker, interface: str, name: str, kind: type[object]) -> None:
    """Define the drop of a resource, which closes it.

    Args:
        linker: The linker.
        interface: The interface, without a version.
        name: The name of the resource in it.
        kind: The class of the resource.
    """

    def drop(guest: _HasHandles, handle: int) -> None:
        _close(guest.handles.take(handle, kind))

    define_call(linker, interface, f"[resource-drop]{name}", "I", "", drop)


def _close(resource: object) -> None:
    close = getattr(resource, "close", None)
    if close is not None:
        close()


def _with_article(kind: type[object]) -> str:
    name = kind.__name__
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"
