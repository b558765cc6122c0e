"""Modules that are merged behave like instances that are linked with each other."""

from __future__ import annotations

import contextlib

import pytest
import wasmtime

from wagi.guest import binary
from wagi.guest.binary import MalformedModuleError
from wagi.guest.capi.engine import wat_to_wasm
from wagi.guest.component.core_module import CoreModule
from wagi.guest.component.errors import UnsupportedComponentError
from wagi.guest.component.items import CoreModuleCode
from wagi.guest.component.merging import Part, PartExport, merge
from wagi.guest.component.reader import Budget

pytestmark = pytest.mark.fast

ENGINE = wasmtime.Engine()
LIBRARY = """
    (import "host" "add" (func $add (param i32 i32) (result i32)))
    (type $unary (func (param i32) (result i32)))
    (memory (export "memory") 2)
    (table (export "table") 8 funcref)
    (table $own 2 funcref)
    (global (export "base") i32 (i32.const 3))
    (global $count (export "count") (mut i32) (i32.const 10))
    (global $wide (mut i64) (i64.const -5))
    (elem (i32.const 0) func $twice $next)
    (elem (table $own) (i32.const 1) func $next)
    (data (i32.const 16) "library")
    (func $twice (export "twice") (type $unary) (call $add (local.get 0) (local.get 0)))
    (func $next (export "next") (param i32) (result i32)
      (global.set $count (call $add (global.get $count) (local.get 0)))
      (global.get $count))
    (func (export "own") (param i32) (result i32)
      (call_indirect $own (type $unary) (local.get 0) (i32.const 1)))"""
IMPORTS = """
    (type $odd (func (param i64) (result i64)))
    (import "library" "next" (func $next (param i32) (result i32)))
    (import "host" "add" (func $add (param i32 i32) (result i32)))
    (import "library" "memory" (memory 1))
    (import "library" "table" (table $table 2 funcref))
    (import "library" "base" (global $base i32))
    (import "library" "count" (global $count (mut i32)))"""
FIELDS = """
    (type $unary (func (param i32) (result i32)))
    (type $two (func (param i32) (result i32 i32)))
    (table $own 4 funcref)
    (global $offset i32 (global.get $base))
    (global $function funcref (ref.func $half))
    (elem (global.get $base) func $half)
    (elem $passive funcref (ref.func $half) (item (ref.null func)))
    (elem declare func $half)
    (data (global.get $base) "program")
    (data $late "late")
    (func $half (type $unary) (i32.shr_u (local.get 0) (i32.const 1)))"""


def program(
    body: str, results: str = "i32", imports: str = "", fields: str = "", **modules: str
) -> dict[str, str]:
    """Return modules, the last of which exports ``run``.

    Args:
        body: The instructions of ``run``, which has a parameter ``$x``.
        results: The types of its results.
        imports: Additional imports of the last module.
        fields: Additional fields of the last module.
        modules: Modules between the first and the last one.
    """
    run = f'(func (export "run") (param $x i32) (result {results}) {body})'
    return {"library": LIBRARY, **modules, "program": IMPORTS + imports + FIELDS + fields + run}


