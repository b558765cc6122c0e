"""Handlers of wasi:http as small components in the text format."""

from __future__ import annotations

from collections.abc import Mapping

from tests.support.linkers import linker
from tests.support.preview2 import ALLOCATOR

TYPES, STREAMS, POLL = "wasi:http/types", "wasi:io/streams", "wasi:io/poll"
CALLS = {
    "fields": (TYPES, "[constructor]fields"),
    "append": (TYPES, "[method]fields.append"),
    "from_list": (TYPES, "[static]fields.from-list"),
    "set": (TYPES, "[method]fields.set"),
    "clone": (TYPES, "[method]fields.clone"),
    "entries": (TYPES, "[method]fields.entries"),
    "get": (TYPES, "[method]fields.get"),
    "drop_fields": (TYPES, "[resource-drop]fields"),
    "method": (TYPES, "[method]incoming-request.method"),
    "path": (TYPES, "[method]incoming-request.path-with-query"),
    "headers": (TYPES, "[method]incoming-request.headers"),
    "consume": (TYPES, "[method]incoming-request.consume"),
    "stream": (TYPES, "[method]incoming-body.stream"),
    "response": (TYPES, "[constructor]outgoing-response"),
    "set_status": (TYPES, "[method]outgoing-response.set-status-code"),
    "body": (TYPES, "[method]outgoing-response.body"),
    "open": (TYPES, "[method]outgoing-body.write"),
    "finish": (TYPES, "[static]outgoing-body.finish"),
    "drop_body": (TYPES, "[resource-drop]outgoing-body"),
    "answer": (TYPES, "[static]response-outparam.set"),
    "drop_outparam": (TYPES, "[resource-drop]response-outparam"),
    "request": (TYPES, "[constructor]outgoing-request"),
    "set_scheme": (TYPES, "[method]outgoing-request.set-scheme"),
    "set_authority": (TYPES, "[method]outgoing-request.set-authority"),
    "send": ("wasi:http/outgoing-handler", "handle"),
    "pending": (TYPES, "[method]future-incoming-response.subscribe"),
    "read": (STREAMS, "[method]input-stream.blocking-read"),
    "check_write": (STREAMS, "[method]output-stream.check-write"),
    "write_unchecked": (STREAMS, "[method]output-stream.write"),
    "write": (STREAMS, "[method]output-stream.blocking-write-and-flush"),
    "flush": (STREAMS, "[method]output-stream.blocking-flush"),
    "drop_output": (STREAMS, "[resource-drop]output-stream"),
    "block": (POLL, "[method]pollable.block"),
    "poll": (POLL, "poll"),
    "after": ("wasi:clocks/monotonic-clock", "subscribe-duration"),
    "stdout": ("wasi:cli/stdout", "get-stdout"),
    "stdin": ("wasi:cli/stdin", "get-stdin"),
    "environment": ("wasi:cli/environment", "get-environment"),
}
"""Short names of functions, by which code calls them (``$fields``)."""
_TYPE_NAMES = {"I": "i32", "Q": "i64"}

ANSWER = """
  (local.set $response (call $response (call $fields)))
  (call $body (local.get $response) (i32.const 0))
  (local.set $body (i32.load (i32.const 4)))
  (call $answer (local.get $out) (i32.const 0) (local.get $response) (i32.const 0) (i64.const 0)
    (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
  (call $open (local.get $body) (i32.const 0))
  (local.set $to (i32.load (i32.const 4)))"""
"""Code that sets a response with an empty head, and opens its body."""
WRITE_PATH = """
  (call $path (local.get $request) (i32.const 0))
  (call $write (local.get $to) (i32.load (i32.const 4)) (i32.load (i32.const 8)) (i32.const 16))"""
"""Code that writes path and query."""
COPY_BODY = """
  (call $consume (local.get $request) (i32.const 0))
  (call $stream (i32.load (i32.const 4)) (i32.const 0))
  (local.set $from (i32.load (i32.const 4)))
  (block $end (loop $next
    (call $read (local.get $from) (i64.const 4096) (i32.const 0))
    (br_if $end (i32.load8_u (i32.const 0)))
    (call $write (local.get $to) (i32.load (i32.const 4)) (i32.load (i32.const 8)) (i32.const 16))
    (br $next)))"""
