"""Small components in the text format; ``toolchains.adapted_component`` makes real ones."""

from __future__ import annotations

from wagi.guest.capi.engine import wat_to_wasm

PROGRAM = """
    (import "wasi_snapshot_preview1" "fd_write"
      (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 8) "Content-Type: text/plain\\n\\nhello from a component\\n")
    (func (export "_start")
      (i32.store (i32.const 0) (i32.const 8))
      (i32.store (i32.const 4) (i32.const 49))
      (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 100)))
      (drop (call $random_get (i32.const 200) (i32.const 0))))"""
"""A program for WASI preview 1, as the fields of a module."""

COMMAND = f"""(component
  (import "wasi:cli/exit@0.2.0" (instance $exit
    (export "exit" (func (param "status" (result))))))
  (import "wasi:random/random@0.2.3" (instance $random
    (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
  (core module $main {PROGRAM})
  (core module $adapter
    (import "env" "memory" (memory 0))
    (import "__main_module__" "_start" (func $start))
    (import "exit" "exit" (func $exit (param i32)))
    (import "random" "get-random-bytes" (func $random (param i64 i32)))
    (func (export "fd_write") (param i32 i32 i32 i32) (result i32) (i32.const 52))
    (func (export "random_get") (param i32 i32) (result i32) (i32.const 52))
    (func (export "cabi_import_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
    (func (export "run") (result i32) (call $start) (i32.const 0)))
  (core module $shim
    (type $write (func (param i32 i32 i32 i32) (result i32)))
    (type $get (func (param i32 i32) (result i32)))
    (type $random (func (param i64 i32)))
    (func (export "0") (type $write)
      local.get 0 local.get 1 local.get 2 local.get 3 i32.const 0 call_indirect (type $write))
    (func (export "1") (type $get)
      local.get 0 local.get 1 i32.const 1 call_indirect (type $get))
    (func (export "2") (type $random)
      local.get 0 local.get 1 i32.const 2 call_indirect (type $random))
    (table (export "$imports") 3 3 funcref))
  (core module $fixups
    (import "" "0" (func $0 (param i32 i32 i32 i32) (result i32)))
    (import "" "1" (func $1 (param i32 i32) (result i32)))
    (import "" "2" (func $2 (param i64 i32)))
    (import "" "$imports" (table 3 3 funcref))
    (elem (i32.const 0) func $0 $1 $2))
  (core instance $shim (instantiate $shim))
  (core instance $preview1
    (export "fd_write" (func $shim "0")) (export "random_get" (func $shim "1")))
  (core instance $main (instantiate $main (with "wasi_snapshot_preview1" (instance $preview1))))
  (alias core export $main "memory" (core memory $memory))
  (alias export $random "get-random-bytes" (func $get-random-bytes))
  (alias export $exit "exit" (func $exit))
  (core func $exit (canon lower (func $exit)))
  (core instance $env (export "memory" (memory $memory)))
  (core instance $exit (export "exit" (func $exit)))
  (core instance $random (export "get-random-bytes" (func $shim "2")))
  (core instance $adapter (instantiate $adapter
    (with "env" (instance $env)) (with "__main_module__" (instance $main))
    (with "exit" (instance $exit)) (with "random" (instance $random))))
  (core func $get-random-bytes (canon lower (func $get-random-bytes)
    (memory (core memory $memory)) (realloc (core func $adapter "cabi_import_realloc"))))
  (core instance $actual
    (export "0" (func $adapter "fd_write")) (export "1" (func $adapter "random_get"))
    (export "2" (func $get-random-bytes)) (export "$imports" (table $shim "$imports")))
  (core instance (instantiate $fixups (with "" (instance $actual))))
  (func $run (result (result)) (canon lift (core func $adapter "run")))
  (component $names
    (import "run" (func $run (result (result))))
    (export "run" (func $run)))
  (instance $run (instantiate $names (with "run" (func $run))))
  (export "wasi:cli/run@0.2.0" (instance $run)))"""