SAMPLES = {
    "calls": program("(call $next (call $add (local.get $x) (i32.const 1)))"),
    "globals of another module": program(
        "(global.set $count (i32.const 77)) (i32.add (global.get $count) (global.get $base))"
    ),
    "globals of its own": program("(i32.mul (global.get $offset) (local.get $x))"),
    "calls through the table of another module": program(
        "(i32.add (call_indirect $table (type $unary) (local.get $x) (i32.const 0))"
        " (i32.add (call_indirect $table (type $unary) (local.get $x) (i32.const 1))"
        " (call_indirect $table (type $unary) (local.get $x) (global.get $base))))"
    ),
    "segments of elements": program(
        "(table.init $own $passive (i32.const 1) (i32.const 0) (i32.const 2)) (elem.drop $passive)"
        "(table.copy $table $own (i32.const 5) (i32.const 1) (i32.const 1))"
        "(table.set $own (i32.const 0) (global.get $function))"
        "(i32.add (ref.is_null (table.get $own (i32.const 2)))"
        " (i32.add (call_indirect $own (type $unary) (local.get $x) (i32.const 1))"
        " (i32.add (call_indirect $own (type $unary) (local.get $x) (i32.const 0))"
        " (call_indirect $table (type $unary) (local.get $x) (i32.const 5)))))"
    ),
    "sizes of tables": program(
        "(table.fill $own (i32.const 0) (ref.func $half) (i32.const 2))"
        "(i32.add (table.grow $own (ref.null func) (i32.const 3))"
        " (i32.add (table.size $own) (i32.mul (i32.const 100) (table.size $table))))"
    ),
    "segments of data": program(
        "(memory.init $late (i32.const 100) (i32.const 1) (i32.const 3)) (data.drop $late)"
        "(i32.add (i32.load (i32.const 99)) (i32.add (i32.load (i32.const 16))"
        " (i32.load offset=1 (global.get $base))))"
    ),
    "blocks with parameters": program(
        "(local.get $x) (block (type $two) (i32.const 2)) (i32.add)"
        "(i32.const 1) (if (type $unary) (then (i32.const 5) (i32.mul)) (else))"
        "(loop (type $unary) (i32.const 9) (i32.sub))"
    ),
    "branch tables": program(
        "(block $c (block $b (block $a (br_table $a $b $c (local.get $x)))"
        " (return (i32.const 1))) (return (call $next (i32.const 2)))) (i32.const 3)"
    ),
    "long branch tables": program(
        "(block $b (block $a (br_table " + "$a $b " * 80 + " $a (local.get $x)))"
        " (return (call $next (i32.const 1)))) (i32.const 2)"
    ),
    "numbers": program(
        "(drop (i64.const -9223372036854775808)) (drop (f32.const 1.5)) (drop (f64.const 0x1p-3))"
        "(i64.store offset=70000 (i32.const 8) (i64.const 0x1011121314151617))"
        "(i32.add (i32.trunc_sat_f64_s (f64.mul (f64.const 2.5)"
        " (f64.convert_i32_s (local.get $x)))) (i32.load offset=70000 (i32.const 8)))"
    ),
    "vectors": program(
        "(v128.store offset=200 (i32.const 0) (i8x16.shuffle 0 17 2 19 4 21 6 23 8 25 10"
        " 27 12 29 14 31 (v128.const i32x4 0x10232410 2 3 4) (i32x4.splat (local.get $x))))"
        "(v128.store32_lane offset=300 2 (i32.const 0) (v128.const i32x4 1 2 0x23 4))"
        "(i32.add (i32x4.extract_lane 1 (i32x4.add (v128.load offset=200 (i32.const 0))"
        " (f32x4.ceil (v128.const f32x4 1.2 0 3 4)))) (i32.load offset=300 (i32.const 0)))"
    ),
    "memory": program(
        "(memory.fill (i32.const 400) (i32.const 16) (i32.const 8))"
        "(memory.copy (i32.const 404) (i32.const 16) (i32.const 4))"
        "(i32.add (i32.add (memory.grow (i32.const 1)) (memory.size)) (i32.load (i32.const 403)))"
    ),
    "select and references": program(
        "(drop (select (result funcref) (ref.func $half) (ref.null func) (local.get $x)))"
        "(select (i32.const 4) (i32.const 5) (local.get $x))"
    ),
    "tail calls": program("(return_call $next (local.get $x))"),
    "indirect tail calls": program(
        "(return_call_indirect $table (type $unary) (local.get $x) (global.get $base))"
    ),
    "several results": program("(call $next (local.get $x)) (local.get $x)", "i32 i32"),
    "local variables": program(
        "(local i64 f32 v128 funcref) (local $y i32) (local.set $y (i32.const 16))"
        "(local.tee $y (i32.add (local.get $y) (local.get $x)))"
    ),
    "functions of a module in between": program(
        "(i32.xor (call $again (local.get $x)) (call $load (i32.const 16)))",
        imports="""
          (import "middle" "again" (func $again (param i32) (result i32)))
          (import "middle" "load" (func $load (param i32) (result i32)))""",
        middle="""
          (import "library" "own" (func $own (param i32) (result i32)))
          (import "library" "memory" (memory 1))
          (export "again" (func $own))
          (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))""",
    ),
    "more than 64 types": program(
        "(local.get $x) (block (type $two) (i32.const 2)) (i32.add)",
        types="".join(f"(type (func (param {'i64 ' * n})))" for n in range(70)),
    ),
}
REJECTED = {
    "imported tags": (
        program("(local.get 0)", imports='(import "m" "t" (tag))', m='(tag (export "t"))'),
        "exceptions",
    ),
    "exceptions": (program("(throw $t)", fields="(tag $t)"), "instruction 0x08"),
    "several memories": (program("(local.get 0)", x="(memory 1)"), "several memories"),
    "another memory": (
        program("(local.get 0)", x='(import "library" "memory" (memory 1)) (memory 1)'),
        "several memories",
    ),
    "garbage collection": (
        program("(local.get 0)", x="(type (struct))"),
        "types other than those of functions",
    ),
    "typed references": (
        program("(local.get 0)", x="(type $f (func)) (table 1 (ref null $f))"),
        "type 0x63",
    ),
    "calls of references": (
        program("(call_ref $unary (local.get 0) (ref.func $half))"),
        "instruction 0x14",
    ),
    "atomic instructions": (program("(atomic.fence) (local.get 0)"), "instruction 0xfe"),
    "constants of other kinds": (
        program(
            "(local.get 0)",
            x="(type (func)) (global externref (extern.convert_any (ref.null any)))",
        ),
        "constant expression",
    ),
}


def add(x: int, y: int) -> int:
    return x + y


