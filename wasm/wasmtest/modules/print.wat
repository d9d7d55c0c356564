;; print writes a line to each stream and returns.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\20\00\00\00\06\00\00\00\40\00\00\00\05\00\00\00")
  (data (i32.const 32) "hello\n")
  (data (i32.const 64) "oops\n")
  (func $_start (export "_start")
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 128)))
    (drop (call $fd_write (i32.const 2) (i32.const 8) (i32.const 1) (i32.const 128)))))
