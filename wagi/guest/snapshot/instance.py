"""Read the state of an instance of an observable module (``StateLayout.observable``)."""

from __future__ import annotations

import wasmtime

from wagi.guest.snapshot.constants import constant
from wagi.guest.snapshot.state import MEMORY, State, StateLayout


def read_state(instance: wasmtime.Instance, store: wasmtime.Store, layout: StateLayout) -> State:
    """Read the memory and the mutable globals."""
    exports = instance.exports(store)
    values = {}
    for index, kind, name in layout.mutable_globals():
        found = exports[name]
        assert isinstance(found, wasmtime.Global)
        values[index] = constant(kind, found.value(store))
    memory = exports[MEMORY]
    assert isinstance(memory, wasmtime.Memory)
    return State(bytes(memory.read(store)), values)


def table_sizes(instance: wasmtime.Instance, store: wasmtime.Store) -> list[int]:
    """The sizes of the tables."""
    exports = instance.exports(store)
    return [item.size(store) for item in exports.values() if isinstance(item, wasmtime.Table)]
