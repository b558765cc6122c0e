"""Snapshots of reactors: run the initialization, save the state."""

from __future__ import annotations

import wasmtime

from wagi.guest.binary import MalformedModuleError
from wagi.guest.snapshot.errors import SnapshotError
from wagi.guest.snapshot.instance import read_state, table_sizes
from wagi.guest.snapshot.state import State, StateLayout


def snapshot_reactor(wasm: bytes, initialize: str = "_initialize") -> bytes:
    """Run a module's initialization, without access to the host, and save its state.

    Random numbers and times that are read during initialization are the same in every instance.

    Args:
        wasm: A core module.
        initialize: The exported function to run; it is removed from the new module.

    Returns:
        The new module.

    Raises:
        SnapshotError: The module is not supported, or its initialization fails.
    """
    try:
        layout = StateLayout.read(wasm)
        state = _run(layout.observable(wasm), initialize, layout)
        return layout.with_state(wasm, state, (initialize,))
    except MalformedModuleError as error:
        raise SnapshotError(f"not a valid module: {error}") from None


def _run(wasm: bytes, initialize: str, layout: StateLayout) -> State:
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    store.set_wasi(wasmtime.WasiConfig())  # no arguments, no variables, no files
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    try:
        module = wasmtime.Module(engine, wasm)
        instance = linker.instantiate(store, module)
        function = instance.exports(store).get(initialize)
        if not isinstance(function, wasmtime.Func):
            names = ", ".join(name for name, _ in layout.exports)
            raise SnapshotError(
                f"the module does not export the function {initialize!r}: build a reactor"
                f" (it exports: {names})"
            )
        tables = table_sizes(instance, store)
        function(store)
    except wasmtime.ExitTrap as error:
        raise SnapshotError(
            f"the module exited with status {error.code} during initialization"
        ) from None
    except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
        raise SnapshotError(f"initialization without access to the host failed: {error}") from None
    if table_sizes(instance, store) != tables:
        raise SnapshotError("the module changes its tables during initialization")
    return read_state(instance, store, layout)
