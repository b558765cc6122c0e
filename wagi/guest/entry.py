"""Which exports of a module are called, in which order, and with which arguments. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wagi.errors import WagiError
from wagi.guest.component.flattening import FlatComponent
from wagi.guest.component.interfaces import COMMAND
from wagi.guest.description import FUNCTION, HANDLER_FUNCTION, RESULT_FUNCTION

START = "_start"
"""The default entrypoint."""
REQUEST_HANDLE, RESPONSE_HANDLE = 1, 2
"""The arguments of ``wasi:http/incoming-handler#handle``: the request and the response-outparam.
They are the first resources that such a guest gets, so each guest has the same handles."""


class EntryError(WagiError):
    """The entrypoint cannot be called."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The exports to call.

    Attributes:
        exports: Their names, in order.
        arguments: The arguments of the last one.
        has_result: Whether the last one returns an i32: 0, or 1 if it failed.
    """

    exports: tuple[str, ...]
    arguments: tuple[int, ...] = ()
    has_result: bool = False


def find_entry(
    entrypoint: str,
    exports: Mapping[str, str],
    component: FlatComponent | None,
    has_imports: bool,
) -> Entry:
    """Determine the exports to call.

    Args:
        entrypoint: The export that the user has chosen. The default one of a component is what its
            world defines.
        exports: The types of all exports, as ``description.signature`` describes them.
        component: The component of which the module is the core module, if any.
        has_imports: Whether the module imports anything.

    Raises:
        EntryError: The entrypoint is missing or has a wrong type.
    """
    if component is None:
        # A reactor's _initialize is called before any other export (WASI's application ABI).
        is_reactor = exports.get("_initialize") == FUNCTION
        first: tuple[str, ...] = ("_initialize",) if is_reactor else ()
    else:
        first = component.initializers
        if any(exports.get(name) != FUNCTION for name in first):
            raise EntryError("this component starts with a function of a wrong type")
        if entrypoint == START:
            return _entry_of(component, exports)
    if exports.get(entrypoint) != FUNCTION:
        what = (
            "is not a function without parameters and results"
            if entrypoint in exports
            else "is not exported"
        )
        names = ", ".join(sorted(exports)) or "nothing"
        hint = _hint(exports, has_imports) if entrypoint == START else ""
        raise EntryError(f"the entrypoint {entrypoint!r} {what}; it exports: {names}{hint}")
    return Entry(first if entrypoint == "_initialize" else (*first, entrypoint))


def _entry_of(component: FlatComponent, exports: Mapping[str, str]) -> Entry:
    """Return the exports that the world of a component defines."""
    called = (*component.initializers, component.entry)
    type_ = exports.get(component.entry)
    if component.world == COMMAND and type_ in (FUNCTION, RESULT_FUNCTION):
        return Entry(called, has_result=type_ == RESULT_FUNCTION)
    if component.world != COMMAND and type_ == HANDLER_FUNCTION:
        return Entry(called, (REQUEST_HANDLE, RESPONSE_HANDLE))
    raise EntryError(f"{component.entry!r} of this component has a wrong type: {type_}")


def _hint(exports: Mapping[str, str], has_imports: bool) -> str:
    """Guess why a module does not have the default entrypoint."""
    if START in exports:
        return ""
    if "_initialize" in exports:
        return ": it is a reactor: set entrypoint to the function that handles requests"
    if not has_imports:
        return ": was it built for wasm32-unknown-unknown? Build a program for wasm32-wasip1"
    return ": was it built as a library? Build a program, which has a _start"
