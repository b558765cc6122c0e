"""The parser of the WebAssembly binary format."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wasmtime import Engine, Module, wat2wasm

from wagi.guest.binary import (
    PAGE,
    MalformedModuleError,
    Reader,
    Sizes,
    check_magic,
    check_sections,
    custom_sections,
    initial_sizes,
    is_component,
    leb,
    producers,
    rename_imports,
    sections,
)

pytestmark = pytest.mark.fast

HEADER = b"\0asm\x01\0\0\0"
COMPONENT = b"\0asm\x0d\0\x01\0"
ENGINE = Engine()


def module(fields: str) -> bytes:
    return bytes(wat2wasm(f"(module {fields})"))


def section(number: int, content: bytes) -> bytes:
    return bytes([number]) + leb(len(content)) + content


def name(text: str) -> bytes:
    return leb(len(text.encode())) + text.encode()


def test_modules_and_components() -> None:
    assert is_component(COMPONENT)
    assert not is_component(HEADER)
    assert not is_component(COMPONENT[:7])
    check_magic(HEADER)
    assert list(sections(HEADER)) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a WebAssembly file"),
        (b"\0as", "not a WebAssembly file"),
        (b"\x7fELF", "not a WebAssembly file"),
        (b"(module)", "not a WebAssembly file"),
        (HEADER[:6], "version 1"),
        (b"\0asm\x02\0\0\0", "version 1"),
        (COMPONENT, "version 1"),
        (HEADER + b"\x01", "unexpected end of a section"),
        (HEADER + b"\x01\x80", "unexpected end of a section"),
        (HEADER + b"\x01\x02\0", "truncated"),
        (HEADER + b"\x01\xff\xff\xff\xff\x0f", "truncated"),
        (HEADER + b"\x01" + b"\xff" * 10, "an integer has too many bytes"),
    ],
)
def test_invalid_modules(content: bytes, message: str) -> None:
    with pytest.raises(MalformedModuleError, match=message):
        list(sections(content))


def test_a_truncated_module() -> None:
    whole = module('(memory 1) (data (i32.const 0) "text")')
    ends = {item.end for item in sections(whole)} | {len(HEADER)}
    for size in range(len(whole) + 1):
        if size in ends:
            list(sections(whole[:size]))
        else:
            with pytest.raises(MalformedModuleError):
                list(sections(whole[:size]))


def test_the_sections_of_modules_and_components_are_checked() -> None:
    for header in (HEADER, COMPONENT):
        check_sections(header + section(1, b"\0"))
        with pytest.raises(MalformedModuleError, match="truncated"):
            check_sections(header + section(1, b"\0")[:-1])
    with pytest.raises(MalformedModuleError, match="version 1"):
        check_sections(b"\0asm\x02\0\0\0")


def test_sections() -> None:
    content = HEADER + section(0, name("a") + b"1") + section(5, b"\x01\0\x02")
    first, second = sections(content)
    assert (first.number, first.header, first.start, first.end) == (0, 8, 10, 13)
    assert (second.number, second.header, second.start, second.end) == (5, 13, 15, 18)


@pytest.mark.parametrize(
    ("fields", "sizes"),
    [
        ("", Sizes()),
        ("(memory 0)", Sizes((0,))),
        ("(memory 3 10)", Sizes((3 * PAGE,))),
        ("(memory i64 2)", Sizes((2 * PAGE,))),
        ("(memory 1) (memory 200)", Sizes((PAGE, 200 * PAGE))),
        ("(memory 1 2 shared)", Sizes((PAGE,))),
        ("(table 5 funcref)", Sizes((), (5,))),
        ("(table 300 400 externref) (table 1 funcref)", Sizes((), (300, 1))),
        ('(import "a" "b" (memory 7)) (import "a" "c" (table 8 funcref))', Sizes()),
        ("(func $f) (table 5 (ref func) (ref.func $f)) (table 6 funcref)", Sizes((), (0, 0))),
        ("(table 4 funcref) (func $f) (table 5 (ref func) (ref.func $f))", Sizes((), (4, 0))),
    ],
)
def test_initial_sizes(fields: str, sizes: Sizes) -> None:
    assert initial_sizes(module(fields)) == sizes


@pytest.mark.parametrize(
    "content",
    [b"", b"\x01", b"\x01\0", b"\x02\0\x01", b"\xff\xff\xff\xff\x0f", b"\x01\x01\x80"],
)
@pytest.mark.parametrize("number", [4, 5])
def test_invalid_sizes(number: int, content: bytes) -> None:
    with pytest.raises(MalformedModuleError, match="unexpected end of a section"):
        initial_sizes(HEADER + section(number, content))


def test_custom_sections() -> None:
    content = HEADER + section(0, name("ä") + b"1") + section(5, b"\0") + section(0, name(""))
    assert list(custom_sections(content)) == [("ä", b"1"), ("", b"")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "unexpected end of a section"),
        (b"\x05abc", "unexpected end of a section"),
        (b"\x02\xff\xfe", "not valid UTF-8"),
        (b"\xff\xff\xff\xff\x0f", "unexpected end of a section"),
    ],
)
def test_an_invalid_name(content: bytes, message: str) -> None:
    with pytest.raises(MalformedModuleError, match=message):
        list(custom_sections(HEADER + section(0, content)))


def test_producers() -> None:
    language = name("language") + leb(1) + name("C11") + name("")
    tools = name("processed-by") + leb(2) + name("clang") + name("18.1") + name("ld") + name("18")
    assert producers(leb(2) + language + tools) == {
        "language": ["C11"],
        "processed-by": ["clang 18.1", "ld 18"],
    }
    assert producers(b"\0") == {}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x05",
        leb(1) + name("language"),
        leb(1) + name("language") + leb(100),
        leb(1) + name("language") + leb(1) + name("C"),
        leb(1) + b"\x02\xff\xfe" + leb(0),
    ],
)
def test_invalid_producers(content: bytes) -> None:
    with pytest.raises(MalformedModuleError):
        producers(content)


IMPORTS = """
  (import "old" "function" (func (param i32)))
  (import "old" "table" (table 1 2 funcref))
  (import "old" "memory" (memory 1))
  (import "old" "global" (global (mut i64)))
  (import "old" "tag" (tag (param i32)))
  (import "other" "function" (func))
  (func (export "run") (call 1))"""


def test_imports_are_renamed() -> None:
    renamed = rename_imports(
        module(IMPORTS), lambda module, name: f"new-{name}" * 20 if module == "old" else module
    )
    expected = ["function", "table", "memory", "global", "tag"]
    found = [(item.module, item.name) for item in Module(ENGINE, renamed).imports]
    assert found == [*((f"new-{name}" * 20, name) for name in expected), ("other", "function")]


def test_an_unchanged_module_is_identical() -> None:
    for fields in ("", "(memory 1)", IMPORTS):
        assert rename_imports(module(fields), lambda module, name: module) == module(fields)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (leb(1), "unexpected end of a section"),
        (leb(1) + name("a"), "unexpected end of a section"),
        (leb(1) + name("a") + name("b"), "unexpected end of a section"),
        (leb(1) + name("a") + name("b") + b"\0", "unexpected end of a section"),
        (leb(1) + name("a") + name("b") + b"\x05\0", "unknown kind of import: 5"),
        (leb(1) + name("a") + b"\x01\xff" + b"\0\0", "not valid UTF-8"),
    ],
)
def test_invalid_imports(content: bytes, message: str) -> None:
    with pytest.raises(MalformedModuleError, match=message):
        rename_imports(HEADER + section(2, content), lambda module, name: module)


@given(st.integers(0, 2**32 - 1))
def test_integers(value: int) -> None:
    encoded = leb(value)
    reader = Reader(encoded, 0, len(encoded))
    assert (reader.u32(), reader.at) == (value, len(encoded))


def test_overlong_integers() -> None:
    assert Reader(b"\x85\x80\x80\0", 0, 4).u32() == 5


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_parsed_or_malformed(content: bytes) -> None:
    for parse in (initial_sizes, lambda wasm: list(custom_sections(wasm))):
        with contextlib.suppress(MalformedModuleError):
            parse(HEADER + content)