"""Code that writes the body of the request."""
FINISH = "(call $finish (local.get $body) (i32.const 0) (i32.const 0) (i32.const 32))"
"""Code that completes the body."""
SLEEP = "(call $block (call $after (i64.const 300000000)))"
"""Code that sleeps for 300 ms."""
HELLO = ANSWER + WRITE_PATH + FINISH
ECHO = ANSWER + WRITE_PATH + COPY_BODY + FINISH


def handler(code: str, allocator: str = ALLOCATOR, fields: str = "", pages: int = 2) -> str:
    """Return a component.

    Args:
        code: The body of ``handle``, with the parameters ``$request`` and ``$out``, and the locals
            ``$response``, ``$body``, ``$to``, ``$from``, ``$i`` and ``$j``.
        allocator: A field that exports ``cabi_realloc``.
        fields: More fields of the core module.
        pages: Initial size of the memory.
    """
    signatures = linker(False).component_calls
    everything = code + allocator + fields
    used = {
        short: (interface, name, signatures[interface, name])
        for short, (interface, name) in CALLS.items()
        if f"(call ${short})" in everything or f"(call ${short} " in everything
    }
    interfaces = list(dict.fromkeys(interface for interface, _, _ in used.values()))
    imports, shim, table, lowered, given, filled = ([] for _ in range(6))
    for number, (short, (interface, name, signature)) in enumerate(used.items()):
        parameters = " ".join(f"(param {_TYPE_NAMES[each]})" for each in signature.parameters)
        results = " ".join(f"(result {_TYPE_NAMES[each]})" for each in signature.results)
        type_ = f"(func {parameters} {results})"
        imports.append(f'(import "host" "{short}" (func ${short} {parameters} {results}))')
        arguments = " ".join(f"(local.get {index})" for index in range(len(signature.parameters)))
        shim.append(
            f'(type $t{number} {type_}) (func (export "{short}") (type $t{number})'
            f" {arguments} (call_indirect (type $t{number}) (i32.const {number})))"
        )
        table.append(f'(import "" "{number}" (func $f{number} {parameters} {results}))')
        instance = f"$i{interfaces.index(interface)}"
        if name.startswith("[resource-drop]"):
            resource = name.removeprefix("[resource-drop]")
            lowered.append(
                f'(alias export {instance} "{resource}" (type $r{number}))'
                f"(core func $l{number} (canon resource.drop $r{number}))"
            )
        else:
            lowered.append(
                f'(alias export {instance} "{name}" (func $f{number}))'
                f"(core func $l{number} (canon lower (func $f{number}) (memory $memory)"
                " (realloc $realloc)))"
            )
        given.append(f'(export "{short}" (func $shim "{short}"))')
        filled.append(f'(export "{number}" (func $l{number}))')
    count = len(used)
    return f"""(component
  {"".join(_interface(index, name, used) for index, name in enumerate(interfaces))}
  (core module $main {" ".join(imports)} (memory (export "memory") {pages}) {allocator} {fields}
    (func (export "handle") (param $request i32) (param $out i32)
      (local $response i32) (local $body i32) (local $to i32) (local $from i32)
      (local $i i32) (local $j i32)
      {code}))
  (core module $shim {" ".join(shim)} (table (export "$imports") {count} {count} funcref))
  (core module $fixups {" ".join(table)}
    (import "" "$imports" (table {count} {count} funcref))
    (elem (i32.const 0) func {" ".join(f"$f{number}" for number in range(count))}))
  (core instance $shim (instantiate $shim))
  (core instance $given {" ".join(given)})
  (core instance $main (instantiate $main (with "host" (instance $given))))
  (alias core export $main "memory" (core memory $memory))
  (alias core export $main "cabi_realloc" (core func $realloc))
  (alias core export $shim "$imports" (core table $table))
  {" ".join(lowered)}
  (core instance $filled (export "$imports" (table $table)) {" ".join(filled)})
  (core instance (instantiate $fixups (with "" (instance $filled))))
  (func $handle (param "request" u32) (param "response-out" u32)
    (canon lift (core func $main "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"""


def _interface(index: int, interface: str, used: Mapping[str, tuple[str, str, object]]) -> str:
    """Return the import of an interface. Its types are not those of WASI: they are skipped."""
    exports = []
    for owner, name, _ in used.values():
        if owner != interface:
            continue
        if name.startswith("[resource-drop]"):
            resource = name.removeprefix("[resource-drop]")
            exports.append(f'(export "{resource}" (type (sub resource)))')
        else:
            exports.append(f'(export "{name}" (func (param "x" u32)))')
    return f'(import "{interface}@0.2.0" (instance $i{index} {" ".join(exports)}))\n'
