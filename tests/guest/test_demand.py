"""The part of the memory budget that a module's guests need to start."""

from __future__ import annotations

import pytest
from wasmtime import Engine, Module, wat2wasm

from wagi.guest.demand import MemoryDemand, memory_demand

pytestmark = pytest.mark.fast

LIMIT = 64 * 1024**2
PAGE = 64 * 1024
TABLES = LIMIT // 8


MEMORY = '(memory (export "memory") 1)'


@pytest.mark.parametrize(
    ("fields", "demand"),
    [
        ("", MemoryDemand(0, 0, 0)),
        ('(memory (export "memory") 3)', MemoryDemand(3 * PAGE, LIMIT)),
        ('(memory (export "memory") 0 9)', MemoryDemand(0, LIMIT)),
        (MEMORY + "(table 10 funcref) (table 5 externref)", MemoryDemand(PAGE, LIMIT, 15 * 8)),
        (MEMORY + "(type (func (param (ref null 0) externref i32) (result v128)))",
         MemoryDemand(PAGE, LIMIT)),
        # Growth that cannot be observed counts from the start: a memory,
        ("(memory 1)", MemoryDemand(LIMIT, LIMIT)),
        ('(memory 1) (export "other" (memory 0)) (func (export "memory"))',
         MemoryDemand(LIMIT, LIMIT)),
        (MEMORY + "(memory 1)", MemoryDemand(LIMIT, LIMIT)),
        # a table,
        (MEMORY + "(table 10 funcref) (func (drop (table.grow (ref.null func) (i32.const 1))))",
         MemoryDemand(PAGE, LIMIT, TABLES)),
        # and the garbage-collected heap.
        (MEMORY + "(type (array i8))", MemoryDemand(2 * LIMIT, 2 * LIMIT)),
        ("(type (struct))", MemoryDemand(LIMIT, LIMIT)),
        ("(rec (type (func)) (type (func)))", MemoryDemand(LIMIT, LIMIT)),
        (MEMORY + "(tag (param i32))", MemoryDemand(2 * LIMIT, 2 * LIMIT)),
    ],
)  # fmt: skip
def test_demand(fields: str, demand: MemoryDemand) -> None:
    assert memory_demand(bytes(wat2wasm(f"(module {fields})")), LIMIT) == demand


@pytest.mark.parametrize("number", [b"\x0f", b"\x8f\x00", b"\x8f\x80\x00", b"\x8f\x80\x80\x80\x00"])
def test_overlong_opcodes(number: bytes) -> None:
    """A valid encoding, with which a module must not circumvent the budget."""
    body = b"\x00\xd0\x70\x41\x01\xfc" + number + b"\x00\x1a\x0b"
    code = b"\x01" + bytes([len(body)]) + body
    wasm = (
        b"\0asm\x01\0\0\0"
        b"\x01\x04\x01\x60\x00\x00"  # one type: a function
        b"\x03\x02\x01\x00"  # one function
        b"\x04\x04\x01\x70\x00\x01"  # a table of one element
        b"\x0a" + bytes([len(code)]) + code
    )
    assert Module.validate(Engine(), wasm) is None  # raises if it is invalid
    assert memory_demand(wasm, LIMIT).tables == TABLES