"""The program as a component, in the shape that wit-component gives it with the adapter."""

HANDLER = """(component
  (import "wasi:http/types@0.2.3" (instance $types
    (export "fields" (type $fields (sub resource)))
    (export "[constructor]fields" (func (result (own $fields))))
    (export "http-error-code" (func (param "name" string) (result string)))))
  (import "wasi:http/types@0.2.0" (instance $old-types
    (export "fields" (type $fields (sub resource)))
    (export "[constructor]fields" (func (result (own $fields))))))
  (alias export $types "fields" (type $fields))
  (core module $main
    (import "types" "[constructor]fields" (func (result i32)))
    (import "old-types" "[constructor]fields" (func (result i32)))
    (import "types" "[resource-drop]fields" (func (param i32)))
    (import "types" "http-error-code" (func (param i32 i32 i32)))
    (memory (export "heap") 1)
    (func (export "allocate") (param i32 i32 i32 i32) (result i32) unreachable)
    (func (export "prepare"))
    (func (export "handle") (param i32 i32)))
  (core module $shim
    (type $text (func (param i32 i32 i32)))
    (func (export "0") (type $text)
      local.get 0 local.get 1 local.get 2 i32.const 70 call_indirect (type $text))
    (table (export "$imports") 71 71 funcref))
  (core module $fixups
    (import "" "prepare" (func $prepare))
    (import "" "0" (func $0 (param i32 i32 i32)))
    (import "" "$imports" (table 71 71 funcref))
    (elem (i32.const 70) func $0)
    (start $prepare))
  (core instance $shim (instantiate $shim))
  (alias export $types "[constructor]fields" (func $new))
  (alias export $old-types "[constructor]fields" (func $old-new))
  (alias export $types "http-error-code" (func $code))
  (core func $new (canon lower (func $new)))
  (core func $old-new (canon lower (func $old-new)))
  (core func $drop (canon resource.drop $fields))
  (core instance $imports
    (export "[constructor]fields" (func $new)) (export "[resource-drop]fields" (func $drop))
    (export "http-error-code" (func $shim "0")))
  (core instance $old-imports (export "[constructor]fields" (func $old-new)))
  (core instance $main (instantiate $main
    (with "types" (instance $imports)) (with "old-types" (instance $old-imports))))
  (core func $code (canon lower (func $code)
    (memory (core memory $main "heap")) (realloc (core func $main "allocate"))))
  (core instance $actual
    (export "0" (func $code)) (export "prepare" (func $main "prepare"))
    (export "$imports" (table $shim "$imports")))
  (core instance (instantiate $fixups (with "" (instance $actual))))
  (func $handle (param "request" u32) (param "out" u32)
    (canon lift (core func $main "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.3" (instance $handler)))"""
"""A component whose main module calls functions of WASI preview 2 itself, without an adapter."""

CIRCLE = ('(export "1" (func $adapter "random_get"))', '(export "1" (func $shim "1"))')
"""A change of ``COMMAND`` after which a function of its shim calls itself."""


