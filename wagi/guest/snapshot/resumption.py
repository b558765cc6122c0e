"""Write the snapshot of a command: a module whose ``_start`` continues at the checkpoint. Pure.

In the function that made the host call of the checkpoint, this call is replaced with a call of the
*resumption*, a new function. When the stack is restored, it is called again: it ends the restoring,
and makes the host call. With a prelude, that call is a read of stdin, and the resumption returns
the variables and arguments of the request instead:

::

    offset  size  field
    0       4     size of the variables in bytes
    4       4     size of the arguments in bytes
    8             the variables as NAME=VALUE, then the arguments, each followed by a NUL byte
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from wagi.guest.binary import PAGE
from wagi.guest.capi.engine import wat_to_wasm
from wagi.guest.encoding import replace_sections
from wagi.guest.relocation import UNCHANGED, Indices, Relocation
from wagi.guest.snapshot.errors import SnapshotError
from wagi.guest.snapshot.functions import FunctionLayout, relocate
from wagi.guest.snapshot.state import State, StateLayout
from wagi.guest.snapshot.unwinding import REWINDING, Unwindable, encode_functions

HEADER_SIZE = 16  # bytes before a saved stack: the two pointers of Asyncify, and scratch space
_REQUEST_CALLS = ("environ_sizes_get", "environ_get", "args_sizes_get", "args_get")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a command has stopped.

    Attributes:
        module: The module name of the host call.
        name: The name of the host call.
        stack: The indices of the functions on the stack, the innermost one first.
    """

    module: str
    name: str
    stack: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SavedStack:
    """A saved stack.

    Attributes:
        address: Where it is in memory, with its header.
        size: Its size in bytes, with its header.
    """

    address: int
    size: int


def write_snapshot(
    unwindable: Unwindable,
    checkpoint: Checkpoint,
    state: State,
    stack: SavedStack,
    has_prelude: bool,
) -> bytes:
    """Write the module that continues at the checkpoint.

    Args:
        unwindable: The module that was run.
        checkpoint: Where it stopped.
        state: The state of the instance, which restores its stack when ``_start`` is called.
        stack: The saved stack.
        has_prelude: Whether the checkpoint gets the variables and arguments of a request.

    Raises:
        SnapshotError: The module lacks an import that the prelude requires.
    """
    functions = FunctionLayout.read(unwindable.wasm)
    called = functions.import_index(checkpoint.module, checkpoint.name)
    assert called is not None
    resumption = len(functions.imports) + len(functions.defined)
    _add_resumption(functions, called, unwindable.state, stack, has_prelude)
    caller = checkpoint.stack[0]
    same = {index: index for index in range(resumption)}
    layout = StateLayout.read(unwindable.wasm)
    redirected = Relocation(UNCHANGED, Indices({**same, called: resumption}), UNCHANGED)
    functions.bodies[caller - len(functions.imports)] = relocate(functions.body(caller), redirected)
    wasm = replace_sections(layout.with_state(unwindable.wasm, state), encode_functions(functions))
    return _without_debug_information(wasm)


def _add_resumption(
    functions: FunctionLayout,
    called: int,
    state: int,
    stack: SavedStack,
    has_prelude: bool,
) -> None:
    """Append the resumption to the functions of a module."""
    module, name, type_index = functions.imports[called]
    signature = functions.types[type_index]
    imports = [called]
    if has_prelude:
        text = _request_resumption(stack)
        for call in _REQUEST_CALLS:
            index = functions.import_index(module, call)
            if index is None:
                raise SnapshotError(f"the module does not import {call!r}, which a prelude needs")
            imports.append(index)
    else:
        text = _plain_resumption(name, signature, stack)
    made = FunctionLayout.read(wat_to_wasm(text))
    types = {index: functions.type_index(encoded) for index, encoded in enumerate(made.types)}
    relocation = Relocation(Indices(types), Indices.of(imports), Indices({0: state}))
    functions.defined.append(types[made.defined[0]])
    functions.bodies.append(relocate(made.bodies[0], relocation))


