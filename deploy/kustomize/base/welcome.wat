;; A handler in the text format of WebAssembly: it writes a response of CGI to stdout.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16)
    "Content-Type: text/plain; charset=utf-8\n\nwagi is running. Set the value `modules` to serve handlers of your own.\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 16))   ;; the text's address
    (i32.store (i32.const 4) (i32.const 113))  ;; and its length
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))
