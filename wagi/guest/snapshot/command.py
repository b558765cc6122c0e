"""Snapshots of commands: run them to their checkpoint, save their state and stack."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wagi.guest.artefacts import Artefacts
from wagi.guest.binary import PAGE, MalformedModuleError
from wagi.guest.snapshot import binaryen
from wagi.guest.snapshot.calls import ExitedError
from wagi.guest.snapshot.errors import SnapshotError
from wagi.guest.snapshot.functions import FunctionLayout
from wagi.guest.snapshot.host import Host
from wagi.guest.snapshot.instance import read_state, table_sizes
from wagi.guest.snapshot.program import Program
from wagi.guest.snapshot.resumption import (
    HEADER_SIZE,
    Checkpoint,
    SavedStack,
    write_snapshot,
)
from wagi.guest.snapshot.state import State, StateLayout
from wagi.guest.snapshot.unwinding import (
    REWINDING,
    UNWINDING,
    Unwindable,
    make_unwindable,
)

_START = "_start"
STACK_MAX = 1024 * 1024
"""Bytes of memory for the saved stack, until its size is known."""

Report = Callable[[str], None]
"""Called with a line about the progress."""


class _Reached(Exception):
    """The command has reached its checkpoint."""


def snapshot_command(
    wasm: bytes,
    program: Program,
    tool: str,
    report: Report = lambda line: None,
    artefacts: Artefacts | None = None,
) -> tuple[bytes, Checkpoint]:
    """Run a command to its checkpoint, and save it there.

    Args:
        wasm: A core module that exports ``_start``.
        program: What it is run with.
        tool: The path of ``wasm-opt``.
        report: Called with the progress.
        artefacts: The cache of compiled modules.

    Returns:
        The new module, and its checkpoint.

    Raises:
        SnapshotError: The module is not supported, or does not reach a checkpoint.
    """
    try:
        FunctionLayout.read(wasm)  # reports what is not supported first
        report("running to the checkpoint")
        checkpoint = _find_checkpoint(wasm, program, artefacts)

        def instrument(reduced: bytes, functions: Sequence[str]) -> bytes:
            imported = checkpoint.module, checkpoint.name
            return binaryen.instrument(reduced, tool, imported, functions)

        report("instrumenting the call stack")
        unwindable = make_unwindable(wasm, frozenset(checkpoint.stack), instrument)
        report("saving the state")
        state, stack = _run_and_unwind(unwindable, checkpoint, program, artefacts)
        made = write_snapshot(unwindable, checkpoint, state, stack, program.has_prelude)
        return made, checkpoint
    except MalformedModuleError as error:
        raise SnapshotError(f"not a valid module: {error}") from None


def _find_checkpoint(wasm: bytes, program: Program, artefacts: Artefacts | None) -> Checkpoint:
    found: list[Checkpoint] = []

    def on_checkpoint(host: Host, module: str, name: str) -> None:
        found.append(Checkpoint(module, name, host.stack()))
        raise _Reached

    host = Host(StateLayout.read(wasm).observable(wasm), program, on_checkpoint, artefacts)
    try:
        host.run(_START)
    except _Reached:
        _check(host)
        return found[0]
    except ExitedError as error:
        status = error.status
    else:
        status = 0
    raise SnapshotError(_ended_early(host, program, status))


def _ended_early(host: Host, program: Program, status: int) -> str:
    if program.has_prelude:
        what = "reading stdin, which is what ends a prelude"
    elif program.checkpoint:
        what = f"a call of {program.checkpoint!r}"
    else:
        what = "any call that depends on the request"
    lines = host.calls.stderr.decode(errors="replace").strip().splitlines()
    last = f": {lines[-1].strip()}" if lines else ""
    return f"the module exited with status {status} before {what}{host.calls.doing}{last}"


def _check(host: Host) -> None:
    """Check that the state at the checkpoint can be shared by requests."""
    if host.calls.opened:
        paths = ", ".join(sorted(host.calls.opened.values()))
        raise SnapshotError(
            f"the module holds open files at its checkpoint, which requests cannot share: {paths}"
        )
    if stages := sorted(
        stage for stage in host.calls.random_stages if stage.startswith("importing")
    ):
        raise SnapshotError(
            f"random numbers are drawn while {stages[0]}: they would be the same in all requests;"
            " draw them in a function that handles the request"
        )


def _run_and_unwind(
    unwindable: Unwindable,
    checkpoint: Checkpoint,
    program: Program,
    artefacts: Artefacts | None,
) -> tuple[State, SavedStack]:
    layout = StateLayout.read(unwindable.wasm)
    names = {index: name for index, _, name in layout.mutable_globals()}
    saved: list[int] = []

    def on_checkpoint(host: Host, module: str, name: str) -> None:
        if (module, name, host.stack()) != (checkpoint.module, checkpoint.name, checkpoint.stack):
            raise SnapshotError("the module has reached different checkpoints in two runs")
        pages = -(-STACK_MAX // PAGE)
        try:
            address = host.memory.grow(host.store, pages) * PAGE
        except Exception:  # wasmtime raises WasmtimeError
            raise SnapshotError(
                "the module's memory cannot grow by 1 MiB, which saving its stack requires"
            ) from None
        start, end = address + HEADER_SIZE, address + STACK_MAX
        host.memory.write(
            host.store, start.to_bytes(4, "little") + end.to_bytes(4, "little"), address
        )
        host.set_global(names[unwindable.data], address)
        host.set_global(names[unwindable.state], UNWINDING)
        saved.append(address)

    host = Host(layout.observable(unwindable.wasm), program, on_checkpoint, artefacts)
    tables = table_sizes(host.instance, host.store)
    try:
        host.run(_START)
    except ExitedError as error:
        raise SnapshotError(_ended_early(host, program, error.status)) from None
    if not saved:
        raise SnapshotError(_ended_early(host, program, 0))
    _check(host)
    if table_sizes(host.instance, host.store) != tables:
        raise SnapshotError("the module changes its tables before its checkpoint")
    host.set_global(names[unwindable.state], REWINDING)
    state = read_state(host.instance, host.store, layout)
    (address,) = saved
    top = int.from_bytes(state.memory[address : address + 4], "little")
    size = top - address
    end = address + -(-size // PAGE) * PAGE
    return State(state.memory[:end], state.globals), SavedStack(address, size)
