;; park sleeps for ever: the smallest pod there is. It writes one line, then
;; waits on the monotonic clock, 2^63-1 nanoseconds (292 years) at a time.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1 1)
  ;; An iovec for the line at 16.
  (data (i32.const 0) "\10\00\00\00\07\00\00\00")
  (data (i32.const 16) "parked\n")
  ;; A subscription at 64: userdata, tag clock (0), clock monotonic (1),
  ;; timeout, precision, flags.
  (data (i32.const 80) "\01")
  (data (i32.const 88) "\ff\ff\ff\ff\ff\ff\ff\7f")
  (func $_start (export "_start")
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (loop $again
      (drop (call $poll_oneoff (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 12)))
      (br $again))))
