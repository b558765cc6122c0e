"""A component becomes its core module; what has an unknown structure is rejected."""

from __future__ import annotations

import pytest
import wasmtime
from wasmtime import component as wasmtime_component

from tests.support.components import CIRCLE, COMMAND, HANDLER, LIBRARIES, PROGRAM, component
from wagi.guest.binary import MalformedModuleError, is_component
from wagi.guest.capi.engine import wat_to_wasm
from wagi.guest.component.errors import UnsupportedComponentError
from wagi.guest.component.flattening import FlatComponent, flatten
from wagi.guest.component.graph import read_component
from wagi.guest.component.host_exports import PLACE

pytestmark = pytest.mark.fast

ENGINE = wasmtime.Engine()


def flat(text: str, *changes: tuple[str, str]) -> FlatComponent:
    wasm = component(text, *changes)
    return flatten(wasm, read_component(wasm))


@pytest.mark.parametrize("text", [COMMAND, HANDLER, LIBRARIES])
def test_the_samples_are_valid(text: str) -> None:
    """wasmtime accepts them, and what becomes of them."""
    wasm = component(text)
    assert is_component(wasm)
    wasmtime_component.Component(ENGINE, wasm)
    wasmtime.Module(ENGINE, flat(text).wasm)


def test_a_command_with_the_adapter_becomes_its_program() -> None:
    """The module is the same, byte for byte."""
    found = flat(COMMAND)
    assert found.wasm == wat_to_wasm(f"(module $main {PROGRAM})")
    assert (found.world, found.entry, found.initializers) == ("wasi:cli/command", "_start", ())
    assert found.allocators == ()
    preview_1 = "wasi_snapshot_preview1"
    assert found.imports == ((preview_1, "fd_write"), (preview_1, "random_get"))


def test_calls_of_preview_2_get_the_names_of_their_interfaces() -> None:
    """All versions 0.2 are one, and a drop is a function of its interface."""
    found = flat(HANDLER)
    assert (found.world, found.entry) == ("wasi:http/proxy", "handle")
    assert (found.initializers, found.allocators) == (("prepare",), ("allocate",))
    names = ["[constructor]fields"] * 2 + ["[resource-drop]fields", "http-error-code"]
    assert found.imports == tuple(("wasi:http/types", name) for name in names)
    imports = wasmtime.Module(ENGINE, found.wasm).imports
    assert tuple((item.module, item.name) for item in imports) == found.imports


def test_several_modules_are_merged() -> None:
    """Each host call names the allocator of the module that imports it, if it is not the first."""
    found = flat(LIBRARIES)
    assert (found.entry, found.initializers) == ("run", ())
    assert found.allocators == ("allocate", "allocate#1")
    interface, function = "wasi:cli/environment", "get-arguments"
    assert found.imports == ((interface, function), (f"{interface}#1", function))
    module = wasmtime.Module(ENGINE, found.wasm)
    exports = {item.name for item in module.exports}
    assert exports == {"run", "memory", *found.allocators, PLACE}


def test_names_do_not_matter() -> None:
    """Those of imports and exports of core modules are chosen by the toolchain."""
    changes = (
        ('(import "wasi_snapshot_preview1" "fd_write"', '(import "any" "write"'),
        ('(import "wasi_snapshot_preview1" "random_get"', '(import "any" "random"'),
        ('(with "wasi_snapshot_preview1" (instance $preview1))', '(with "any" (instance $p))'),
        ("(core instance $preview1\n", "(core instance $p\n"),
        ('(export "fd_write" (func $shim "0"))', '(export "write" (func $shim "0"))'),
        ('(export "random_get" (func $shim "1"))', '(export "random" (func $shim "1"))'),
        ('(func (export "_start")', '(func (export "main")'),
        ('(import "__main_module__" "_start"', '(import "program" "main"'),
        ('(with "__main_module__" (instance $main))', '(with "program" (instance $main))'),
    )
    found = flat(COMMAND, *changes)
    assert found.entry == "main"
    assert found.imports == flat(COMMAND).imports


