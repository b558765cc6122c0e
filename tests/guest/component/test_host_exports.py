"""What the host needs of a core module is added, and nothing else changes."""

from __future__ import annotations

import pytest
import wasmtime

from wagi.guest.binary import MalformedModuleError, sections
from wagi.guest.capi.engine import wat_to_wasm
from wagi.guest.component.errors import UnsupportedComponentError
from wagi.guest.component.host_exports import PLACE, add_host_exports

pytestmark = pytest.mark.fast

ENGINE = wasmtime.Engine()
ALLOCATOR = """
  (global $heap (mut i32) (i32.const 4096))
  (func $realloc (export "allocate") (param i32 i32 i32 i32) (result i32)
    (global.get $heap)
    (global.set $heap (i32.add (global.get $heap) (local.get 3))))"""
MODULE = f"""(module
  (import "wasi:cli/stdin" "get-stdin" (func (result i32)))
  (memory (export "memory") 1) {ALLOCATOR}
  (func (export "run") (result i32) (i32.const 0)))"""


def added(text: str, memory: str | None = "memory", called: tuple[str, ...] = ("run",)) -> bytes:
    return add_host_exports(wat_to_wasm(text), memory, ("allocate",), called)


def exports(wasm: bytes) -> list[str]:
    return [item.name for item in wasmtime.Module(ENGINE, wasm).exports]


def test_the_helper_is_added_behind_all_functions() -> None:
    before = wat_to_wasm(MODULE)
    after = added(MODULE)
    assert exports(after) == [*exports(before), PLACE]
    old, new = list(sections(before)), list(sections(after))
    changed = {
        section.number
        for section, other in zip(old, new, strict=True)
        if before[section.start : section.end] != after[other.start : other.end]
    }
    assert changed == {1, 3, 7, 10}  # types, functions, exports, code


@pytest.mark.parametrize("stride", [8, 12])
@pytest.mark.parametrize("strings", [[], [b""], [b"one", b"", b"three" * 100]])
def test_the_helper_copies_each_string(strings: list[bytes], stride: int) -> None:
    store = wasmtime.Store(ENGINE)
    linker = wasmtime.Linker(ENGINE)
    linker.define_func(
        "wasi:cli/stdin", "get-stdin", wasmtime.FuncType([], [wasmtime.ValType.i32()]), lambda: 0
    )
    made = linker.instantiate(store, wasmtime.Module(ENGINE, added(MODULE))).exports(store)
    memory, place = made["memory"], made[PLACE]
    assert isinstance(memory, wasmtime.Memory)
    assert isinstance(place, wasmtime.Func)
    at, table = 1024, 64
    for index, text in enumerate(strings):
        memory.write(store, text, at)
        entry = at.to_bytes(4, "little") + len(text).to_bytes(4, "little")
        memory.write(store, entry, table + index * stride)
        at += len(text)
    place(store, table, len(strings), stride)
    expected = 4096
    for index, text in enumerate(strings):
        entry = bytes(memory.read(store, table + index * stride, table + index * stride + 8))
        address, length = int.from_bytes(entry[:4], "little"), int.from_bytes(entry[4:], "little")
        assert (address, length) == (expected, len(text))
        assert bytes(memory.read(store, address, address + length)) == text
        expected += len(text)


def test_the_memory_has_a_known_name() -> None:
    """Another export of this name, which the host does not use, disappears."""
    heap = MODULE.replace('(memory (export "memory") 1)', '(memory (export "heap") 1)')
    assert exports(added(heap, "heap")) == ["memory", "allocate", "run", PLACE]
    other = heap.replace("(func (export", '(func (export "memory")) (func (export')
    assert exports(added(other, "heap")) == ["memory", "allocate", "run", PLACE]
    with pytest.raises(UnsupportedComponentError, match="'memory'"):
        added(other, "heap", ("memory",))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(memory (export", "(memory 1) (memory (export"),
        ("(memory (export", "(type (struct)) (memory (export"),
    ],
)
def test_unusual_modules_get_no_helper(old: str, new: str) -> None:
    """Host calls then allocate each string by itself."""
    config = wasmtime.Config()
    config.wasm_multi_memory = True
    config.wasm_gc = True
    text = MODULE.replace(old, new, 1)
    assert added(text) == wat_to_wasm(text)


def test_nothing_is_added_without_an_allocator() -> None:
    wasm = wat_to_wasm(MODULE)
    assert add_host_exports(wasm, "memory", (), ("run",)) is wasm
    assert add_host_exports(wasm, None, (), ("run",)) is wasm


def test_a_module_that_exports_the_helper_itself_is_rejected() -> None:
    with pytest.raises(MalformedModuleError, match="twice"):
        added(MODULE.replace('(export "run")', f'(export "{PLACE}")'))
