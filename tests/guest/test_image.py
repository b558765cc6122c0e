"""Data images of modules: a guest's initial memory is the same with and without one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wasmtime import Engine, Instance, Memory, Module, Store, Trap, wat2wasm

from wagi.guest.image import DataImage, extract_data

pytestmark = pytest.mark.fast

PAGE = 65536
ENGINE = Engine()


def module(fields: str) -> bytes:
    return bytes(wat2wasm(f"(module {fields})"))


def text(data: bytes) -> str:
    return '"' + "".join(f"\\{byte:02x}" for byte in data) + '"'


def extract(fields: str, threshold: int = 0) -> tuple[bytes, DataImage] | None:
    return extract_data(module(fields), threshold)


def memory_of(wasm: bytes, image: DataImage | None = None) -> bytes:
    """Return the initial memory of an instance."""
    store = Store(ENGINE)
    memory = Instance(store, Module(ENGINE, wasm), []).exports(store)["memory"]
    assert isinstance(memory, Memory)
    content = bytearray(memory.read(store))
    if image:
        assert image.memory_size == len(content)
        assert image.offset % PAGE == len(image.data) % PAGE == 0
        part = slice(image.offset, image.offset + len(image.data))
        assert not any(content)
        assert part.stop <= len(content)
        content[part] = image.data
    return bytes(content)


@given(
    st.lists(
        st.tuples(st.integers(0, 4 * PAGE - 300), st.binary(max_size=300), st.booleans()),
        min_size=1,
        max_size=8,
    )
)
def test_same_memory(segments: list[tuple[int, bytes, bool]]) -> None:
    fields = '(memory (export "memory") 4)' + "".join(
        f"(data {text(data)})" if passive else f"(data (i32.const {offset}) {text(data)})"
        for offset, data, passive in segments
    )
    extracted = extract(fields)
    active = [(offset, data) for offset, data, passive in segments if data and not passive]
    if extracted is None:
        total = sum(len(data) for _, data in active)
        low = min((offset for offset, _ in active), default=0)
        high = max((offset + len(data) for offset, data in active), default=0)
        assert not active or high - low > 2 * total
        return
    wasm, image = extracted
    assert memory_of(wasm, image) == memory_of(module(fields))


def test_later_segments_overwrite_earlier_ones() -> None:
    extracted = extract('(memory 1) (data (i32.const 8) "aaaa") (data (i32.const 10) "bb")')
    assert extracted is not None
    assert extracted[1].data[8:13] == b"aabb\0"


def test_an_image_consists_of_whole_pages() -> None:
    extracted = extract(f"(memory 3) (data (i32.const {PAGE + 5}) {text(b'x' * PAGE)})")
    assert extracted is not None
    assert extracted[1] == DataImage(PAGE, b"\0" * 5 + b"x" * PAGE + b"\0" * (PAGE - 5), 3 * PAGE)


def test_threshold() -> None:
    fields = '(memory 1) (data (i32.const 0) "12345") (data (i32.const 5) "67890")'
    assert extract(fields, threshold=10) is None
    assert extract(fields, threshold=9) is not None


def test_addresses_beyond_2_gib_are_negative_constants() -> None:
    extracted = extract('(memory 65536) (data (i32.const 0x80000000) "high")')
    assert extracted is not None
    assert extracted[1].offset == 0x80000000


@pytest.mark.parametrize("segment", [0, 1])
def test_instructions_on_segments(segment: int) -> None:
    """Active segments are dropped before the first instruction, passive ones are not."""
    fields = f"""(memory (export "memory") 1) (data (i32.const 0) "active") (data "passive")
      (func (export "none") (memory.init {segment} (i32.const 0) (i32.const 0) (i32.const 0)))
      (func (export "some") (memory.init {segment} (i32.const 9) (i32.const 0) (i32.const 5)))
      (func (export "drop") (data.drop {segment}))"""
    extracted = extract(fields)
    assert extracted is not None
    results = []
    for wasm in (module(fields), extracted[0]):
        store = Store(ENGINE)
        exports = Instance(store, Module(ENGINE, wasm), []).exports(store)
        outcome = []
        for name in ("none", "some", "drop", "none", "some"):
            try:
                exports[name](store)  # type: ignore[operator]
                outcome.append("returned")
            except Trap:
                outcome.append("trapped")
        memory = exports["memory"]
        assert isinstance(memory, Memory)
        results.append((outcome, bytes(memory.read(store, 9, 20))))
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "fields",
    [
        "",
        "(memory 1)",
        '(memory 1) (data "passive")',
        '(memory 1) (data (i32.const 0) "")',
        '(import "m" "m" (memory 1)) (data (i32.const 0) "imported memory")',
        '(memory 1) (memory 1) (data (i32.const 0) "two memories")',
        '(memory 1) (memory 1) (data (memory 1) (i32.const 0) "another memory")',
        '(memory i64 1) (data (i64.const 0) "64 bits")',
        '(memory 1 1 shared) (data (i32.const 0) "shared")',
        '(import "m" "g" (global i32)) (memory 1) (data (global.get 0) "imported place")',
        '(memory 1) (data (i32.add (i32.const 1) (i32.const 2)) "computed place")',
        '(memory 1) (data (i32.const 65530) "beyond the end")',
        '(memory 0) (data (i32.const 0) "no memory at first")',
        '(memory 1) (data (i32.const 65537) "")  (data (i32.const 0) "empty, beyond the end")',
        '(memory 1) (data (i32.const -1) "beyond the end")',
        '(memory 9) (data (i32.const 0) "mostly") (data (i32.const 9000) "gap")',
        '(memory 1) (tag) (data (i32.const 0) "exceptions are collected objects")',
        '(type (array i8)) (memory 1) (data (i32.const 0) "arrays, too")',
    ],
)
def test_unchanged_modules(fields: str) -> None:
    assert extract(fields) is None


def test_an_explicit_index_of_memory_0() -> None:
    wasm = module('(memory (export "memory") 1) (data (i32.const 3) "data")')
    at = wasm.index(b"\x0b\x0a\x01\x00\x41\x03\x0b\x04data")
    indexed = wasm[:at] + b"\x0b\x0b\x01\x02\x00\x41\x03\x0b\x04data" + wasm[at + 12 :]
    Module.validate(ENGINE, indexed)
    extracted = extract_data(indexed, 0)
    assert extracted is not None
    assert memory_of(*extracted) == memory_of(indexed)


def test_other_sections_are_unchanged() -> None:
    fields = """(memory (export "memory") 1) (data (i32.const 0) "data") (data "kept")
      (func (export "f") (memory.init 1 (i32.const 0) (i32.const 0) (i32.const 4)))
      (@custom "mine" "content")"""
    extracted = extract(fields)
    assert extracted is not None
    wasm = module(fields)
    assert b"mine" in extracted[0]
    assert wasm[: wasm.index(b"\x0b\x10")] == extracted[0][: wasm.index(b"\x0b\x10")]


@given(st.data())
def test_malformed_modules(data: st.DataObject) -> None:
    """The module is unchanged, or the result can be parsed; nothing is raised."""
    wasm = bytearray(module('(memory 1) (data (i32.const 8) "abcdef") (data "passive")'))
    for _ in range(data.draw(st.integers(1, 3))):
        wasm[data.draw(st.integers(8, len(wasm) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(wasm[: data.draw(st.integers(8, len(wasm)))])
    extracted = extract_data(cut, 0)
    if extracted:
        image = extracted[1]
        assert image.offset + len(image.data) <= image.memory_size