LIBRARIES = """(component
  (import "wasi:cli/environment@0.2.4" (instance $environment
    (export "get-arguments" (func (result (list string))))))
  (core module $library
    (import "environment" "get-arguments" (func $arguments (param i32)))
    (memory (export "memory") 2)
    (table (export "table") 2 funcref)
    (global (export "base") i32 (i32.const 1))
    (global (export "top") (mut i32) (i32.const 64))
    (elem (i32.const 0) func $arguments)
    (func (export "allocate") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core module $program
    (import "environment" "get-arguments" (func $arguments (param i32)))
    (import "library" "memory" (memory 2))
    (import "library" "table" (table 2 funcref))
    (import "library" "base" (global $base i32))
    (import "library" "top" (global $top (mut i32)))
    (import "library" "allocate" (func $allocate (param i32 i32 i32 i32) (result i32)))
    (elem (global.get $base) func $allocate)
    (data (global.get $base) "program")
    (func (export "allocate") (param i32 i32 i32 i32) (result i32)
      (call $allocate (local.get 0) (local.get 1) (local.get 2) (local.get 3)))
    (func (export "run") (result i32) (call $arguments (global.get $top)) (i32.const 0)))
  (core module $shim
    (type $list (func (param i32)))
    (func (export "0") (type $list) local.get 0 i32.const 0 call_indirect (type $list))
    (func (export "1") (type $list) local.get 0 i32.const 1 call_indirect (type $list))
    (table (export "$imports") 2 2 funcref))
  (core module $fixups
    (import "" "0" (func $0 (param i32)))
    (import "" "1" (func $1 (param i32)))
    (import "" "$imports" (table 2 2 funcref))
    (elem (i32.const 0) func $0 $1))
  (core instance $shim (instantiate $shim))
  (core instance $for-library (export "get-arguments" (func $shim "0")))
  (core instance $library (instantiate $library (with "environment" (instance $for-library))))
  (core instance $for-program (export "get-arguments" (func $shim "1")))
  (core instance $program (instantiate $program
    (with "environment" (instance $for-program)) (with "library" (instance $library))))
  (alias export $environment "get-arguments" (func $arguments))
  (core func $arguments-0 (canon lower (func $arguments)
    (memory (core memory $library "memory")) (realloc (core func $library "allocate"))))
  (core func $arguments-1 (canon lower (func $arguments)
    (memory (core memory $library "memory")) (realloc (core func $program "allocate"))))
  (core instance $actual (export "0" (func $arguments-0)) (export "1" (func $arguments-1))
    (export "$imports" (table $shim "$imports")))
  (core instance (instantiate $fixups (with "" (instance $actual))))
  (func $run (result (result)) (canon lift (core func $program "run")))
  (instance $run (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $run)))"""
"""A component of two modules, each with an allocator, as componentize-py links libraries."""


def component(text: str, *changes: tuple[str, str]) -> bytes:
    """Return a component in the binary format.

    Args:
        text: The component in the text format.
        changes: Pieces of the text, which occur once, with their replacements.
    """
    for old, new in changes:
        assert text.count(old) == 1, (text.count(old), old)
        text = text.replace(old, new)
    return wat_to_wasm(text)


_WORLD = """
  (import "wasi:io/error@0.2.0" (instance $error (export "error" (type (sub resource)))))
  (alias export $error "error" (type $e))
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))
    (export "poll" (func (param "in" (list (borrow $pollable))) (result (list u32))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (alias outer 1 $e (type $outer-e))
    (export "error" (type $e (eq $outer-e)))
    (export "output-stream" (type $output (sub resource)))
    (type $variant (variant (case "last-operation-failed" (own $e)) (case "closed")))
    (export "stream-error" (type $failure (eq $variant)))
    (export "[method]output-stream.write" (func
      (param "self" (borrow $output)) (param "contents" (list u8))
      (result (result (error $failure)))))
    (export "[method]output-stream.blocking-write-and-flush" (func
      (param "self" (borrow $output)) (param "contents" (list u8))
      (result (result (error $failure)))))))
  (alias export $streams "output-stream" (type $output))
  (import "wasi:cli/stdout@0.2.6" (instance $stdout
    (alias outer 1 $output (type $outer))
    (export "output-stream" (type $output (eq $outer)))
    (export "get-stdout" (func (result (own $output))))))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $pollable (type $outer))
    (export "pollable" (type $pollable (eq $outer)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
  (import "wasi:cli/environment@0.2.3" (instance $environment
    (export "get-arguments" (func (result (list string))))
    (export "get-environment" (func (result (list (tuple string string)))))))"""