def results(run: object, store: wasmtime.Store) -> list[object]:
    """Call a function several times, since it may change globals, tables and the memory."""
    assert isinstance(run, wasmtime.Func)
    found: list[object] = []
    for x in (6, 0, 1, 250):
        try:
            found.append(run(store, x))
        except wasmtime.Trap as trap:
            found.append(str(trap.message).splitlines()[-1])
    return found


def linked(modules: dict[str, bytes]) -> list[object]:
    """Return the results of ``run`` of the last one of several linked instances."""
    store = wasmtime.Store(ENGINE)
    linker = wasmtime.Linker(ENGINE)
    linker.define_func("host", "add", ADD_TYPE, add)
    for name, wasm in modules.items():
        instance = linker.instantiate(store, wasmtime.Module(ENGINE, wasm))
        linker.define_instance(store, name, instance)
    return results(instance.exports(store)["run"], store)


ADD_TYPE = wasmtime.FuncType([wasmtime.ValType.i32()] * 2, [wasmtime.ValType.i32()])


def to_parts(modules: dict[str, bytes]) -> list[Part]:
    names = list(modules)
    parts = []
    for wasm in modules.values():
        module = CoreModule(wasm, CoreModuleCode(0, 0, len(wasm)), Budget())
        imports = [
            (item.module, item.name)
            if item.module == "host"
            else PartExport(names.index(item.module), item.name)
            for item in module.imports
        ]
        parts.append(Part(module, imports))
    return parts


def merged(modules: dict[str, bytes]) -> bytes:
    parts = to_parts(modules)
    return merge(parts, {"run": PartExport(len(parts) - 1, "run")})


def compiled(modules: dict[str, str]) -> dict[str, bytes]:
    return {name: wat_to_wasm(f"(module {text})") for name, text in modules.items()}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_merged_module_does_the_same(name: str) -> None:
    modules = compiled(SAMPLES[name])
    store = wasmtime.Store(ENGINE)
    linker = wasmtime.Linker(ENGINE)
    linker.define_func("host", "add", ADD_TYPE, add)
    instance = linker.instantiate(store, wasmtime.Module(ENGINE, merged(modules)))
    assert results(instance.exports(store)["run"], store) == linked(modules)


def test_exports_get_their_names() -> None:
    parts = to_parts(compiled(SAMPLES["calls"]))
    exports = {"memory": PartExport(0, "memory"), "x#1": PartExport(1, "run")}
    exports |= {"t": PartExport(0, "table"), "g": PartExport(0, "count")}
    module = wasmtime.Module(ENGINE, merge(parts, exports))
    kinds = {item.name: type(item.type).__name__ for item in module.exports}
    assert kinds == {"memory": "MemoryType", "x#1": "FuncType", "t": "TableType", "g": "GlobalType"}


def test_padded_indices() -> None:
    """Linkers write indices that they relocate in five bytes."""
    modules = compiled(SAMPLES["calls"])
    body = bytes.fromhex("00 20 00 41 01 10 01 10 00 0b")
    padded = bytes.fromhex("00 20 00 41 01 10 8180808000 10 8080808000 0b")
    wasm = modules["program"]
    assert wasm.count(bytes([len(body)]) + body) == 1
    wasm = wasm.replace(bytes([len(body)]) + body, bytes([len(padded)]) + padded)
    (code,) = [section for section in binary.sections(modules["program"]) if section.number == 10]
    grown = binary.leb(code.end - code.start + len(padded) - len(body))
    wasm = wasm[: code.header + 1] + grown + wasm[code.start :]
    changed = modules | {"program": wasm}
    wasmtime.Module(ENGINE, wasm)
    assert merged(changed) == merged(modules)


@pytest.mark.parametrize("name", REJECTED)
def test_features_that_are_not_supported(name: str) -> None:
    modules, message = REJECTED[name]
    with pytest.raises(UnsupportedComponentError, match=message):
        merged(compiled(modules))


def test_indices_out_of_range() -> None:
    modules = compiled(SAMPLES["calls"])
    wasm = modules["program"]
    call = bytes.fromhex("10 01 10 00 0b")
    assert wasm.count(call) == 1
    with pytest.raises(MalformedModuleError, match="an index is out of range: 100"):
        merged(modules | {"program": wasm.replace(call, bytes.fromhex("10 01 10 64 0b"))})


def test_changed_bytes() -> None:
    """Any bytes are an error of the merger or a module that wasmtime checks."""
    modules = compiled(SAMPLES["segments of elements"])
    wasm = modules["program"]
    # What imports and exports refer to is checked before.
    places = [
        at
        for section in binary.sections(wasm)
        if section.number not in (2, 7)
        for at in range(section.header, section.end)
    ]
    for at in places:
        for byte in (0x00, 0x02, 0x0B, 0x0E, 0x41, 0x7F, 0x80, 0xFC, 0xFF):
            changed = wasm[:at] + bytes([byte]) + wasm[at + 1 :]
            with contextlib.suppress(MalformedModuleError, UnsupportedComponentError):
                merged(modules | {"program": changed})
