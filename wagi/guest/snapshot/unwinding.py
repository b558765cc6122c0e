"""Make the call stack of a module unwindable. Pure, except for the tool that it calls.

Only the functions that are on the stack at the checkpoint are instrumented. They are given to
Binaryen in a copy of the module in which all others are placeholders, and put back into the
original, whose other code stays as it is, byte by byte. So the size of the module hardly changes,
and Binaryen takes a second where it would take minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from wagi.guest.binary import Reader, SectionNumber, leb
from wagi.guest.encoding import encode_name, replace_sections, sized, vector
from wagi.guest.relocation import Indices, Relocation
from wagi.guest.snapshot.binaryen import function_index, function_name
from wagi.guest.snapshot.constants import constant
from wagi.guest.snapshot.errors import SnapshotError
from wagi.guest.snapshot.functions import FunctionLayout, function_names, relocate
from wagi.guest.snapshot.state import StateLayout

_I32 = 0x7F
_PLACEHOLDER = b"\0\0\x0b"  # no locals, unreachable, end
_GLOBAL_GET = 0x23

Instrument = Callable[[bytes, Sequence[str]], bytes]
"""``instrument(wasm, functions)`` instruments the named functions with Asyncify."""


@dataclass(frozen=True, slots=True)
class Unwindable:
    """A module whose stack can be unwound.

    Attributes:
        wasm: The module.
        state: The index of the global that says whether the stack is being unwound or restored.
        data: The index of the global that points to the saved stack.
    """

    wasm: bytes
    state: int
    data: int


NORMAL, UNWINDING, REWINDING = 0, 1, 2
"""The values of the global ``state``, as Asyncify defines them."""


def make_unwindable(wasm: bytes, stack: Collection[int], instrument: Instrument) -> Unwindable:
    """Instrument the functions of a call stack.

    Args:
        wasm: The module.
        stack: The indices of the functions.
        instrument: Calls Binaryen.

    Raises:
        SnapshotError: That is not possible.
    """
    layout = FunctionLayout.read(wasm)
    globals_ = StateLayout.read(wasm)
    old_globals = globals_.imported_globals + len(globals_.globals)
    instrumented = instrument(
        _reduced(wasm, layout, stack), [function_name(index) for index in sorted(stack)]
    )
    found = FunctionLayout.read(instrumented)
    names = {index: function_index(text) for index, text in function_names(instrumented).items()}
    indices = {index: old for index, old in names.items() if old is not None}
    if set(stack) - set(indices.values()):
        raise SnapshotError("Binaryen has not returned all functions of the call stack")
    state, data = _state_globals(instrumented, found)
    new_globals = {index: index for index in range(old_globals)}
    new_globals |= {state: old_globals, data: old_globals + 1}
    types = {index: layout.type_index(encoded) for index, encoded in enumerate(found.types)}
    relocation = Relocation(Indices(types), Indices(indices), Indices(new_globals))
    for index, old in indices.items():
        if old in stack:
            body = relocate(found.body(index), relocation)
            layout.bodies[old - len(layout.imports)] = body
    items = [bytes([kind, mutable]) + start for kind, mutable, start in globals_.globals]
    items += [bytes([_I32, 1]) + constant(_I32, 0)] * 2
    sections = {**encode_functions(layout), SectionNumber.GLOBALS: vector(items)}
    return Unwindable(replace_sections(wasm, sections), old_globals, old_globals + 1)


def encode_functions(layout: FunctionLayout) -> dict[int, bytes | None]:
    """Encode the sections of types, functions and code."""
    return {
        SectionNumber.TYPES: vector(layout.types),
        SectionNumber.FUNCTIONS: vector([leb(index) for index in layout.defined]),
        SectionNumber.CODE: vector([sized(body) for body in layout.bodies]),
    }


def _reduced(wasm: bytes, layout: FunctionLayout, stack: Collection[int]) -> bytes:
    """Return the module with names, without data, and with placeholders for other functions."""
    first = len(layout.imports)
    bodies = [
        sized(body if index in stack else _PLACEHOLDER)
        for index, body in enumerate(layout.bodies, first)
    ]
    names = vector(
        [leb(index) + encode_name(function_name(index)) for index in range(first + len(bodies))]
    )
    modes = StateLayout.read(wasm).passive
    changed = replace_sections(
        wasm,
        {
            SectionNumber.CODE: vector(bodies),
            SectionNumber.START: None,
            SectionNumber.CUSTOM: None,
            # Instructions may refer to segments by their numbers.
            SectionNumber.DATA: vector([b"\x01\0"] * len(modes)) if modes else None,
        },
    )
    return changed + b"\0" + sized(encode_name("name") + b"\x01" + sized(names))


def _state_globals(wasm: bytes, layout: FunctionLayout) -> tuple[int, int]:
    """Find the two globals that Asyncify has added.

    ``asyncify_get_state`` consists of the instruction that reads the first one.
    """
    parsed = StateLayout.read(wasm)
    total = parsed.imported_globals + len(parsed.globals)
    exports = dict(parsed.exports)
    described = exports.get("asyncify_get_state")
    if described is None:
        raise SnapshotError("Binaryen has not instrumented the module: update it")
    body = layout.body(Reader(described, 1, len(described)).u32())
    reader = Reader(body, 0, len(body))
    if reader.u32() != 0 or reader.byte() != _GLOBAL_GET:
        raise SnapshotError("this version of Binaryen is not supported")
    state = reader.u32()
    if state not in (total - 2, total - 1):
        raise SnapshotError("this version of Binaryen is not supported")
    return state, 2 * total - 3 - state