_FUNCTIONS = {
    "get": ("stdout", "get-stdout", "(result i32)"),
    "write": ("streams", "[method]output-stream.write", "(param i32 i32 i32 i32)"),
    "print": (
        "streams",
        "[method]output-stream.blocking-write-and-flush",
        "(param i32 i32 i32 i32)",
    ),
    "arguments": ("environment", "get-arguments", "(param i32)"),
    "environment": ("environment", "get-environment", "(param i32)"),
    "after": ("clock", "subscribe-duration", "(param i64) (result i32)"),
    "block": ("poll", "[method]pollable.block", "(param i32)"),
    "poll": ("poll", "poll", "(param i32 i32 i32)"),
}
"""The functions that native commands can call: instance, name and flat type."""
ALLOCATOR = """
  (global $next (mut i32) (i32.const 4096))
  (func (export "allocate") (param i32 i32 i32 i32) (result i32)
    (global.set $next (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
    (global.get $next)
    (global.set $next (i32.add (global.get $next) (local.get 3))))"""
GREETING = "Content-Type: text/plain\\n\\nhello from a component\\n"


def native_command(code: str, allocator: str = ALLOCATOR) -> str:
    """Return a command that calls preview 2 itself, in the text format.

    Args:
        code: The body of its function, which returns 0, or 1 for a failure, and may use the locals
            ``$i`` and ``$j``. ``GREETING`` is at the address 16.
        allocator: The definition of its allocator, which is exported as ``allocate``.
    """
    imports, trampolines, slots, fixups, shims, lowered, actual = ([] for _ in range(7))
    for slot, (short, (instance, name, type_)) in enumerate(_FUNCTIONS.items()):
        count = sum(word.startswith("i") for word in type_.partition("(result")[0].split()[1:])
        arguments = " ".join(f"local.get {number}" for number in range(count))
        imports.append(f'(import "host" "{short}" (func ${short} {type_}))')
        trampolines.append(
            f'(type ${short} (func {type_})) (func (export "{slot}") (type ${short})'
            f" {arguments} i32.const {slot} call_indirect (type ${short}))"
        )
        fixups.append(f'(import "" "{slot}" (func ${slot} {type_}))')
        slots.append(f"${slot}")
        shims.append(f'(export "{short}" (func $shim "{slot}"))')
        lowered.append(
            f'(alias export ${instance} "{name}" (func ${short}))'
            f" (core func ${short} (canon lower (func ${short}) (memory $memory)"
            ' (realloc (core func $main "allocate"))))'
        )
        actual.append(f'(export "{slot}" (func ${short}))')
    size = len(slots)
    return f"""(component {_WORLD}
  (core module $main
    {" ".join(imports)}
    (memory (export "heap") 2)
    (data (i32.const 16) "{GREETING}")
    {allocator}
    (func (export "main") (result i32) (local $i i32) (local $j i32) {code}))
  (core module $shim
    {" ".join(trampolines)} (table (export "$imports") {size} {size} funcref))
  (core module $fixups
    {" ".join(fixups)} (import "" "$imports" (table {size} {size} funcref))
    (elem (i32.const 0) func {" ".join(slots)}))
  (core instance $shim (instantiate $shim))
  (core instance $host {" ".join(shims)})
  (core instance $main (instantiate $main (with "host" (instance $host))))
  (alias core export $main "heap" (core memory $memory))
  {" ".join(lowered)}
  (core instance $actual {" ".join(actual)} (export "$imports" (table $shim "$imports")))
  (core instance (instantiate $fixups (with "" (instance $actual))))
  (func $run (result (result)) (canon lift (core func $main "main")))
  (component $names
    (import "run" (func $run (result (result))))
    (export "run" (func $run)))
  (instance $run (instantiate $names (with "run" (func $run))))
  (export "wasi:cli/run@0.2.0" (instance $run)))"""


NATIVE_COMMAND = native_command("""
      (call $print (call $get) (i32.const 16) (i32.const 49) (i32.const 0))
      (call $arguments (i32.const 0))
      (i32.gt_u (i32.load (i32.const 4)) (i32.const 1))""")
"""A command that calls preview 2 itself: it prints a greeting, and fails if it has arguments."""