def test_fixups_may_be_divided() -> None:
    """Older versions of wit-component call initializers in a module of their own."""
    found = flat(
        HANDLER,
        ("    (start $prepare))", "    )"),
        (
            "  (func $handle (param",
            '  (core module $start (import "" "prepare" (func $f)) (start $f))'
            ' (core instance (instantiate $start (with "" (instance $actual))))'
            "  (func $handle (param",
        ),
    )
    assert found == flat(HANDLER)


FIXUPS = '(core instance (instantiate $fixups (with "" (instance $actual))))'
DROP = "(core func $drop (canon resource.drop $fields))"
STRUCTURES: dict[str, tuple[str, list[tuple[str, str]], str]] = {
    "shim that does more": (
        COMMAND,
        [("i32.const 1 call_indirect (type $get)",
          "i32.const 1 call_indirect (type $get) drop i32.const 0")],
        "table of functions that is not a shim",
    ),
    "shim that changes parameters": (
        COMMAND,
        [("local.get 0 local.get 1 i32.const 1 call", "local.get 1 local.get 0 i32.const 1 call")],
        "table of functions that is not a shim",
    ),
    "shim with local variables": (
        COMMAND,
        [('(func (export "1") (type $get)', '(func (export "1") (type $get) (local i32)')],
        "table of functions that is not a shim",
    ),
    "shim that calls through another table": (
        COMMAND,
        [('(table (export "$imports") 3 3 funcref)',
          '(table 3 3 funcref) (table (export "$imports") 3 3 funcref)')],
        "table of functions that is not a shim",
    ),
    "element that is not set": (
        COMMAND,
        [("(elem (i32.const 0) func $0 $1 $2)", "(elem (i32.const 0) func $0 $1)")],
        "element of a table that is not set",
    ),
    "element that is set twice": (
        COMMAND,
        [("(elem (i32.const 0) func $0 $1 $2)",
          "(elem (i32.const 0) func $0 $1 $2) (elem (i32.const 1) func $1)")],
        "element of a table that is set twice",
    ),
    "table that is filled twice": (COMMAND, [(FIXUPS, FIXUPS * 2)], "table that is filled twice"),
    "negative index": (
        COMMAND,
        [("(elem (i32.const 0) func", "(elem (i32.const -1) func")],
        "negative index",
    ),
    "elements in another form": (
        COMMAND,
        [("(elem (i32.const 0) func $0 $1 $2)",
          "(elem (i32.const 0) funcref (ref.func $0) (ref.func $1) (ref.func $2))")],
        "elements of a table",
    ),
    "circle": (
        COMMAND,
        [CIRCLE],
        "circle of functions",
    ),
    "module that is instantiated twice": (
        LIBRARIES,
        [("(core instance $for-program", "(core instance (instantiate $library"
          ' (with "environment" (instance $for-library)))) (core instance $for-program')],
        "module that is instantiated twice",
    ),
    "start function of one of several modules": (
        LIBRARIES,
        [("(func (export \"run\")", "(start $start) (func $start) (func (export \"run\")")],
        "start function of one of several modules",
    ),
    "module that imports from a later one": (
        LIBRARIES,
        [('(export "get-arguments" (func $shim "0"))', '(export "get-arguments" (func $shim "1"))'),
         ('(export "1" (func $arguments-1))', '(export "1" (func $program "other"))'),
         ('(func (export "run")', '(func (export "other") (param i32)) (func (export "run")')],
        "import 'get-arguments' from 'environment'",
    ),
    "adapter with a table": (
        COMMAND,
        [('(memory (export "memory") 1)',
          '(memory (export "memory") 1) (table (export "t") 1 funcref)'),
         ('(import "env" "memory" (memory 0))',
          '(import "env" "memory" (memory 0)) (import "__main_module__" "t" (table 1 funcref))')],
        "import 'fd_write' from 'wasi_snapshot_preview1'",
    ),
    "adapter with a memory": (
        COMMAND,
        [('(import "env" "memory" (memory 0))', ""),
         ("(func $random (param i64 i32)))\n    (func", "(func $random (param i64 i32)))\n"
          "    (memory 1)\n    (func")],
        "import 'fd_write' from 'wasi_snapshot_preview1'",
    ),
    "adapter of two programs": (
        COMMAND,
        [('(func (export "_start")', '(func (export "second")) (func (export "_start")'),
         ("(func $start))", '(func $start)) (import "__main_module__" "second" (func))')],
        "adapter that does not call one program",
    ),
    "adapter without a program": (
        COMMAND,
        [("(func $start))", "(func $start (result i32)))"),
         ("(call $start) (i32.const 0)", "(call $start)"),
         ('(func (export "_start")', '(func (export "_start") (result i32) (i32.const 0)')],
        "adapter that does not call one program",
    ),
    "function that the main module exports itself": (
        COMMAND,
        [('(func (export "_start")',
          '(func (export "get") (param i32 i32) (result i32) (i32.const 0))'
          '(func (export "_start")'),
         ('(export "1" (func $adapter "random_get"))', '(export "1" (func $main "get"))')],
        "import 'random_get' from 'wasi_snapshot_preview1'",
    ),
    "program in a module that is no adapter": (
        """(component
          (core module $a (memory (export "memory") 1) (func (export "reset")))
          (core module $b
            (import "a" "memory" (memory 0)) (import "a" "reset" (func $reset))
            (func (export "run") (result i32) (call $reset) (i32.const 0)))
          (core instance $a (instantiate $a))
          (core instance $b (instantiate $b (with "a" (instance $a))))
          (func $run (result (result)) (canon lift (core func $b "run")))
          (instance $run (export "run" (func $run)))
          (export "wasi:cli/run@0.2.0" (instance $run)))""",
        [],
        "memory or function of its glue code",
    ),
    "no core module": (
        '(component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))',
        [],
        "export wasi:cli/run without a function run",
    ),
    "function instead of an instance": (
        HANDLER,
        [('(export "wasi:http/incoming-handler@0.2.3" (instance $handler))',
          '(export "wasi:http/incoming-handler@0.2.3" (func $handle))')],
        "export wasi:http/incoming-handler",
    ),
    "the same export in two versions": (
        HANDLER,
        [("(instance $handler)))", '(instance $handler))'
          ' (export "wasi:http/incoming-handler@0.2.4" (instance $handler)))')],
        "export wasi:http/incoming-handler",
    ),
    "resources of its own": (
        HANDLER,
        [(DROP, "(type $own (resource (rep i32))) (core func $drop (canon resource.drop $own))")],
        "resources of its own",
    ),
    "new resources of its own": (
        HANDLER,
        [(DROP, "(type $own (resource (rep i32))) (core func $drop (canon resource.new $own))")],
        "resources of its own",
    ),
    "imported module": (
        '(component (import "m" (core module)))',
        [],
        "section 3",
    ),
    "imported component": (
        '(component (import "c" (component)))',
        [],
        "import of a module or a component",
    ),
    "function of its own": (
        COMMAND,
        [('(export "wasi:cli/run@0.2.0" (instance $run))',
          '(core func (canon lower (func $run))) (export "wasi:cli/run@0.2.0" (instance $run))')],
        "call of a function of its own",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STRUCTURES)
def test_unknown_structures(name: str) -> None:
    text, changes, message = STRUCTURES[name]
    with pytest.raises(UnsupportedComponentError) as found:
        flat(text, *changes)
    assert str(found.value).startswith("this component ")
    assert message in str(found.value)


INVALID: dict[str, tuple[list[tuple[str, str]], str]] = {
    "missing argument": (
        [('(with "exit" (instance $exit))', '(with "exited" (instance $exit))')],
        "nothing is linked to the imports from 'exit'",
    ),
    "missing export": (
        [('(export "random_get" (func $shim "1"))', "")],
        "an import is linked to 'random_get', which does not exist",
    ),
    "missing export of a module": (
        [('(func $adapter "random_get")', '(func $adapter "random")')],
        "an import is linked to 'random', which does not exist",
    ),
    "another sort": (
        [('(export "0" (func $adapter "fd_write"))', '(export "0" (memory $memory))')],
        "an import is linked to '0', which does not exist",
    ),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_links(name: str) -> None:
    changes, message = INVALID[name]
    with pytest.raises(MalformedModuleError, match=message):
        flat(COMMAND, *changes)