def _stop_rewinding(stack: SavedStack) -> str:
    """The instructions that end the restoring and clear the memory that the stack was in."""
    return (
        "(global.set $state (i32.const 0))"
        f" (memory.fill (i32.const {stack.address}) (i32.const 0) (i32.const {stack.size}))"
    )


_VALUE_TYPES = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64"}


def _plain_resumption(name: str, signature: bytes, stack: SavedStack) -> str:
    """A function that ends the restoring, if it is in progress, and makes the host call."""
    count = signature[1]
    kinds = [*signature[2 : 2 + count], *signature[3 + count :]]
    if any(kind not in _VALUE_TYPES for kind in kinds):
        raise SnapshotError(f"the host call {name!r} has an unsupported type")
    params = " ".join(f"(param {_VALUE_TYPES[kind]})" for kind in kinds[:count])
    results = " ".join(f"(result {_VALUE_TYPES[kind]})" for kind in kinds[count:])
    values = " ".join(f"(local.get {index})" for index in range(count))
    return f"""(module
      (import "host" "call" (func $call {params} {results}))
      (import "host" "memory" (memory 1))
      (import "host" "state" (global $state (mut i32)))
      (func {params} {results}
        (if (i32.eq (global.get $state) (i32.const {REWINDING}))
          (then {_stop_rewinding(stack)}))
        (call $call {values})))"""


def _request_resumption(stack: SavedStack) -> str:
    """A function that ends the restoring, if it is in progress, and returns the request.

    The page of the saved stack is the scratch space for the pointers that WASI returns.
    """
    scratch = stack.address + HEADER_SIZE
    room = (-(-stack.size // PAGE) * PAGE - HEADER_SIZE) // 4
    environ_count, environ_size, argument_count, argument_size = (
        f"(i32.load (i32.const {stack.address + 4 * index}))" for index in range(4)
    )
    return f"""(module
      (import "host" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
      (import "host" "0" (func $environ_sizes_get (param i32 i32) (result i32)))
      (import "host" "1" (func $environ_get (param i32 i32) (result i32)))
      (import "host" "2" (func $args_sizes_get (param i32 i32) (result i32)))
      (import "host" "3" (func $args_get (param i32 i32) (result i32)))
      (import "host" "memory" (memory 1))
      (import "host" "state" (global $state (mut i32)))
      (func (param $fd i32) (param $buffers i32) (param $count i32) (param $read i32) (result i32)
        (local $to i32) (local $size i32)
        (if (i32.ne (global.get $state) (i32.const {REWINDING}))
          (then (return (call $fd_read
            (local.get $fd) (local.get $buffers) (local.get $count) (local.get $read)))))
        {_stop_rewinding(stack)}
        (drop (call $environ_sizes_get
          (i32.const {stack.address}) (i32.const {stack.address + 4})))
        (drop (call $args_sizes_get
          (i32.const {stack.address + 8}) (i32.const {stack.address + 12})))
        (local.set $to (i32.load (local.get $buffers)))
        (local.set $size (i32.add (i32.const 8) (i32.add {environ_size} {argument_size})))
        (if (i32.or
              (i32.gt_u (local.get $size) (i32.load offset=4 (local.get $buffers)))
              (i32.or (i32.gt_u {environ_count} (i32.const {room}))
                (i32.gt_u {argument_count} (i32.const {room}))))
          (then (return (i32.const 61))))  ;; EOVERFLOW
        (i32.store (local.get $to) {environ_size})
        (i32.store offset=4 (local.get $to) {argument_size})
        (drop (call $environ_get
          (i32.const {scratch}) (i32.add (local.get $to) (i32.const 8))))
        (drop (call $args_get
          (i32.const {scratch})
          (i32.add (i32.add (local.get $to) (i32.const 8)) {environ_size})))
        (i32.store (local.get $read) (local.get $size))
        (i32.const 0)))"""


def _without_debug_information(wasm: bytes, prefixes: Collection[str] = (".debug_",)) -> bytes:
    """Remove what describes offsets in the code, which have changed."""
    from wagi.guest.binary import custom_sections

    names = [name for name, _ in custom_sections(wasm) if name.startswith(tuple(prefixes))]
    return replace_sections(wasm, {}, names)
