;; Prints the variables of the request, one per line.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get"
    (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get"
    (func $environ_get (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "Content-Type: text/plain\n\n")
  (func (export "_start")
    (local $block i32) (local $at i32) (local $end i32)
    (drop (call $environ_sizes_get (i32.const 16) (i32.const 20)))
    ;; The pointers to the variables are at 128, followed by the variables themselves.
    (local.set $block
      (i32.add (i32.const 128) (i32.mul (i32.const 4) (i32.load (i32.const 16)))))
    (local.set $end (i32.add (local.get $block) (i32.load (i32.const 20))))
    (drop (memory.grow (i32.shr_u (local.get $end) (i32.const 16))))
    (drop (call $environ_get (i32.const 128) (local.get $block)))
    ;; Every variable ends in a NUL byte: turn it into a line feed.
    (local.set $at (local.get $block))
    (loop $next
      (if (i32.eqz (i32.load8_u (local.get $at)))
        (then (i32.store8 (local.get $at) (i32.const 10))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $end))))
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 26))
    (i32.store (i32.const 8) (local.get $block))
    (i32.store (i32.const 12) (i32.load (i32.const 20)))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 2) (i32.const 24)))))
