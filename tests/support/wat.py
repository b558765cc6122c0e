"""Small modules in the text format, defined by the tests that use them."""

from __future__ import annotations

IMPORTS = """
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
"""
HELPERS = """
  (func $write (param $fd i32) (param $from i32) (param $length i32)
    (i32.store (i32.const 0) (local.get $from))
    (i32.store (i32.const 4) (local.get $length))
    (drop (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func $read (result i32)
    (i32.store (i32.const 0) (i32.const 4096))
    (i32.store (i32.const 4) (i32.const 32768))
    (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 12)))
    (i32.load (i32.const 12)))
  (func $sleep (param $milliseconds i64)
    (i64.store (i32.const 256) (i64.const 0))
    (i64.store (i32.const 264) (i64.const 0))
    (i64.store (i32.const 272) (i64.const 1))
    (i64.store (i32.const 280) (i64.mul (local.get $milliseconds) (i64.const 1000000)))
    (i64.store (i32.const 288) (i64.const 0))
    (i64.store (i32.const 296) (i64.const 0))
    (drop (call $poll_oneoff (i32.const 256) (i32.const 320) (i32.const 1) (i32.const 384))))
"""
TEXT_AT = 65536
SPIN = "(loop $l (br $l))"


def quoted(data: bytes) -> str:
    """Return bytes as a string of the text format."""
    return '"' + "".join(f"\\{byte:02x}" for byte in data) + '"'


class Program:
    """Builder for a command module: its output, pauses and end."""

    def __init__(self) -> None:
        self._text = b""
        self._code: list[str] = []

    def write(self, data: bytes | str, fd: int = 1) -> Program:
        """Write with a single call."""
        data = data.encode() if isinstance(data, str) else data
        at = TEXT_AT + len(self._text)
        self._text += data
        return self.code(f"(call $write (i32.const {fd}) (i32.const {at}) (i32.const {len(data)}))")

    def sleep(self, milliseconds: int) -> Program:
        """Sleep."""
        return self.code(f"(call $sleep (i64.const {milliseconds}))")

    def code(self, text: str) -> Program:
        """Add arbitrary code."""
        self._code.append(text)
        return self

    def forever(self) -> Program:
        """Repeat the previous steps in an endless loop."""
        self._code = [f"(loop $l {' '.join(self._code)} (br $l))"]
        return self

    def exit(self, status: int) -> Program:
        """Call proc_exit."""
        return self.code(f"(call $proc_exit (i32.const {status}))")

    def trap(self) -> Program:
        """Trap."""
        return self.code("(unreachable)")

    def wat(self, entrypoint: str = "_start") -> str:
        """Return the module in the text format."""
        pages = 2 + (len(self._text) >> 16)
        return f"""(module {IMPORTS}
          (memory (export "memory") {pages})
          (data (i32.const {TEXT_AT}) {quoted(self._text)}) {HELPERS}
          (func $main (export "{entrypoint}") (local $i i32) {" ".join(self._code)}))"""


def printing(data: bytes | str) -> str:
    """Return a module that prints and ends."""
    return Program().write(data).wat()


TEXT_HEAD = "Content-Type: text/plain\n\n"
HELLO = printing(TEXT_HEAD + "hello\n")
# Prints its argv, one argument per line.
ARGV = """(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $get (param i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 64) "Content-Type: text/plain\\n\\n")
  (func (export "_start") (local $at i32)
    (drop (call $sizes (i32.const 16) (i32.const 20)))
    (drop (call $get (i32.const 1024) (i32.const 65536)))
    (local.set $at (i32.const 65536))
    (loop $next
      (if (i32.eqz (i32.load8_u (local.get $at)))
        (then (i32.store8 (local.get $at) (i32.const 10))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at)
        (i32.add (i32.const 65536) (i32.load (i32.const 20))))))
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 26))
    (i32.store (i32.const 8) (i32.const 65536))
    (i32.store (i32.const 12) (i32.load (i32.const 20)))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 2) (i32.const 24)))))"""


def with_routes(listing: bytes, entrypoints: tuple[str, ...]) -> str:
    """Return a module with ``_routes`` whose entry points print their names."""
    functions, data, at = [], [], 1024
    for name in ("_start", *entrypoints):
        text = f"{TEXT_HEAD}{name}".encode()
        data.append(f"(data (i32.const {at}) {quoted(text)})")
        functions.append(
            f'(func (export "{name}") (call $print (i32.const {at}) (i32.const {len(text)})))'
        )
        at += 256
    return f"""(module {IMPORTS} (memory (export "memory") 1) {" ".join(data)}
      (data (i32.const 8192) {quoted(listing)})
      (func $print (param i32 i32)
        (i32.store (i32.const 0) (local.get 0)) (i32.store (i32.const 4) (local.get 1))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
      (func (export "_routes") (call $print (i32.const 8192) (i32.const {len(listing)})))
      {" ".join(functions)})"""


SLOW_START = """(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "Content-Type: text/plain\\0a\\0a?")
  (func (export "_start") (local $i i32)
    (loop $again (br_if $again (i32.lt_u (local.tee $i
      (i32.add (local.get $i) (i32.const 1))) (i32.const 30000000))))
    (i32.store (i32.const 0) (i32.const 90)) (i32.store (i32.const 4) (i32.const 1))
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 27))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"""
"""A command that works for a while before it reads stdin, and answers with one byte of it."""
