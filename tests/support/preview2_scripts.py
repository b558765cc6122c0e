"""Scripts of host calls of WASI preview 2 with any arguments, and a guest that performs them.

A script is a sequence of records: the number of a function, then one byte for each argument that
selects its value from ``_VALUES``, or from the results of calls before. The guest reads the script
from its input, whose rest the calls can read.
"""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path

from tests.support.linkers import linker
from tests.support.preview2 import ALLOCATOR, handler
from wagi.guest.guest import Guest
from wagi.guest.handler import Handler, Preopen
from wagi.guest.outcome import Outcome

MAX_CALLS = 24
MAX_STEPS = 2000
"""Maximum number of slices and waits of a script."""
_ARGUMENTS = 16  # values in a record
_RECORD = struct.Struct(f"<{_ARGUMENTS + 1}Q")
_SCRIPT_AT, _TEXT_AT = 16384, 1024
_TEXT = b"/data\0file\0../outside\0folder\0.\0link\0"
_VALUES = (
    *range(12),
    16,
    64,
    100,
    _TEXT_AT,
    _TEXT_AT + 6,
    _TEXT_AT + 11,
    _TEXT_AT + 22,
    _TEXT_AT + 29,
    _TEXT_AT + 31,
    2048,
    4096,
    65536,
    131072 - 4,
    131072,
    1 << 31,
    (1 << 32) - 1,
    (1 << 32) - 16,
    1 << 63,
    (1 << 64) - 1,
)
_RESULT = 0xF0
"""From this byte on, an argument is the 4 bytes at an address: the results of calls before."""


@cache
def functions() -> list[tuple[str, str]]:
    """Return all host calls of components."""
    return sorted(linker(False).component_calls)


def _interpreter() -> str:
    imports, cases = [], []
    for number, (interface, name) in enumerate(functions()):
        found = linker(False).component_calls[interface, name]
        types = {"I": "i32", "Q": "i64"}
        type_ = "".join(f"(param {types[each]})" for each in found.parameters)
        type_ += "".join(f"(result {types[each]})" for each in found.results)
        imports.append(f'(import "{interface}" "{name}" (func $f{number} {type_}))')
        loads = "".join(
            f"({types[each]}.load offset={8 + 8 * index} (local.get $at))"
            for index, each in enumerate(found.parameters)
        )
        call = f"(call $f{number} {loads})"
        if found.results:  # kept where later calls find it
            call = f"({types[found.results]}.store (i32.const 512) {call})"
        cases.append(f"(if (i32.eq (local.get $n) (i32.const {number})) (then {call}))")
    stdin = functions().index(("wasi:cli/stdin", "get-stdin"))
    read = functions().index(("wasi:io/streams", "[method]input-stream.blocking-read"))
    return f"""(module {" ".join(imports)}
      (memory (export "memory") 2)
      (data (i32.const {_TEXT_AT}) "{_TEXT.decode().replace(chr(0), chr(92) + "00")}")
      {ALLOCATOR}
      (func (export "run") (result i32) (local $at i32) (local $end i32) (local $n i32)
        (global.set $heap (i32.const {_SCRIPT_AT}))
        (call $f{read} (call $f{stdin}) (i64.const {MAX_CALLS * _RECORD.size}) (i32.const 0))
        (local.set $at (i32.load (i32.const 4)))
        (local.set $end (i32.add (local.get $at) (i32.load (i32.const 8))))
        (block $done (loop $next
          (br_if $done (i32.gt_u (i32.add (local.get $at) (i32.const {_RECORD.size}))
            (local.get $end)))
          (local.set $n (i32.load (local.get $at)))
          (call $resolve (local.get $at))
          {" ".join(cases)}
          (local.set $at (i32.add (local.get $at) (i32.const {_RECORD.size})))
          (br $next)))
        (i32.const 0))
      (func $resolve (param $at i32) (local $end i32)
        (local.set $end (i32.add (local.get $at) (i32.const {_RECORD.size})))
        (loop $next
          (if (i32.eq (i32.load offset=4 (local.get $at)) (i32.const {_RESULT}))
            (then (i64.store (local.get $at) (i64.load32_u (i32.load (local.get $at))))))
          (local.set $at (i32.add (local.get $at) (i32.const 8)))
          (br_if $next (i32.lt_u (local.get $at) (local.get $end))))))"""


@cache
def _handler(compiled: bool, volume: str) -> Handler:
    return handler(_interpreter(), compiled, (Preopen(volume, "/data"),))


def encode(data: bytes) -> bytes:
    """Make a script of any bytes."""
    records: list[bytes] = []
    at = 0
    while at < len(data) and len(records) < MAX_CALLS:
        number = data[at] % len(functions())
        values = [number]
        parameters = linker(False).component_calls[functions()[number]].parameters
        for index in range(len(parameters)):
            byte = data[at + 1 + index] if at + 1 + index < len(data) else 0
            if byte >= _RESULT:
                values.append(_RESULT << 32 | (512, 4, 8, 12)[byte % 4])
            else:
                values.append(_VALUES[byte % len(_VALUES)])
        at += 1 + len(parameters)
        records.append(_RECORD.pack(*values, *[0] * (_ARGUMENTS + 1 - len(values))))
    return b"".join(records)


def run_script(data: bytes, compiled: bool, volume: Path) -> Outcome | None:
    """Run a script to its end, or until it sleeps.

    Args:
        data: The bytes of the script.
        compiled: Whether the compiled core runs the guest.
        volume: The directory that the guest sees as ``/data``.

    Raises:
        AssertionError: It does not end.
    """
    made = _handler(compiled, str(volume))
    guest = Guest(made, b"a\0b\0", b"A=1\0", lambda written: None)
    try:
        guest.feed(encode(data))
        fed = False
        for _ in range(MAX_STEPS):
            if guest.step():
                return guest.outcome
            guest.take_output()
            if guest.wait.input and not fed:
                guest.feed(b"input")
                guest.end_input()
                fed = True
            elif guest.wait.wake_at is not None and not guest.wait.is_turn:
                return None
        raise AssertionError("the guest did not end in time")
    finally:
        guest.close()
